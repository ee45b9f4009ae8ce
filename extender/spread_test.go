package extender

import (
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/quorate/quorate/ensemble/membership"
)

// spread is what Kubernetes has: a topologySpreadConstraint for every hard level, with
// maxSkew 1 and DoNotSchedule. It counts as the scheduler does (podtopologyspread):
// pods that are bound and not terminating, and those that it has assumed on a node
// itself; domains are those that some node shows.
type spread struct {
	forgetful
	assumed map[types.UID]assumption
}

// assumption is the node that a pod was sent to, and what was said of it then.
type assumption struct{ node, said string }

func newSpread() decider { return &spread{assumed: map[types.UID]assumption{}} }

// See has assumed pods be bound, or forgotten once their bind failed.
func (s *spread) See(_ time.Time, e *membership.Ensemble) {
	for i := range e.Members {
		m := &e.Members[i]
		if a, assumed := s.assumed[m.UID]; assumed && (m.Bound() || m.Unscheduled != a.said) {
			delete(s.assumed, m.UID)
		}
	}
}

func (s *spread) Filter(_ time.Time, nodes Nodes, e *membership.Ensemble, uid types.UID, given []string, _ bool) Answer {
	i := find(e, uid)
	if i < 0 {
		return Answer{Outcome: Unknown}
	}
	delete(s.assumed, uid)
	var skews []func(node string) bool
	for _, l := range e.Levels {
		if l.Hard {
			skews = append(skews, s.skew(nodes, e, membership.Level{Key: l.Key, Hard: true}))
		}
	}
	for _, n := range given {
		fits := true
		for _, fit := range skews {
			fits = fits && fit(n)
		}
		if fits {
			s.assumed[uid] = assumption{n, e.Members[i].Unscheduled}
			return Answer{Outcome: Placed, Nodes: []string{n}}
		}
	}
	return Answer{Outcome: Impossible}
}

// skew reports whether a node is in a domain that one pod more leaves within one of
// the emptiest.
func (s *spread) skew(nodes Nodes, e *membership.Ensemble, l membership.Level) func(node string) bool {
	count := map[membership.Domain]int{}
	for d := range nodes.Domains(l) {
		count[d] = 0
	}
	for i := range e.Members {
		m := &e.Members[i]
		node := m.Node
		if a, assumed := s.assumed[m.UID]; assumed {
			node = a.node
		}
		if d, ok := nodes.Domain(node, l); ok && !m.Terminating {
			count[d]++
		}
	}
	least := len(e.Members)
	for _, n := range count {
		least = min(least, n)
	}
	return func(node string) bool {
		d, ok := nodes.Domain(node, l)
		return ok && count[d]+1-least <= 1
	}
}
