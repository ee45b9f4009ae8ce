package membership

import (
	"encoding/json"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
)

// affinity is a node selector in the form that matches nodes: any of its terms.
type affinity struct {
	terms []term
}

// term is all of its requirements.
type term struct {
	requirements labels.Requirements
	names        []nameRequirement
	// indexed is one label with its values that every node of the term bears; its
	// key is empty if the term names none.
	indexed corev1.NodeSelectorRequirement
}

// nameRequirement is a matchFields expression; metadata.name is the one field.
type nameRequirement struct {
	in    bool
	names []string
}

var operators = map[corev1.NodeSelectorOperator]selection.Operator{
	corev1.NodeSelectorOpIn: selection.In, corev1.NodeSelectorOpNotIn: selection.NotIn,
	corev1.NodeSelectorOpExists: selection.Exists, corev1.NodeSelectorOpDoesNotExist: selection.DoesNotExist,
	corev1.NodeSelectorOpGt: selection.GreaterThan, corev1.NodeSelectorOpLt: selection.LessThan,
}

// parseAffinity reads canonical JSON of a node selector.
func parseAffinity(text string) (*affinity, error) {
	var s corev1.NodeSelector
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return nil, fmt.Errorf("read node affinity: %w", err)
	}
	return compileAffinity(&s)
}

func compileAffinity(s *corev1.NodeSelector) (*affinity, error) {
	a := &affinity{}
	for _, t := range s.NodeSelectorTerms {
		if len(t.MatchExpressions)+len(t.MatchFields) == 0 {
			continue // an empty term matches nothing
		}
		var compiled term
		for _, e := range t.MatchExpressions {
			r, err := labels.NewRequirement(e.Key, operators[e.Operator], e.Values)
			if err != nil {
				return nil, fmt.Errorf("read node affinity: %w", err)
			}
			compiled.requirements = append(compiled.requirements, *r)
			if e.Operator == corev1.NodeSelectorOpIn && (compiled.indexed.Key == "" || len(e.Values) < len(compiled.indexed.Values)) {
				compiled.indexed = e
			}
		}
		for _, f := range t.MatchFields {
			compiled.names = append(compiled.names, nameRequirement{f.Operator == corev1.NodeSelectorOpIn, f.Values})
		}
		a.terms = append(a.terms, compiled)
	}
	return a, nil
}

func (a *affinity) matches(n *nodeRecord) bool {
	return slices.ContainsFunc(a.terms, func(t term) bool { return t.matches(n) })
}

func (t *term) matches(n *nodeRecord) bool {
	for _, f := range t.names {
		if slices.Contains(f.names, n.name) != f.in {
			return false
		}
	}
	for i := range t.requirements {
		if !t.requirements[i].Matches(labels.Set(n.labels)) {
			return false
		}
	}
	return true
}

// states is the one domain of the level that the affinity itself names, whether or
// not a node is left there: a zone whose nodes are all gone still holds its volumes.
func (a *affinity) states(l Level) (Domain, bool) {
	var found []string
	for _, t := range a.terms {
		v, ok := t.only(l.Key)
		if !ok {
			return "", false
		}
		if l.Within != "" {
			outer, ok := t.only(l.Within)
			if !ok {
				return "", false
			}
			v = outer + "/" + v
		}
		found = append(found, v)
	}
	if found = slices.Compact(found); len(found) != 1 {
		return "", false
	}
	return Domain(found[0]), true
}

// only is the single value that the term lets the label have.
func (t *term) only(key string) (string, bool) {
	for i := range t.requirements {
		r := &t.requirements[i]
		if r.Key() != key || (r.Operator() != selection.In && r.Operator() != selection.Equals) || r.Values().Len() != 1 {
			continue
		}
		return r.Values().UnsortedList()[0], true
	}
	return "", false
}
