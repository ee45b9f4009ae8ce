package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion of the types in this package.
var GroupVersion = schema.GroupVersion{Group: "quorate.io", Version: "v1alpha1"}

// VoterResource is the extended resource that member pods request, so that the
// scheduler asks the extender about them and about no other pod.
const VoterResource = "quorate.io/voter"

// AddToScheme makes the types of this package known to s.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion, &Ensemble{}, &EnsembleList{})
	metav1.AddToGroupVersion(s, GroupVersion)
	return nil
}

// Compile returns the selector in the form that matches labels. An empty
// selector matches nothing, not everything: a member is always named. The error
// names the expression that is wrong.
func (s *Selector) Compile() (labels.Selector, error) {
	if s == nil || len(s.MatchLabels)+len(s.MatchExpressions) == 0 {
		return labels.Nothing(), nil
	}
	l := metav1.LabelSelector{MatchLabels: make(map[string]string, len(s.MatchLabels))}
	for k, v := range s.MatchLabels {
		l.MatchLabels[k] = string(v)
	}
	for _, e := range s.MatchExpressions {
		values := make([]string, len(e.Values))
		for i, v := range e.Values {
			values[i] = string(v)
		}
		l.MatchExpressions = append(l.MatchExpressions, metav1.LabelSelectorRequirement{Key: e.Key, Operator: e.Operator, Values: values})
	}
	return metav1.LabelSelectorAsSelector(&l)
}
