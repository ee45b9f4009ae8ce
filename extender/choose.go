package extender

import (
	"cmp"
	"maps"
	"slices"

	"github.com/quorate/quorate/ensemble/membership"
)

// answer turns the verdicts into one answer.
func (q *question) answer(given []string) Answer {
	var usable []*spot
	held := false
	for _, s := range q.spots {
		switch s.verdict.state {
		case open:
			usable = append(usable, s)
		case waiting:
			held = true
		case shut:
		}
	}
	switch {
	case len(usable) > 0:
		return q.choose(given, usable)
	case held:
		return Answer{Outcome: Held, Message: q.heldMessage()}
	case q.c.Sampled && q.openElsewhere():
		return Answer{Outcome: Outside, Message: q.outsideMessage(len(given))}
	case len(q.refused[unknownNode]) > 0:
		return q.unseen()
	}
	return Answer{Outcome: Impossible, Refused: q.refusals(nil)}
}

// unseen answers where only nodes that are not known yet may be safe. The scheduler
// heard of them first: to call that impossible would have it wait for an event that
// it has had.
func (q *question) unseen() Answer {
	return Answer{Outcome: Unknown, Message: q.unseenMessage()}
}

// choose takes what the candidate holds, or else the best of what is usable.
func (q *question) choose(given []string, usable []*spot) Answer {
	mine := slices.DeleteFunc(slices.Clone(usable), func(s *spot) bool { return !q.holds(s) })
	if len(mine) == 0 && q.c.Stay {
		return Answer{Outcome: Yielding, Message: q.yieldMessage()}
	}
	from := mine
	if len(from) == 0 {
		from = usable
	}
	slices.SortStableFunc(from, func(a, b *spot) int {
		return cmp.Or(cmp.Compare(a.crowd, b.crowd), cmp.Compare(len(b.nodes), len(a.nodes)),
			slices.Compare(a.domains, b.domains))
	})
	return q.place(given, from[:min(len(from), q.share(len(usable)))])
}

// holds reports whether the spot is in what the candidate holds.
func (q *question) holds(s *spot) bool {
	if q.c.Holds == nil {
		return false
	}
	for i, l := range q.o.top {
		x, ok := q.c.Holds.at(q.e.Levels[l])
		if !ok || !slices.Contains(x.Domains, s.domains[i]) {
			return false
		}
	}
	return true
}

// share is how many spots the candidate may hold: one, or, where hosts are the
// coarsest level, as many as leave every unbound sibling as many.
func (q *question) share(usable int) int {
	if len(q.o.top) != 1 || q.e.Levels[q.o.top[0]].Key != hostLabel {
		return 1
	}
	siblings := 0
	for i := range q.e.Members {
		if i != q.c.Member && q.needsHost(i) {
			siblings++
		}
	}
	return (usable + siblings) / (siblings + 1)
}

// needsHost reports whether the sibling is yet to be placed.
func (q *question) needsHost(i int) bool {
	m := &q.e.Members[i]
	if m.UID == "" || m.Bound() || m.Gated || m.Terminating || m.Observer || len(q.o.places[i]) > 0 {
		return false
	}
	return slices.ContainsFunc(q.judgements, func(j *membership.Judgement) bool { return j.Counts.Has(i) })
}

// place answers the chosen spots.
func (q *question) place(given []string, chosen []*spot) Answer {
	a := Answer{Outcome: Placed, Place: Place{}}
	for i, l := range q.o.top {
		x := Extent{Level: q.e.Levels[l]}
		for _, s := range chosen {
			if !slices.Contains(x.Domains, s.domains[i]) {
				x.Domains = append(x.Domains, s.domains[i])
			}
		}
		a.Place = append(a.Place, x)
	}
	a.Nodes = q.inOrder(given, chosen)
	a.Refused = q.refusals(chosen)
	return a
}

func (q *question) inOrder(given []string, chosen []*spot) []string {
	if len(chosen) == 1 {
		return chosen[0].nodes
	}
	in := map[string]bool{}
	for _, s := range chosen {
		for _, n := range s.nodes {
			in[n] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(given), func(n string) bool { return !in[n] })
}

// refusals say of every node that is not in the chosen spots why.
func (q *question) refusals(chosen []*spot) []Refusal {
	list := make([]Refusal, 0, len(q.spots)+len(q.refused))
	taken := make(map[*spot]bool, len(chosen))
	for _, s := range chosen {
		taken[s] = true
	}
	preferred := ""
	for _, s := range q.spots {
		if taken[s] || len(s.nodes) == 0 {
			continue
		}
		reason := s.verdict.reason
		if s.verdict.state == open {
			if preferred == "" {
				preferred = q.elsewhere(chosen)
			}
			reason = preferred
		}
		list = append(list, Refusal{reason, s.nodes})
	}
	for _, reason := range slices.Sorted(maps.Keys(q.refused)) {
		list = append(list, Refusal{reason, q.refused[reason]})
	}
	return list
}

// openElsewhere reports whether some domain of a maximal level that none of the
// nodes given is in would be safe.
func (q *question) openElsewhere() bool {
	for i, l := range q.o.top {
		if len(q.openOutside(i, l)) > 0 {
			return true
		}
	}
	return false
}

func (q *question) openOutside(i, l int) []membership.Domain {
	var found []membership.Domain
	for d := range q.nodes.Domains(q.e.Levels[l]) {
		if slices.ContainsFunc(q.spots, func(s *spot) bool { return s.domains[i] == d }) {
			continue
		}
		if q.weigh(l, d, "").state == open {
			found = append(found, d)
		}
	}
	slices.Sort(found)
	return found
}
