package extender

import (
	"maps"
	"slices"

	"github.com/quorate/quorate/ensemble/membership"
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
	refused    map[string][]string // nodes by reason, where it is not their spot's
	domains    map[int]int         // how many there are, by level, once asked for
}

// spot is the nodes given that are in the same domains of all maximal levels.
type spot struct {
	domains []membership.Domain // by maximal level
	nodes   []string
	verdict verdict
	crowd   int // voters in the fullest of its domains
}

// state of a domain for the candidate, the worse the lower.
type state uint8

const (
	shut    state = iota // unsafe by what is seen
	waiting              // unsafe by what siblings were promised alone
	open                 // safe
)

// verdict on a domain, or on a spot.
type verdict struct {
	state  state
	reason string
	// pinned: not safe, but a volume of the candidate binds it there already.
	pinned bool
	crowd  int
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
			q.refuseNode(n, unknownNode)
		}
	}
	if len(a.Nodes) == 0 && len(q.refused) > 0 {
		return q.unseen()
	}
	a.Refused = q.refusals(nil)
	for _, l := range maximal(q.nodes, q.e.Levels) {
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

func (q *question) refuseNode(node, reason string) {
	if q.refused == nil {
		q.refused = map[string][]string{}
	}
	q.refused[reason] = append(q.refused[reason], node)
}

// sort groups the nodes given into spots and refuses those that lack a label.
func (q *question) sort(given []string) {
	type step struct {
		from *spot
		d    membership.Domain
	}
	spots := map[step]*spot{} // by their domains, one after the other
	domains := make([]membership.Domain, len(q.o.top))
	for _, n := range given {
		if missing := q.locate(n, domains); missing != "" {
			q.refuseNode(n, missing)
			continue
		}
		var s *spot
		for i, d := range domains {
			next := spots[step{s, d}]
			if next == nil {
				next = &spot{domains: slices.Clone(domains[:i+1])}
				spots[step{s, d}] = next
				if i == len(domains)-1 {
					q.spots = append(q.spots, next)
				}
			}
			s = next
		}
		if s == nil { // no level is hard: all nodes are alike
			if len(q.spots) == 0 {
				q.spots = append(q.spots, &spot{})
			}
			s = q.spots[0]
		}
		s.nodes = append(s.nodes, n)
	}
}

// locate fills in the domains of the node at the maximal levels, or says what is
// missing at any hard one: a node whose domain is not known cannot be judged.
func (q *question) locate(node string, domains []membership.Domain) (missing string) {
	labels, ok := q.nodes.Labels(node)
	if !ok {
		return unknownNode
	}
	for _, l := range q.e.Levels {
		if l.Hard && !l.On(labels) {
			return unlabelled(l)
		}
	}
	for i, l := range q.o.top {
		domains[i], _ = q.e.Levels[l].Of(labels)
	}
	return ""
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
	s.nodes = slices.DeleteFunc(s.nodes, func(n string) bool {
		for l, level := range q.e.Levels {
			if !level.Hard || slices.Contains(q.o.top, l) {
				continue
			}
			d, _ := q.nodes.Domain(n, level)
			if v := q.domain(l, d, n); v.state < open {
				q.refuseNode(n, v.reason)
				return true
			}
		}
		return false
	})
	if len(s.nodes) == 0 {
		s.verdict.state = shut
	}
}

// domain judges one domain of a hard level, once.
func (q *question) domain(l int, d membership.Domain, node string) verdict {
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
	v := verdict{state: open}
	for _, j := range q.judgements {
		v.crowd = max(v.crowd, (may & j.Counts).Len())
		if j.Survives(may.With(q.c.Member)) {
			continue
		}
		if q.pinned(l, d) {
			v.pinned = true
			continue
		}
		if j.Survives(seen.With(q.c.Member)) {
			if v.state == open {
				v.state, v.reason = waiting, q.promised(j, l, d, seen, may)
			}
			continue
		}
		return verdict{state: shut, reason: q.fatal(j, l, d, seen), crowd: v.crowd}
	}
	return v
}

func (q *question) pinned(l int, d membership.Domain) bool {
	pinned := q.e.Members[q.c.Member].Pinned
	return l < len(pinned) && slices.Contains(pinned[l], d)
}
