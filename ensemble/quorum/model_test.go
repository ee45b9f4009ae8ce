package quorum

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// model is the slow twin: ZooKeeper's own maps and loops, and every question
// answered by trying every world. Nothing in it is shared with the package.
type model struct {
	members []Member
	maj     bool // QuorumMaj, else QuorumHierarchical
	alone   bool // an oracle says go on
}

func (m model) voters() []int {
	var v []int
	for _, s := range m.members {
		if !s.Observer {
			v = append(v, s.Server)
		}
	}
	return v
}

// containsQuorum follows QuorumMaj.java, QuorumHierarchical.java and QuorumOracleMaj.java.
func (m model) containsQuorum(up map[int]bool) bool {
	acked := 0
	for _, v := range m.voters() {
		if up[v] {
			acked++
		}
	}
	if m.alone {
		return acked > 0
	}
	if m.maj {
		return acked > len(m.voters())/2
	}
	groupWeight, ackedWeight := map[string]uint64{}, map[string]uint64{}
	for _, s := range m.members {
		groupWeight[s.Group] += s.Weight
		if up[s.Server] && !s.Observer {
			ackedWeight[s.Group] += s.Weight
		}
	}
	groups, won := 0, 0
	for g, w := range groupWeight {
		if w == 0 {
			continue
		}
		groups++
		if ackedWeight[g] > w/2 {
			won++
		}
	}
	return won > groups/2
}

// joint is a quorum of every configuration.
type joint []model

func (j joint) containsQuorum(up map[int]bool) bool {
	for _, m := range j {
		if !m.containsQuorum(up) {
			return false
		}
	}
	return true
}

func worldOf(s Set) map[int]bool {
	w := map[int]bool{}
	for i := range s.Servers() {
		w[i] = true
	}
	return w
}

// without tries both states of each unseen server.
func (j joint) without(gone, up, unseen Set) Verdict {
	open := slices.Collect(unseen.Servers())
	some, all := false, true
	for world := range 1 << len(open) {
		w := worldOf(up)
		for bit, server := range open {
			if world>>bit&1 == 1 {
				w[server] = true
			}
		}
		for server := range gone.Servers() {
			delete(w, server)
		}
		q := j.containsQuorum(w)
		some, all = some || q, all && q
	}
	switch {
	case all:
		return Safe
	case some:
		return Unknown
	}
	return Unsafe
}

// spare takes every subset of up away.
func (j joint) spare(up Set) int {
	servers := slices.Collect(up.Servers())
	broken := len(servers) + 1
	for world := range 1 << len(servers) {
		w, lost := worldOf(up), 0
		for bit, server := range servers {
			if world>>bit&1 == 1 {
				delete(w, server)
				lost++
			}
		}
		if !j.containsQuorum(w) {
			broken = min(broken, lost)
		}
	}
	return broken - 1
}

func randomModel(r *rand.Rand, n int) (System, model) {
	m := model{}
	var voters Set
	kind := r.IntN(4)
	for i := range n {
		s := Member{Server: i, Weight: 1, Observer: i > 0 && r.IntN(5) == 0}
		if kind == 1 {
			s.Weight = uint64(r.IntN(4))
		}
		if kind == 2 {
			s.Group, s.Weight = fmt.Sprint("g", r.IntN(4)), uint64(r.IntN(3))
		}
		if !s.Observer {
			voters = voters.With(i)
		}
		m.members = append(m.members, s)
	}
	if kind == 3 && voters.Len() == 2 {
		m.alone = r.IntN(2) == 0
		s, err := Oracle(voters, m.alone)
		m.maj = true
		if err != nil {
			panic(err)
		}
		return s, m
	}
	if kind == 1 || kind == 2 {
		if s, err := Hierarchical(m.members); err == nil {
			return s, m
		}
	}
	m.maj = true
	return Majority(voters), m
}

func subset(r *rand.Rand, n int) Set { return Set(r.Uint64()) & First(n) }

// Every answer agrees with the model's, which tries every world.
func TestAgreesWithEveryWorld(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for run := range 20000 {
		n := 1 + r.IntN(9)
		sys, m := randomModel(r, n)
		j := joint{m}
		if r.IntN(3) == 0 {
			next, nm := randomModel(r, n)
			sys, j = Joint(sys, next), append(j, nm)
		}
		gone, up := subset(r, n), subset(r, n)
		unseen := subset(r, n).Minus(up)
		if got, want := sys.Without(gone, up, unseen), j.without(gone, up, unseen); got != want {
			t.Fatalf("run %d: %+v: Without(%b, %b, %b) = %v, every world says %v", run, j, gone, up, unseen, got, want)
		}
		if got, want := sys.Spare(up), j.spare(up); got != want {
			t.Fatalf("run %d: %+v: Spare(%b) = %d, every world says %d", run, j, up, got, want)
		}
		domains := []Set{gone, up, unseen, First(n)}
		var want []int
		for i, d := range domains {
			if !j.containsQuorum(worldOf(sys.Voters().Minus(d))) {
				want = append(want, i)
			}
		}
		if got := slices.Collect(sys.Fatal(domains)); !slices.Equal(got, want) {
			t.Fatalf("run %d: %+v: Fatal(%b) = %v, want %v", run, j, domains, got, want)
		}
		if len(j) == 1 {
			if got, want := sys.Size(), smallest(j, n); got != want {
				t.Fatalf("run %d: %+v: Size() = %d, every world says %d", run, j, got, want)
			}
		}
	}
}

func smallest(j joint, n int) int {
	size := MaxVoters + 1
	for world := range Set(1) << n {
		if j.containsQuorum(worldOf(world)) {
			size = min(size, world.Len())
		}
	}
	return size
}

// A verdict never gets better by hearing less, or by losing more.
func TestMonotone(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 20000 {
		n := 1 + r.IntN(9)
		sys, _ := randomModel(r, n)
		gone, up := subset(r, n), subset(r, n)
		unseen := subset(r, n).Minus(up)
		if sys.Without(gone, up, unseen) != Safe {
			less := up & subset(r, n)
			if got := sys.Without(gone|subset(r, n), less, unseen|up.Minus(less)); got == Safe {
				t.Fatalf("%+v: Without(%b, %b, %b) was not Safe, and became so with less", sys, gone, up, unseen)
			}
		}
	}
}
