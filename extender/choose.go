package extender

import (
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
	case q.refused[unknownNode] != nil:
		return q.unseen()
	}
	q.hopeless = true
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
	from := q.mine(usable)
	if len(from) == 0 && q.c.Stay {
		return Answer{Outcome: Yielding, Message: q.yieldMessage()}
	}
	if len(from) == 0 {
		from = usable
	}
	n := min(len(from), q.share(len(usable)))
	if n < len(from) {
		slices.SortFunc(from, better)
	}
	return q.place(given, from[:n])
}

// mine are the spots that are in what the candidate holds.
func (q *question) mine(usable []*spot) []*spot {
	if q.c.Holds == nil {
		return nil
	}
	held := make([]map[membership.Domain]struct{}, len(q.o.top))
	for i, l := range q.o.top {
		x, _ := q.c.Holds.at(q.e.Levels[l])
		held[i] = x.set()
	}
	return slices.DeleteFunc(slices.Clone(usable), func(s *spot) bool { return !s.within(held) })
}

// share is how many spots the candidate may hold: one, or, where hosts are the
// coarsest level, as many as leave every unbound sibling as many.
func (q *question) share(usable int) int {
	if !q.byHost() {
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
	if m.UID == "" || m.Bound() || m.Gated || m.Terminating || len(q.o.places[i]) > 0 {
		return false
	}
	return slices.ContainsFunc(q.judgements, func(j *membership.Judgement) bool { return j.Counts.Has(i) })
}

// place answers the chosen spots. There are several of them at one level alone, and
// no two have the same domain there.
func (q *question) place(given []string, chosen []*spot) Answer {
	a := Answer{Outcome: Placed, Place: make(Place, len(q.o.top))}
	for i, l := range q.o.top {
		x := Extent{Level: q.e.Levels[l], Domains: make([]membership.Domain, len(chosen))}
		for k, s := range chosen {
			x.Domains[k] = s.domains[i]
		}
		a.Place[i] = x
	}
	for _, s := range chosen {
		s.chosen = true
	}
	a.Nodes = q.inOrder(given, chosen)
	a.Refused = q.refusals(chosen)
	return a
}

// inOrder is the nodes of the chosen spots, in the order given, which is that of the
// spots where each has one node.
func (q *question) inOrder(given []string, chosen []*spot) []string {
	if len(chosen) == 1 {
		return chosen[0].nodes
	}
	nodes := make([]string, 0, len(chosen))
	for _, s := range q.spots {
		if s.chosen {
			nodes = append(nodes, s.nodes...)
		}
	}
	if len(nodes) == len(chosen) {
		return nodes
	}
	in := make(map[string]struct{}, len(nodes))
	for _, n := range nodes {
		in[n] = struct{}{}
	}
	return slices.DeleteFunc(slices.Clone(given), func(n string) bool { _, ok := in[n]; return !ok })
}

// refusals say of every node that is not in the chosen spots why.
func (q *question) refusals(chosen []*spot) []Refusal {
	var list []Refusal
	at := map[string]int{}
	elsewhere := ""
	for _, s := range q.spots {
		if s.chosen || len(s.nodes) == 0 {
			continue
		}
		cause, reason := Elsewhere, elsewhere
		if s.verdict.state < open {
			cause, reason = s.verdict.cause(), q.why(s.verdict)
		} else if elsewhere == "" {
			elsewhere = q.elsewhere(chosen)
			reason = elsewhere
		}
		i, known := at[reason]
		if !known {
			i = len(list)
			at[reason] = i
			list = append(list, Refusal{Cause: cause, Reason: reason})
		}
		list[i].Nodes = append(list[i].Nodes, s.nodes...)
	}
	for _, reason := range slices.Sorted(maps.Keys(q.refused)) {
		list = append(list, *q.refused[reason])
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
