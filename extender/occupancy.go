package extender

import (
	"slices"

	"github.com/quorate/quorate/ensemble/membership"
	"github.com/quorate/quorate/ensemble/quorum"
)

// Claim is what was answered for a pod before.
type Claim struct {
	// Places that the pod may still land in: what it holds, and what it held until
	// a moment ago.
	Places []Place
	// Anywhere says that it may land in any domain: somebody else may have answered
	// for it, before this process started.
	Anywhere bool
}

// Claims says what was answered for a pod before.
type Claims func(*membership.Member) Claim

// occupancy is where the members of an ensemble are or may be, the candidate
// excepted. Sets are of members' numbers; slices go by level.
type occupancy struct {
	nodes Nodes
	e     *membership.Ensemble
	top   []int
	// seen is who occupies a domain by what the informers show.
	seen []map[membership.Domain]quorum.Set
	// held is who may land in it by what was answered. Maximal levels only.
	held []map[membership.Domain]quorum.Set
	// anywhere is who may land in any domain of the level.
	anywhere []quorum.Set
	// places of the unbound, for the levels within the maximal ones.
	places map[int][]Place
}

func occupied(nodes Nodes, e *membership.Ensemble, candidate int, claims Claims) *occupancy {
	o := &occupancy{
		nodes: nodes, e: e,
		seen:     make([]map[membership.Domain]quorum.Set, len(e.Levels)),
		held:     make([]map[membership.Domain]quorum.Set, len(e.Levels)),
		anywhere: make([]quorum.Set, len(e.Levels)),
	}
	for l := range e.Levels {
		o.seen[l] = map[membership.Domain]quorum.Set{}
	}
	o.miss(candidate)
	o.top = maximal(nodes, e.Levels, o.anywhere)
	for _, l := range o.top {
		o.held[l] = map[membership.Domain]quorum.Set{}
	}
	for i := range e.Members {
		m := &e.Members[i]
		if i == candidate {
			continue
		}
		for l, domains := range m.Occupies {
			for _, d := range domains {
				o.seen[l][d] = o.seen[l][d].With(i)
			}
		}
		if m.Node == "" && m.UID != "" {
			o.claim(i, claims(m))
		}
	}
	return o
}

// miss counts the members whose node is gone while their pod isn't in every domain of
// the levels that the pod doesn't tell: they may run yet. Pods outlive their nodes by
// less than a minute.
func (o *occupancy) miss(candidate int) {
	for i := range o.e.Members {
		m := &o.e.Members[i]
		if _, there := o.nodes.Labels(m.Node); i == candidate || there || !m.Bound() {
			continue
		}
		for l, domains := range m.Occupies {
			if len(domains) == 0 {
				o.anywhere[l] = o.anywhere[l].With(i)
			}
		}
	}
}

func (o *occupancy) claim(i int, c Claim) {
	if c.Anywhere {
		for l := range o.anywhere {
			o.anywhere[l] = o.anywhere[l].With(i)
		}
	}
	if len(c.Places) == 0 {
		return
	}
	if o.places == nil {
		o.places = map[int][]Place{}
	}
	o.places[i] = c.Places
	for _, l := range o.top {
		for _, p := range c.Places {
			o.hold(i, l, p)
		}
	}
}

// hold counts member i at a maximal level. A place that says nothing of the level
// is from a time when it was not one, and could be in any of its domains.
func (o *occupancy) hold(i, l int, p Place) {
	x, ok := p.at(o.e.Levels[l])
	if !ok {
		o.anywhere[l] = o.anywhere[l].With(i)
		return
	}
	if len(o.held[l]) == 0 {
		o.held[l] = make(map[membership.Domain]quorum.Set, len(x.Domains))
	}
	for _, d := range x.Domains {
		o.held[l][d] = o.held[l][d].With(i)
	}
}

// at returns who is in the domain by what is seen, and who may be by what was
// answered. The node is one of the domain: it shows in which domain of the levels
// around it lies, where the level is not a maximal one.
func (o *occupancy) at(l int, d membership.Domain, node string) (seen, may quorum.Set) {
	seen = o.seen[l][d]
	may = seen | o.anywhere[l]
	if o.held[l] != nil {
		return seen, may | o.held[l][d]
	}
	for i, places := range o.places {
		if slices.ContainsFunc(places, func(p Place) bool { return o.reaches(p, l, node) }) {
			may = may.With(i)
		}
	}
	return seen, may
}

// reaches reports whether the place may hold a node of the same domain at the level. One
// node speaks for the others at levels that the domain lies in, and not at those that
// cross it; of what is only preferred it is enough to ask about the node.
func (o *occupancy) reaches(p Place, l int, node string) bool {
	level := o.e.Levels[l]
	for _, x := range p {
		if level.Hard && !o.nodes.Nested(level, x.Level) {
			continue
		}
		if d, ok := o.nodes.Domain(node, x.Level); ok && !slices.Contains(x.Domains, d) {
			return false
		}
	}
	return true
}
