package extender

import (
	"iter"
	"slices"

	"github.com/quorate/quorate/ensemble/membership"
	"github.com/quorate/quorate/ensemble/quorum"
)

// Nodes is what a decision asks about nodes; a *membership.Snapshot answers it.
type Nodes interface {
	// Domain of a node at a level; false where the node bears no such label.
	Domain(node string, l membership.Level) (membership.Domain, bool)
	// Domains of a level, with how many nodes each has.
	Domains(l membership.Level) iter.Seq2[membership.Domain, int]
	// Reachable is how many domains of a level voters of the judgement may be placed in.
	Reachable(e *membership.Ensemble, j *membership.Judgement, l membership.Level) int
	// Labels of a node, to be read only; false where it is not known.
	Labels(node string) (map[string]string, bool)
	// Nested reports whether every domain of inner lies in one of outer.
	Nested(inner, outer membership.Level) bool
}

// Place is where a pod may land: at every maximal hard level, one of the domains.
// It says nothing of the levels nested in those, for they follow.
type Place []Extent

// Extent is the part of a Place at one level.
type Extent struct {
	Level   membership.Level
	Domains []membership.Domain
}

// at returns the extent at the level; levels are one if key and enclosing key are.
func (p Place) at(l membership.Level) (Extent, bool) {
	for _, x := range p {
		if x.Level.Key == l.Key && x.Level.Within == l.Within {
			return x, true
		}
	}
	return Extent{}, false
}

// set is the domains, to be looked up.
func (x Extent) set() map[membership.Domain]struct{} {
	in := make(map[membership.Domain]struct{}, len(x.Domains))
	for _, d := range x.Domains {
		in[d] = struct{}{}
	}
	return in
}

// equal reports whether both are the same, in the same order.
func (p Place) equal(q Place) bool {
	return slices.EqualFunc(p, q, func(x, y Extent) bool {
		return x.Level == y.Level && slices.Equal(x.Domains, y.Domains)
	})
}

// minus is the part of p that is not covered by q: nil if q covers all of it. Where
// they differ at more than one level it is p itself, which is too much and safe.
func (p Place) minus(q Place) Place {
	if len(p) != len(q) {
		return p
	}
	if p.equal(q) {
		return nil // as it mostly is, and there may be hundreds of hosts
	}
	var rest Place
	for _, x := range p {
		y, ok := q.at(x.Level)
		if !ok {
			return p
		}
		in := y.set()
		left := slices.DeleteFunc(slices.Clone(x.Domains), func(d membership.Domain) bool { _, ok := in[d]; return ok })
		if len(left) > 0 {
			rest = append(rest, Extent{Level: x.Level, Domains: left})
		}
	}
	if len(rest) > 0 && len(p) > 1 {
		return p
	}
	return rest
}

// maximal returns the indexes of the hard levels that lie in no other one. Where
// two levels have the same domains, the first of them stands for both. A level that
// members are anywhere in is one, for the nodes that show where it lies are not all.
func maximal(nodes Nodes, levels []membership.Level, anywhere []quorum.Set) []int {
	var top []int
	for i, l := range levels {
		if l.Hard && (anywhere[i] != 0 || !enclosed(nodes, levels, i)) {
			top = append(top, i)
		}
	}
	return top
}

func enclosed(nodes Nodes, levels []membership.Level, i int) bool {
	for j, outer := range levels {
		if j == i || !outer.Hard || !nodes.Nested(levels[i], outer) {
			continue
		}
		if j < i || !nodes.Nested(outer, levels[i]) {
			return true
		}
	}
	return false
}
