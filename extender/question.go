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
	refused    map[string]string
	domains    map[int]int // how many there are, by level, once asked for
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
	a := Answer{Outcome: Free, Refused: map[string]string{}, Place: Place{}}
	for _, n := range given {
		if q.nodes.HasNode(n) {
			a.Nodes = append(a.Nodes, n)
		} else {
			a.Refused[n] = unknownNode
		}
	}
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

// sort groups the nodes given into spots and refuses those that lack a label.
func (q *question) sort(given []string) {
	type step struct {
		from int
		d    membership.Domain
	}
	steps := map[step]int{} // spots, found by their domains one after the other
	q.refused = map[string]string{}
	at := map[int]*spot{}
	domains := make([]membership.Domain, len(q.e.Levels))
	for _, n := range given {
		if missing := q.locate(n, domains); missing != "" {
			q.refused[n] = missing
			continue
		}
		id := -1
		for _, l := range q.o.top {
			next, ok := steps[step{id, domains[l]}]
			if !ok {
				next = len(steps)
				steps[step{id, domains[l]}] = next
			}
			id = next
		}
		s := at[id]
		if s == nil {
			s = &spot{}
			for _, l := range q.o.top {
				s.domains = append(s.domains, domains[l])
			}
			at[id] = s
			q.spots = append(q.spots, s)
		}
		s.nodes = append(s.nodes, n)
	}
}

// locate fills in the domains of the node at every hard level, or says what is
// missing: a node whose domain is not known cannot be judged.
func (q *question) locate(node string, domains []membership.Domain) (missing string) {
	for i, l := range q.e.Levels {
		if !l.Hard {
			continue
		}
		d, ok := q.nodes.Domain(node, l)
		if !ok && !q.nodes.HasNode(node) {
			return unknownNode
		}
		if !ok {
			return unlabelled(l)
		}
		domains[i] = d
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
				q.refused[n] = v.reason
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
