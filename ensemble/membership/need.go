package membership

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// need is what one member demands of its node: its pod's selector, affinity and
// tolerations, and its volumes. The zero value demands nothing.
type need struct {
	constraints text
	// volumes are the node affinities of its volumes, each once, joined by newlines.
	volumes string
}

func needOf(constraints text, affinities []string) need {
	affinities = slices.Compact(slices.Sorted(slices.Values(affinities)))
	return need{constraints, strings.Join(affinities, "\n")}
}

// filter is a need in the form that matches nodes.
type filter struct {
	selector    map[string]string
	affinities  []*affinity
	tolerations []corev1.Toleration
}

func (n need) filter() filter {
	var f filter
	if n.constraints != (text{}) && n.constraints.Value() != "" {
		var c constraints
		if json.Unmarshal([]byte(n.constraints.Value()), &c) == nil {
			f.selector, f.tolerations = c.NodeSelector, c.Tolerations
			if c.Affinity != nil {
				f.add(compileAffinity(c.Affinity))
			}
		}
	}
	for line := range strings.SplitSeq(n.volumes, "\n") {
		if line != "" {
			f.add(parseAffinity(line))
		}
	}
	return f
}

// add takes an affinity in; one that cannot be read allows nothing.
func (f *filter) add(a *affinity, err error) {
	if err != nil {
		a = &affinity{}
	}
	f.affinities = append(f.affinities, a)
}

func (f *filter) allows(n *nodeRecord) bool {
	for k, v := range f.selector {
		if w, ok := n.labels[k]; !ok || w != v {
			return false
		}
	}
	for _, a := range f.affinities {
		if !a.matches(n) {
			return false
		}
	}
	for i := range n.taints {
		if !slices.ContainsFunc(f.tolerations, func(t corev1.Toleration) bool { return tolerates(&t, &n.taints[i]) }) {
			return false
		}
	}
	return true
}

func tolerates(t *corev1.Toleration, taint *corev1.Taint) bool {
	if t.Effect != "" && t.Effect != taint.Effect || t.Key != "" && t.Key != taint.Key {
		return false
	}
	switch t.Operator {
	case corev1.TolerationOpExists:
		return true
	case "", corev1.TolerationOpEqual:
		return t.Key != "" && t.Value == taint.Value
	default:
		return false // comparing tolerations: taken for absent, which promises less
	}
}

// cell is a place as placement sees it: one domain of each of some levels.
type cell string

// question is what reach answers, to be asked once for each state of the nodes.
type question struct {
	need   need
	levels string
}

// reach is where the need may be met, in the domains of all levels at once, in
// order. Nodes that lack one of the labels are no place.
func (t *nodeTable) reach(n need, levels []Level) []cell {
	t.mu.Lock()
	defer t.mu.Unlock()
	q := question{need: n}
	for _, l := range levels {
		q.levels += l.Key + "\x00" + l.Within + "\x00"
	}
	if found, known := t.reached[q]; known {
		return found
	}
	f := n.filter()
	cells := map[cell]struct{}{}
	for _, node := range t.byName.all() {
		if c, ok := cellOf(node, levels); ok && f.allows(node) {
			cells[c] = struct{}{}
		}
	}
	if t.reached == nil {
		t.reached = map[question][]cell{}
	}
	t.reached[q] = slices.Sorted(maps.Keys(cells))
	return t.reached[q]
}

func cellOf(n *nodeRecord, levels []Level) (cell, bool) {
	domains := make([]string, len(levels))
	for i, l := range levels {
		d, ok := l.of(n.labels)
		if !ok {
			return "", false
		}
		domains[i] = string(d)
	}
	return cell(strings.Join(domains, "\x00")), true
}

func (c cell) domains() []string { return strings.Split(string(c), "\x00") }
