package membership

import (
	"iter"
	"maps"
	"sync"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

// Snapshot is what was known at one moment. It is immutable and safe for
// concurrent use.
type Snapshot struct {
	nodes     *nodeTable
	ensembles *pmap[types.NamespacedName, *Ensemble]
	spaces    *pmap[string, []claimant]
}

// claimant is one ensemble of a namespace and what it selects. The claimants of
// a namespace are ordered: the first that matches a pod owns it.
type claimant struct {
	selector labels.Selector
	ensemble *Ensemble
}

// Of returns the ensemble that a pod with these labels belongs to. A pod that two
// ensembles select belongs to the older one, by creation time, then by name.
func (s *Snapshot) Of(namespace string, podLabels map[string]string) (*Ensemble, bool) {
	space, _ := s.spaces.get(namespace)
	for i := range space {
		if space[i].selector.Matches(labels.Set(podLabels)) {
			return space[i].ensemble, true
		}
	}
	return nil, false
}

// Get returns the ensemble of that name.
func (s *Snapshot) Get(key types.NamespacedName) (*Ensemble, bool) {
	return s.ensembles.get(key)
}

// Ensembles yields all ensembles, in no order.
func (s *Snapshot) Ensembles() iter.Seq[*Ensemble] {
	return func(yield func(*Ensemble) bool) {
		for _, e := range s.ensembles.all() {
			if !yield(e) {
				return
			}
		}
	}
}

// Domain is the domain of the node at the level. ok is false where the node is not
// known or bears no such label.
func (s *Snapshot) Domain(node string, l Level) (d Domain, ok bool) {
	n, known := s.nodes.byName.get(node)
	if !known {
		return "", false
	}
	return l.of(n.labels)
}

// Domains yields the domains of the level that the known nodes show, with how many
// nodes each has, in no order.
func (s *Snapshot) Domains(l Level) iter.Seq2[Domain, int] {
	return maps.All(s.nodes.domains(l))
}

// Labels of the node, to be read only; false where it is not known. Level.Of and
// Level.On tell what they say: for whoever asks about many nodes at several levels.
func (s *Snapshot) Labels(node string) (map[string]string, bool) {
	n, known := s.nodes.byName.get(node)
	if !known {
		return nil, false
	}
	return n.labels, true
}

// Of is the domain of a node with these labels at the level.
func (l Level) Of(nodeLabels map[string]string) (Domain, bool) { return l.of(nodeLabels) }

// On reports whether a node with these labels has a domain at the level.
func (l Level) On(nodeLabels map[string]string) bool {
	if _, ok := nodeLabels[l.Key]; !ok || l.Within == "" {
		return ok
	}
	_, ok := nodeLabels[l.Within]
	return ok
}

// SameNodes reports whether no node came, went or changed between the snapshots.
func (s *Snapshot) SameNodes(o *Snapshot) bool { return s.nodes == o.nodes }

// HasNode reports whether the node is known.
func (s *Snapshot) HasNode(node string) bool {
	_, ok := s.nodes.byName.get(node)
	return ok
}

// Nested reports whether every domain of inner lies in one domain of outer, judged
// from the labels of the nodes: then what is safe for outer is safe for inner. A
// node without outer's label is in no domain of outer; nothing is placed there, and
// a domain of inner that lies there as a whole is left out.
func (s *Snapshot) Nested(inner, outer Level) bool {
	return s.nodes.nested(inner, outer)
}

// of is the domain of a node with these labels at the level.
func (l Level) of(nodeLabels map[string]string) (Domain, bool) {
	v, ok := nodeLabels[l.Key]
	if !ok || l.Within == "" {
		return Domain(v), ok
	}
	outer, ok := nodeLabels[l.Within]
	if !ok {
		return "", false
	}
	return Domain(outer + "/" + v), true
}

// nodeTable is the nodes at one moment. What is derived from all of them is worked
// out once, when it is first asked for.
type nodeTable struct {
	byName *pmap[string, *nodeRecord]

	mu      sync.Mutex // guards below
	nests   map[[2]Level]bool
	counted map[Level]map[Domain]int
	reached map[question][]cell
}

func (t *nodeTable) domains(l Level) map[Domain]int {
	t.mu.Lock()
	defer t.mu.Unlock()
	if found, known := t.counted[l]; known {
		return found
	}
	found := map[Domain]int{}
	for _, n := range t.byName.all() {
		if d, ok := l.of(n.labels); ok {
			found[d]++
		}
	}
	if t.counted == nil {
		t.counted = map[Level]map[Domain]int{}
	}
	t.counted[l] = found
	return found
}

func (t *nodeTable) nested(inner, outer Level) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	pair := [2]Level{inner, outer}
	answer, known := t.nests[pair]
	if !known {
		answer = t.nest(inner, outer)
		if t.nests == nil {
			t.nests = map[[2]Level]bool{}
		}
		t.nests[pair] = answer
	}
	return answer
}

// nest looks at every node. A node without outer's label is taken for one in a
// domain of its own kind, so that a domain of inner that mixes both is not nested.
func (t *nodeTable) nest(inner, outer Level) bool {
	type place struct {
		domain Domain
		ok     bool
	}
	in := map[Domain]place{}
	for _, n := range t.byName.all() {
		d, ok := inner.of(n.labels)
		if !ok {
			continue
		}
		o, ok := outer.of(n.labels)
		seen, known := in[d]
		if known && seen != (place{o, ok}) {
			return false
		}
		in[d] = place{o, ok}
	}
	return true
}
