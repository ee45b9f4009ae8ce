package extender

import (
	"cmp"
	"slices"

	"github.com/quorate/quorate/ensemble/membership"
)

// spot is the nodes given that are in the same domains of all maximal levels.
type spot struct {
	domains []membership.Domain // by maximal level
	nodes   []string
	verdict verdict
	crowd   int // voters in the fullest of its domains
	chosen  bool
	inner   map[membership.Domain]*spot // its parts at one level more, while nodes are sorted
}

// better orders spots: the fewest voters first, then the most nodes. No two have the
// same domains.
func better(a, b *spot) int {
	if a.crowd != b.crowd {
		return cmp.Compare(a.crowd, b.crowd)
	}
	if len(a.nodes) != len(b.nodes) {
		return cmp.Compare(len(b.nodes), len(a.nodes))
	}
	return slices.Compare(a.domains, b.domains)
}

// within reports whether each of the spot's domains is in the set of its level.
func (s *spot) within(sets []map[membership.Domain]struct{}) bool {
	for i, d := range s.domains {
		if _, ok := sets[i][d]; !ok {
			return false
		}
	}
	return true
}

// sort groups the nodes given into spots and refuses those that lack a label.
func (q *question) sort(given []string) {
	everywhere := &spot{} // all spots there are, where no level is hard
	if q.byHost() {
		everywhere.inner = make(map[membership.Domain]*spot, len(given))
	}
	domains := make([]membership.Domain, len(q.o.top))
	for i, n := range given {
		labels, ok := q.nodes.Labels(n)
		if !ok {
			q.refuse(n, Unseen, unknownNode)
			continue
		}
		if missing := q.locate(labels, domains); missing != "" {
			q.refuse(n, Unlabelled, missing)
			continue
		}
		s := everywhere
		for k := range domains {
			s = q.inner(s, domains[:k+1])
		}
		if s.nodes == nil {
			s.nodes = given[i : i+1 : i+1] // most hosts have one
			continue
		}
		s.nodes = append(s.nodes, n)
	}
	if len(everywhere.nodes) > 0 {
		q.spots = append(q.spots, everywhere)
	}
}

// inner is the spot that is, of those in outer, in the last domain.
func (q *question) inner(outer *spot, domains []membership.Domain) *spot {
	d := domains[len(domains)-1]
	if s := outer.inner[d]; s != nil {
		return s
	}
	s := q.newSpot(domains)
	if outer.inner == nil {
		outer.inner = map[membership.Domain]*spot{}
	}
	outer.inner[d] = s
	if len(domains) == len(q.o.top) {
		q.spots = append(q.spots, s)
	}
	return s
}

func (q *question) newSpot(domains []membership.Domain) *spot {
	n := len(domains)
	if len(q.unused) == 0 {
		q.unused = make([]spot, 16)
	}
	if len(q.unnamed) < n {
		q.unnamed = make([]membership.Domain, 16*n)
	}
	s := &q.unused[0]
	s.domains = q.unnamed[:n:n]
	copy(s.domains, domains)
	q.unused, q.unnamed = q.unused[1:], q.unnamed[n:]
	return s
}

// byHost reports whether hosts are the coarsest level.
func (q *question) byHost() bool {
	return len(q.o.top) == 1 && q.e.Levels[q.o.top[0]].Key == hostLabel
}

// locate fills in the domains of a node with these labels at the maximal levels, or
// says what is missing at any hard one: a node whose domain is not known cannot be
// judged.
func (q *question) locate(labels map[string]string, domains []membership.Domain) (missing string) {
	top := 0
	for l, level := range q.e.Levels {
		switch {
		case top < len(domains) && q.o.top[top] == l:
			d, ok := level.Of(labels)
			if !ok {
				return unlabelled(level)
			}
			domains[top] = d
			top++
		case level.Hard && !level.On(labels):
			return unlabelled(level)
		}
	}
	return ""
}
