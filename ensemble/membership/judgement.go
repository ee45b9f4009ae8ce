package membership

import (
	"fmt"

	"github.com/quorate/quorate/ensemble/quorum"
)

// Names of the judgements.
const (
	// Live is the configuration that the members run by.
	Live = "live"
	// Declared is the target that the user stated.
	Declared = "declared"
)

// Judgement is one configuration that a placement is judged by: the live one, or
// the declared target.
type Judgement struct {
	// Name is "live" or "declared".
	Name string
	// Voters is how many there are, for messages.
	Voters int
	// Counts are the members that vote in it.
	Counts quorum.Set
	// System is over the members' numbers; voters of the configuration that are no
	// member yet have numbers above them.
	System quorum.System

	// worlds are all systems that may be in force where more members count than
	// there are voters and their weights differ. Nil otherwise.
	worlds []quorum.System
	// voices are all who vote or may, members or not yet.
	voices []voice
	// even is whether every vote is one vote.
	even bool
}

// Survives reports whether a quorum of the configuration remains when the members
// of gone are lost. Where more members count than it has voters (a scale-down in
// progress), each of gone may be one of the voters, and is taken for one.
func (j *Judgement) Survives(gone quorum.Set) bool {
	gone &= j.Counts
	switch {
	case j.worlds == nil && j.Counts.Len() <= j.Voters:
		return j.System.Survives(gone)
	case j.worlds == nil:
		return j.Voters > 0 && gone.Len() <= (j.Voters-1)/2
	}
	for _, w := range j.worlds {
		if !w.Survives(gone) {
			return false
		}
	}
	return true
}

// Enforced reports whether placement is judged by it: two voters or fewer survive
// no loss, wherever they are, so that nothing is refused for them.
func (j *Judgement) Enforced() bool { return j.Voters > 2 }

// maxWorlds bounds the work for weighted ensembles that shrink; beyond it nothing
// is survived.
const maxWorlds = 512

// electorate is the raw form of a judgement: who may vote, with what weight.
type electorate struct {
	name   string
	voters int
	// voices are the members that count, then the voters that are no member yet.
	voices []voice
	// mute are the observers that hold weight: ZooKeeper counts theirs.
	mute   []voice
	oracle bool
}

// voice is one voter, of the given number.
type voice struct {
	number int
	member bool
	name   string
	weight uint64
	group  string
}

// judgement makes the system of the electorate. The error says what is wrong with
// what the user stated.
func (e *electorate) judgement() (Judgement, error) {
	j := Judgement{Name: e.name, Voters: e.voters, voices: e.voices, even: e.equal() && !e.oracle}
	for _, v := range e.voices {
		if v.number >= quorum.MaxVoters {
			return Judgement{}, fmt.Errorf("the ensemble has more than %d members and absent voters", quorum.MaxVoters)
		}
		if v.member {
			j.Counts = j.Counts.With(v.number)
		}
	}
	if len(e.voices) <= e.voters {
		system, err := e.system(e.voices)
		j.System = system
		return j, err
	}
	return e.shrinking(j)
}

// shrinking is the judgement where more count than there are voters.
func (e *electorate) shrinking(j Judgement) (Judgement, error) {
	var err error
	if j.System, err = e.system(e.voices[:e.voters]); err != nil || e.equal() {
		return j, err
	}
	for chosen := range choices(len(e.voices), e.voters) {
		if len(j.worlds) == maxWorlds {
			j.worlds = []quorum.System{{}}
			break
		}
		world := make([]voice, 0, e.voters)
		for i := range chosen.Servers() {
			world = append(world, e.voices[i])
		}
		system, err := e.system(world)
		if err != nil {
			system = quorum.System{}
		}
		j.worlds = append(j.worlds, system)
	}
	return j, nil
}

// choices yields every set of k out of n.
func choices(n, k int) func(yield func(quorum.Set) bool) {
	return func(yield func(quorum.Set) bool) {
		var pick func(from, left int, s quorum.Set) bool
		pick = func(from, left int, s quorum.Set) bool {
			if left == 0 {
				return yield(s)
			}
			for i := from; i <= n-left; i++ {
				if !pick(i+1, left-1, s.With(i)) {
					return false
				}
			}
			return true
		}
		pick(0, k, 0)
	}
}

// equal reports whether every vote is one vote.
func (e *electorate) equal() bool {
	for _, v := range e.voices {
		if v.weight != 1 || v.group != "" {
			return false
		}
	}
	for _, v := range e.mute {
		if v.group != "" {
			return false
		}
	}
	return true
}

func (e *electorate) system(voices []voice) (quorum.System, error) {
	var all quorum.Set
	for _, v := range voices {
		all = all.With(v.number)
	}
	switch {
	case e.oracle && all.Len() == 2:
		return quorum.Oracle(all, true)
	case e.equal():
		return quorum.Majority(all), nil
	}
	members := make([]quorum.Member, 0, len(voices)+len(e.mute))
	for _, v := range voices {
		members = append(members, quorum.Member{Server: v.number, Group: v.group, Weight: v.weight})
	}
	for _, v := range e.mute {
		if v.number < quorum.MaxVoters {
			members = append(members, quorum.Member{Server: v.number, Group: v.group, Weight: v.weight, Observer: true})
		}
	}
	for _, v := range voices {
		if v.group == "" && e.grouped() {
			return quorum.System{}, fmt.Errorf("spec.quorum.members: %s names no group, although others do; name it there", v.name)
		}
	}
	return quorum.Hierarchical(members)
}

func (e *electorate) grouped() bool {
	for _, v := range e.voices {
		if v.group != "" {
			return true
		}
	}
	return false
}
