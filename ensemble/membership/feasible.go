package membership

import (
	"cmp"
	"slices"

	"github.com/quorate/quorate/ensemble/quorum"
)

// maxSteps bounds the search for a safe placement; beyond it the answer is Unknown.
const maxSteps = 200_000

// seat is one voter that wants a place, and the places that it can have.
type seat struct {
	number int
	cells  []cell
}

// feasible says whether all voters of the judgement can be placed so that every
// domain of every one of the levels may be lost: Safe if so, Unsafe if not, Unknown
// if that would take too long to find out. Where the pods are now does not matter,
// where their volumes are does.
func (s *Snapshot) feasible(e *Ensemble, j *Judgement, levels []Level) quorum.Verdict {
	levels = s.maximal(levels)
	if len(levels) == 0 {
		return quorum.Safe
	}
	seats := make([]seat, 0, len(j.voices))
	for _, v := range j.voices {
		cells := s.nodes.reach(e.need(v.name), levels)
		if len(levels) == 1 && len(cells) > len(j.voices) {
			// So many that one is always free of the others: which ones is all the same.
			cells = cells[:len(j.voices)]
		}
		seats = append(seats, seat{v.number, cells})
	}
	slices.SortStableFunc(seats, func(a, b seat) int { return cmp.Compare(len(a.cells), len(b.cells)) })
	search := search{j: j.everyone(), seats: seats, taken: make([]map[string]quorum.Set, len(levels))}
	for i := range search.taken {
		search.taken[i] = map[string]quorum.Set{}
	}
	if len(levels) == 1 && j.worlds == nil && j.even {
		return search.match((j.Voters - 1) / 2)
	}
	return search.from(0)
}

// maximal are the levels that do not lie within another one: what is safe for the
// outer level is safe for the inner.
func (s *Snapshot) maximal(levels []Level) []Level {
	var found []Level
	for i, inner := range levels {
		if !slices.ContainsFunc(levels, func(outer Level) bool {
			o := slices.Index(levels, outer)
			if o == i || !s.Nested(inner, outer) {
				return false
			}
			return !s.Nested(outer, inner) || o < i
		}) {
			found = append(found, inner)
		}
	}
	return found
}

// everyone is the judgement with all who are to have a place counting in it.
func (j *Judgement) everyone() *Judgement {
	all := *j
	for _, v := range j.voices {
		all.Counts = all.Counts.With(v.number)
	}
	return &all
}

// search looks for a place for every seat.
type search struct {
	j     *Judgement
	seats []seat
	taken []map[string]quorum.Set
	steps int
}

// from places the seats from i on, one after the other.
func (s *search) from(i int) quorum.Verdict {
	if i == len(s.seats) {
		return quorum.Safe
	}
	answer := quorum.Unsafe
	for _, c := range s.seats[i].cells {
		if s.steps++; s.steps > maxSteps {
			return quorum.Unknown
		}
		domains := c.domains()
		before := make([]quorum.Set, len(domains))
		ok := true
		for l, d := range domains {
			before[l] = s.taken[l][d]
			s.taken[l][d] = before[l].With(s.seats[i].number)
			ok = ok && s.j.Survives(s.taken[l][d])
		}
		if ok {
			answer = s.from(i + 1)
		}
		for l, d := range domains {
			s.taken[l][d] = before[l]
		}
		if answer != quorum.Unsafe {
			return answer
		}
	}
	return answer
}

// match is the search for equal votes and one level: most to a domain.
func (s *search) match(most int) quorum.Verdict {
	held := map[cell][]int{}
	for i := range s.seats {
		if !s.augment(i, most, held, map[cell]bool{}) {
			return quorum.Unsafe
		}
	}
	return quorum.Safe
}

// augment finds a place for seat i, moving others on if need be.
func (s *search) augment(i, most int, held map[cell][]int, tried map[cell]bool) bool {
	for _, c := range s.seats[i].cells {
		if tried[c] {
			continue
		}
		tried[c] = true
		if len(held[c]) < most {
			held[c] = append(held[c], i)
			return true
		}
		for k, other := range held[c] {
			if s.augment(other, most, held, tried) {
				held[c][k] = i
				return true
			}
		}
	}
	return false
}
