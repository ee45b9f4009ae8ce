package extender

import (
	"maps"
	"slices"

	"github.com/quorate/quorate/ensemble/membership"
	"github.com/quorate/quorate/ensemble/quorum"
)

// question is one Filter in the making.
type question struct {
	nodes      Nodes
	e          *membership.Ensemble
	c          Candidate
	judgements []*membership.Judgement
	o          *occupancy
	verdicts   []map[membership.Domain]verdict
	spots      []*spot
	refused    map[string]*Refusal // by reason, where it is not their spot's
	hopeless   bool                // no node given is safe: whether any could be is worth telling
	whys       map[verdict]string  // reasons, once asked for
	unused     []spot              // made some at a time, for there may be hundreds
	unnamed    []membership.Domain // room for the domains of those
}

// state of a domain for the candidate, the worse the lower.
type state uint8

const (
	shut    state = iota // unsafe by what is seen
	waiting              // unsafe by what siblings were promised alone
	open                 // safe
)

// verdict on a domain, or on a spot: that on the worst of its domains.
type verdict struct {
	state state
	// pinned: not safe, but a volume of the candidate binds it there already.
	pinned bool
	crowd  int
	// of is the judgement that a domain which isn't open does not pass; seen and may
	// are who is in it.
	of        *membership.Judgement
	level     int
	domain    membership.Domain
	seen, may quorum.Set
}

// cause of refusing a domain with this verdict.
func (v verdict) cause() Cause {
	if v.state == waiting {
		return Promised
	}
	return Fatal
}

// free admits every node that is known: the pod counts nowhere. It may land on any
// of them after it has come to count: when one voter became three, or an observer
// votes.
func (q *question) free(given []string) Answer {
	a := Answer{Outcome: Free, Place: Place{}}
	for _, n := range given {
		if _, ok := q.nodes.Labels(n); ok {
			a.Nodes = append(a.Nodes, n)
		} else {
			q.refuse(n, Unseen, unknownNode)
		}
	}
	if len(a.Nodes) == 0 && len(q.refused) > 0 {
		return q.unseen()
	}
	a.Refused = q.refusals(nil)
	for _, l := range maximal(q.nodes, q.e.Levels, make([]quorum.Set, len(q.e.Levels))) {
		a.Place = append(a.Place, q.extent(q.e.Levels[l], a.Nodes))
	}
	return a
}

// extent is the domains of the nodes at the level.
func (q *question) extent(l membership.Level, nodes []string) Extent {
	in := map[membership.Domain]bool{}
	for _, n := range nodes {
		if d, ok := q.nodes.Domain(n, l); ok {
			in[d] = true
		}
	}
	return Extent{Level: l, Domains: slices.Sorted(maps.Keys(in))}
}

func (q *question) refuse(node string, cause Cause, reason string) {
	if q.refused == nil {
		q.refused = map[string]*Refusal{}
	}
	r := q.refused[reason]
	if r == nil {
		r = &Refusal{Cause: cause, Reason: reason}
		q.refused[reason] = r
	}
	r.Nodes = append(r.Nodes, node)
}

// judge gives every spot its verdict: the worst of its domains'.
func (q *question) judge() {
	for _, s := range q.spots {
		s.verdict = verdict{state: open}
		for i, l := range q.o.top {
			v := q.domain(l, s.domains[i], s.nodes[0])
			s.crowd = max(s.crowd, v.crowd)
			pinned := s.verdict.pinned || v.pinned
			if v.state < s.verdict.state {
				s.verdict = v
			}
			s.verdict.pinned = pinned
		}
		if s.verdict.state == open && s.verdict.pinned {
			q.within(s)
		}
	}
}

// within judges the levels inside a domain that is not safe, but that the candidate
// cannot leave: there what is inside does not follow from what is around it.
func (q *question) within(s *spot) {
	best := verdict{state: shut} // of the nodes that are refused
	s.nodes = slices.DeleteFunc(slices.Clone(s.nodes), func(n string) bool {
		v := q.inside(n)
		if v.state == open {
			return false
		}
		q.refuse(n, v.cause(), q.why(v))
		if v.state > best.state {
			best = v
		}
		return true
	})
	if len(s.nodes) == 0 { // each of its nodes was refused for a reason of its own
		s.verdict = best
	}
}

// inside is the verdict on the levels inside others at the node: the worst.
func (q *question) inside(node string) verdict {
	worst := verdict{state: open}
	for l, level := range q.e.Levels {
		if !level.Hard || slices.Contains(q.o.top, l) {
			continue
		}
		d, _ := q.nodes.Domain(node, level)
		if v := q.domain(l, d, node); v.state < worst.state {
			worst = v
		}
	}
	return worst
}

// domain judges one domain of a hard level, once.
func (q *question) domain(l int, d membership.Domain, node string) verdict {
	if len(q.o.top) == 1 && l == q.o.top[0] {
		return q.weigh(l, d, node) // no two spots share it
	}
	if v, known := q.verdicts[l][d]; known {
		return v
	}
	v := q.weigh(l, d, node)
	if q.verdicts[l] == nil {
		q.verdicts[l] = map[membership.Domain]verdict{}
	}
	q.verdicts[l][d] = v
	return v
}

func (q *question) weigh(l int, d membership.Domain, node string) verdict {
	seen, may := q.o.at(l, d, node)
	v := verdict{state: open, level: l, domain: d, seen: seen, may: may}
	for _, j := range q.judgements {
		v.crowd = max(v.crowd, voters(j, may))
		if j.Survives(may.With(q.c.Member)) {
			continue
		}
		if q.pinned(l, d) {
			v.pinned = true
			continue
		}
		if !j.Survives(seen.With(q.c.Member)) {
			v.state, v.of = shut, j
			return v
		}
		if v.state == open {
			v.state, v.of = waiting, j
		}
	}
	return v
}

func (q *question) pinned(l int, d membership.Domain) bool {
	pinned := q.e.Members[q.c.Member].Pinned
	return l < len(pinned) && slices.Contains(pinned[l], d)
}
