package quorum

import (
	"slices"
	"strings"
	"testing"
)

// The cap on one domain is floor((V-1)/2), the number that placement rests on.
func TestMajorityCap(t *testing.T) {
	for voters := 1; voters <= 9; voters++ {
		s := Majority(First(voters))
		for held := 0; held <= voters; held++ {
			if got, want := s.Survives(First(held)), held <= (voters-1)/2; got != want {
				t.Errorf("%d voters, %d in the domain: Survives = %v, want %v", voters, held, got, want)
			}
		}
	}
}

func TestZeroValuesDeny(t *testing.T) {
	var s System
	all := First(MaxVoters)
	if s.Quorum(all) || s.Survives(0) || s.Spare(all) != -1 || s.Without(0, all, 0) != Unknown {
		t.Error("a system that nobody made has a quorum")
	}
	if Majority(0).Quorum(all) || Majority(0).Without(0, all, 0) != Unknown {
		t.Error("a system without voters has a quorum")
	}
	if Joint(Majority(First(3)), System{}).Quorum(all) {
		t.Error("a joint system with an unknown half has a quorum")
	}
	if Verdict(0) != Unknown || Verdict(0).String() != "Unknown" {
		t.Error("the zero verdict is not Unknown")
	}
}

// Three groups of three: losing a whole group is survived, losing two servers in
// each of two groups is not, although it is fewer in each: no count could say it.
func TestGroupsAreNotCounts(t *testing.T) {
	var members []Member
	for i := range 9 {
		members = append(members, Member{Server: i, Group: string(rune('a' + i/3)), Weight: 1})
	}
	s, err := Hierarchical(members)
	if err != nil {
		t.Fatal(err)
	}
	if !s.Survives(SetOf(0, 1, 2)) {
		t.Error("losing one group of three is fatal")
	}
	if s.Survives(SetOf(0, 1, 3, 4)) {
		t.Error("losing the majority of two groups is survived")
	}
	if got := s.Spare(First(9)); got != 3 {
		t.Errorf("Spare = %d, want 3: four losses can break two groups", got)
	}
}

// QuorumHierarchical adds an observer's weight to its group, where it can never
// be acknowledged.
func TestObserverWeightCounts(t *testing.T) {
	s, err := Hierarchical([]Member{
		{Server: 0, Group: "g", Weight: 1}, {Server: 1, Group: "g", Weight: 1}, {Server: 2, Group: "g", Weight: 2, Observer: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	if s.Quorum(First(3)) {
		t.Error("2 of a weight of 4 is a majority")
	}
	if s.Size() <= MaxVoters {
		t.Errorf("Size = %d although no set is a quorum", s.Size())
	}
}

func TestOracle(t *testing.T) {
	if _, err := Oracle(First(3), true); err == nil {
		t.Error("an oracle with three voters is taken")
	}
	with, _ := Oracle(First(2), true)
	unheard, _ := Oracle(First(2), false)
	if !with.Survives(SetOf(0)) || with.Survives(First(2)) {
		t.Error("with an oracle, exactly one of two voters may be lost")
	}
	if unheard.Survives(SetOf(0)) {
		t.Error("an oracle that was not heard lets one voter go on")
	}
}

// Who leads has a quorum, unless an oracle is enough, or who votes is not known.
func TestMayLead(t *testing.T) {
	oracle, _ := Oracle(First(2), false)
	for name, c := range map[string]struct {
		system System
		up     Set
		want   bool
	}{
		"a majority":             {Majority(First(3)), First(2), true},
		"less":                   {Majority(First(3)), First(1), false},
		"one of two":             {Majority(First(2)), First(1), false},
		"one of two, oracle":     {oracle, First(1), true},
		"of one half of a joint": {Joint(oracle, Majority(First(3))), First(1), false},
		"of both":                {Joint(oracle, Majority(First(3))), First(2), true},
		"nobody made it":         {System{}, First(1), true},
		"no voters":              {Majority(0), First(1), true},
	} {
		if got := c.system.MayLead(c.up); got != c.want {
			t.Errorf("%s: MayLead = %t, want %t", name, got, c.want)
		}
	}
}

func TestHierarchicalRefuses(t *testing.T) {
	for want, members := range map[string][]Member{
		"in no group":      {{Server: 0, Group: "g", Weight: 1}, {Server: 1, Weight: 1}},
		"listed twice":     {{Server: 0, Weight: 1}, {Server: 0, Weight: 1}},
		"0 to 63":          {{Server: 64, Weight: 1}},
		"every weight":     {{Server: 0}},
		"no member votes":  {{Server: 0, Weight: 1, Observer: true}},
		"above 4294967296": {{Server: 0, Weight: 1 << 33}},
	} {
		if _, err := Hierarchical(members); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Hierarchical(%+v): error %v, want one that says %q", members, err, want)
		}
	}
}

func TestSet(t *testing.T) {
	s := SetOf(0, 3, 63)
	if got := slices.Collect(s.Servers()); !slices.Equal(got, []int{0, 3, 63}) {
		t.Errorf("Servers = %v", got)
	}
	if s.Len() != 3 || !s.Has(63) || s.Has(1) || s.Has(-1) || s.Has(64) || s.Minus(SetOf(3)) != SetOf(0, 63) {
		t.Errorf("%b is not the set of 0, 3 and 63", s)
	}
	if First(0) != 0 || First(64).Len() != 64 || First(5) != 31 {
		t.Error("First is off")
	}
	for name, f := range map[string]func(){"64": func() { SetOf(64) }, "-1": func() { SetOf(-1) }, "65": func() { First(65) }} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic on a number that is no server's", name)
				}
			}()
			f()
		}()
	}
}

func TestNoAllocations(t *testing.T) {
	h, err := Hierarchical([]Member{{Server: 0, Group: "a", Weight: 1}, {Server: 1, Group: "b", Weight: 2}, {Server: 2, Group: "c", Weight: 1}})
	if err != nil {
		t.Fatal(err)
	}
	domains := []Set{SetOf(0), SetOf(0, 1)}
	for _, s := range []System{Majority(First(7)), h, Joint(h, Majority(First(3)))} {
		if n := testing.AllocsPerRun(100, func() {
			s.Without(1, 7, 0)
			s.Spare(7)
			s.Size()
			for d := range s.Fatal(domains) {
				_ = d
			}
		}); n != 0 {
			t.Errorf("%+v: %v allocations, want none", s, n)
		}
	}
}
