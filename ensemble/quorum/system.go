package quorum

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
)

// System says which sets of voters are quorums. Its zero value has no voters and
// no quorum. Systems are made by Majority, Hierarchical, Oracle and Joint, and
// never change afterwards.
type System struct {
	parts []part
}

// part is one configuration; a quorum is a quorum of each.
type part struct {
	voters Set
	// alone says that one voter is enough: an oracle said so.
	alone bool
	// oracle says that one voter may be enough: an oracle is asked.
	oracle bool
	// groups is empty where every vote is equal. Invariant: disjoint, and the
	// weight of each is above zero.
	groups []group
}

// group is the voters of one group of a hierarchical quorum.
type group struct {
	// total is the weight of all its servers, observers included: ZooKeeper counts
	// theirs although they never vote (QuorumHierarchical.computeGroupWeight).
	total uint64
	// votes are those that can be cast, the heaviest first, without zeros.
	votes []vote
}

type vote struct {
	voter  Set // of one
	weight uint64
}

// Majority is the system in which more than half of the voters are a quorum:
// ZooKeeper's QuorumMaj, etcd, KRaft, ClickHouse Keeper.
func Majority(voters Set) System {
	return System{parts: []part{{voters: voters}}}
}

// Oracle is the system of exactly two voters with an oracle (ZooKeeper's
// oraclePath): while it says goOn, one of them is enough. Pass false where its
// answer is not known: then both are needed, as without it.
func Oracle(voters Set, goOn bool) (System, error) {
	if voters.Len() != 2 {
		return System{}, fmt.Errorf("an oracle goes with 2 voters, not %d (ZooKeeper ignores it otherwise)", voters.Len())
	}
	return System{parts: []part{{voters: voters, alone: goOn, oracle: true}}}, nil
}

// Member is one server of a hierarchical system.
type Member struct {
	// Server is its number in a Set.
	Server int
	// Group it votes in. Either every voter names one or none does: one group then.
	Group string
	// Weight of its vote. ZooKeeper's default is 1; zero counts for nothing.
	Weight uint64
	// Observer members never vote, but their weight counts in their group's total.
	Observer bool
}

// maxWeight keeps the sum of 64 weights far from overflow.
const maxWeight = 1 << 32

// Hierarchical is ZooKeeper's QuorumHierarchical: a quorum is more than half of
// the weight in each of more than half of the groups. Groups without weight don't
// count. It refuses what ZooKeeper refuses (a voter without a group among grouped
// ones) and what cannot be told apart (a server twice).
func Hierarchical(members []Member) (System, error) {
	p := part{}
	byName := map[string]*group{}
	var names []string
	var seen Set
	grouped := slices.ContainsFunc(members, func(m Member) bool { return m.Group != "" })
	for _, m := range members {
		switch {
		case m.Server < 0 || m.Server >= MaxVoters:
			return System{}, fmt.Errorf("server %d: a server's number is 0 to %d", m.Server, MaxVoters-1)
		case seen.Has(m.Server):
			return System{}, fmt.Errorf("server %d is listed twice", m.Server)
		case m.Weight > maxWeight:
			return System{}, fmt.Errorf("server %d: weight %d is above %d", m.Server, m.Weight, uint64(maxWeight))
		case grouped && m.Group == "" && !m.Observer:
			return System{}, fmt.Errorf("server %d votes but is in no group, although others are", m.Server)
		}
		seen = seen.With(m.Server)
		if !m.Observer {
			p.voters = p.voters.With(m.Server)
		}
		if grouped && m.Group == "" {
			continue
		}
		g := byName[m.Group]
		if g == nil {
			g = &group{}
			byName[m.Group] = g
			names = append(names, m.Group)
		}
		g.total += m.Weight
		if !m.Observer && m.Weight > 0 {
			g.votes = append(g.votes, vote{SetOf(m.Server), m.Weight})
		}
	}
	if p.voters == 0 {
		return System{}, errors.New("no member votes")
	}
	for _, name := range names {
		g := byName[name]
		if g.total == 0 {
			continue
		}
		slices.SortStableFunc(g.votes, func(a, b vote) int { return cmp.Compare(b.weight, a.weight) })
		p.groups = append(p.groups, *g)
	}
	if len(p.groups) == 0 {
		return System{}, errors.New("every weight is zero: no set of servers is a quorum")
	}
	return System{parts: []part{p}}, nil
}

// Joint is the system during a reconfiguration: a quorum of every one of the
// given systems is needed (ZooKeeper: of the committed and the last proposed
// configuration, Leader.lead). Their servers are numbered alike.
func Joint(systems ...System) System {
	var j System
	for _, s := range systems {
		if len(s.parts) == 0 {
			return System{} // one that nothing is a quorum of makes the whole so
		}
		j.parts = append(j.parts, s.parts...)
	}
	return j
}

// Voters are all who vote in any configuration of the system.
func (s System) Voters() Set {
	var all Set
	for i := range s.parts {
		all |= s.parts[i].voters
	}
	return all
}

// Quorum reports whether the servers of up are a quorum.
func (s System) Quorum(up Set) bool {
	for i := range s.parts {
		if !s.parts[i].quorum(up) {
			return false
		}
	}
	return len(s.parts) > 0
}

// MayLead reports whether a leader may go on leading with nobody but the servers of up.
// It is Quorum, but for two voters with an oracle, whose word need not be known to have
// let one go on alone, and for a system without voters, of which nothing is known.
func (s System) MayLead(up Set) bool {
	for i := range s.parts {
		if p := &s.parts[i]; p.voters != 0 && !p.oracle && !p.quorum(up) {
			return false
		}
	}
	return true
}

func (p *part) quorum(up Set) bool {
	up &= p.voters
	switch {
	case p.alone:
		return up != 0
	case len(p.groups) == 0:
		return up.Len() > p.voters.Len()/2
	}
	won := 0
	for i := range p.groups {
		if p.groups[i].majority(up) {
			won++
		}
	}
	return won > len(p.groups)/2
}

func (g *group) majority(up Set) bool {
	var acked uint64
	for _, v := range g.votes {
		if v.voter&up != 0 {
			acked += v.weight
		}
	}
	return acked > g.total/2
}
