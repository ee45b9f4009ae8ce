package extender

import (
	"unique"

	"k8s.io/apimachinery/pkg/types"

	"github.com/quorate/quorate/ensemble/membership"
)

// asked is a question, as far as it can be asked again without the scheduler.
type asked struct {
	ensemble types.NamespacedName
	given    []unique.Handle[string] // thousands of names, and the same ones for many pods
	sampled  bool
}

func (c Candidate) asked(e *membership.Ensemble, given []string) *asked {
	q := &asked{ensemble: e.Key, given: make([]unique.Handle[string], len(given)), sampled: c.Sampled}
	for i, n := range given {
		q.given[i] = unique.Make(n)
	}
	return q
}

func (q *asked) names() []string {
	names := make([]string, len(q.given))
	for i, n := range q.given {
		names[i] = n.Value()
	}
	return names
}

// Reopened are the members of the ensemble that were told Impossible and would not
// be by what is seen now. Each is told of once.
//
// The scheduler puts aside whom no node was safe for, until it sees a pod, a node or
// a volume change. It may have seen that before we did, and asked in between: then
// nobody but us knows that there is an answer now. An Ensemble it doesn't see at all.
func (l *Ledger) Reopened(nodes Nodes, e *membership.Ensemble) []*membership.Member {
	var found []*membership.Member
	for i := range e.Members {
		m := &e.Members[i]
		r := l.pods[m.UID]
		if r == nil || r.impossible == nil || m.Bound() || unanswerable(e) != "" {
			continue
		}
		// What siblings hold never makes a place impossible, so that it is left out.
		a := Filter(nodes, e, Candidate{Member: i, Sampled: r.impossible.sampled}, r.impossible.names(), nobody)
		if a.Outcome > Unknown {
			r.impossible = nil
			found = append(found, m)
		}
	}
	return found
}

func nobody(*membership.Member) Claim { return Claim{} }

// turnedDown are the ensembles that have members who were told Impossible.
func (l *Ledger) turnedDown() map[types.NamespacedName]struct{} {
	keys := map[types.NamespacedName]struct{}{}
	for _, r := range l.pods {
		if r.impossible != nil {
			keys[r.impossible.ensemble] = struct{}{}
		}
	}
	return keys
}
