package quorum

import (
	"iter"
	"slices"
)

// Without is the verdict on losing the servers of gone, when those of up are
// known to serve and those of unseen were not heard. A server that is in none of
// the sets is down; one in gone is gone, whatever else it is in.
//
// Safe means that a quorum remains however the unseen ones are, Unsafe that none
// does, Unknown that it depends on them. A system without voters is Unknown.
func (s System) Without(gone, up, unseen Set) Verdict {
	switch {
	case len(s.parts) == 0 || s.Voters() == 0:
		return Unknown
	case s.Quorum(up.Minus(gone)):
		return Safe
	case s.Quorum((up | unseen).Minus(gone)):
		return Unknown
	default:
		return Unsafe
	}
}

// Survives reports whether a quorum remains if, of all voters, those of gone are
// lost. It is the rule of placement: no domain may hold a set that is not survived.
func (s System) Survives(gone Set) bool {
	return s.Quorum(s.Voters().Minus(gone))
}

// Fatal yields the indexes of the domains whose loss alone takes the quorum away,
// when every other voter serves. For V voters of equal weight those are the
// domains with more than (V-1)/2 of them.
func (s System) Fatal(domains []Set) iter.Seq[int] {
	return func(yield func(int) bool) {
		for i, d := range domains {
			if !s.Survives(d) && !yield(i) {
				return
			}
		}
	}
}

// Spare is how many servers of up may be lost, whichever they are, with a quorum
// remaining: 0 if the next loss may be one too many, and -1 if up is no quorum.
func (s System) Spare(up Set) int {
	if !s.Quorum(up) {
		return -1
	}
	spare := MaxVoters
	for i := range s.parts {
		spare = min(spare, s.parts[i].spare(up))
	}
	return spare
}

// spare is exact: groups are disjoint, so that the cheapest way to break the
// quorum is to break the cheapest groups, each by its heaviest votes.
func (p *part) spare(up Set) int {
	up &= p.voters
	switch {
	case p.alone:
		return up.Len() - 1
	case len(p.groups) == 0:
		return up.Len() - p.voters.Len()/2 - 1
	}
	costs := make([]int, 0, MaxVoters)
	for i := range p.groups {
		if cost := p.groups[i].breaking(up); cost > 0 {
			costs = append(costs, cost)
		}
	}
	slices.Sort(costs)
	losses := 0
	for _, cost := range costs[:len(costs)-len(p.groups)/2] {
		losses += cost
	}
	return losses - 1
}

// breaking is how many votes of up must go, the heaviest first, until the group
// has no majority: 0 if it has none now.
func (g *group) breaking(up Set) int {
	var acked uint64
	for _, v := range g.votes {
		if v.voter&up != 0 {
			acked += v.weight
		}
	}
	lost := 0
	for _, v := range g.votes {
		if acked <= g.total/2 {
			break
		}
		if v.voter&up != 0 {
			acked -= v.weight
			lost++
		}
	}
	return lost
}

// Size is how many servers the smallest quorum has. Of a joint system it is the
// larger of the two, which a quorum of both may exceed.
func (s System) Size() int {
	size := 0
	for i := range s.parts {
		size = max(size, s.parts[i].size())
	}
	return size
}

func (p *part) size() int {
	switch {
	case p.alone:
		return 1
	case len(p.groups) == 0:
		return p.voters.Len()/2 + 1
	}
	costs := make([]int, 0, MaxVoters)
	for i := range p.groups {
		if cost := p.groups[i].winning(); cost > 0 {
			costs = append(costs, cost)
		}
	}
	slices.Sort(costs)
	need := len(p.groups)/2 + 1
	if need > len(costs) {
		return MaxVoters + 1 // observers hold so much weight that nobody can win
	}
	size := 0
	for _, cost := range costs[:need] {
		size += cost
	}
	return size
}

// winning is how few votes make a majority of the group: 0 if all don't.
func (g *group) winning() int {
	var acked uint64
	for i, v := range g.votes {
		if acked += v.weight; acked > g.total/2 {
			return i + 1
		}
	}
	return 0
}
