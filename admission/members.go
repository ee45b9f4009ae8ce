package admission

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/quorate/quorate/ensemble/v1alpha1"
)

// selection is who belongs to an Ensemble.
type selection struct{ members, observers labels.Selector }

func selectors(e *v1alpha1.Ensemble) (s selection, err error) {
	if s.members, err = e.Spec.Selector.Compile(); err != nil {
		return s, err
	}
	s.observers, err = e.Spec.Observers.Compile()
	return s, err
}

func (s selection) member(p *corev1.Pod) bool   { return s.members.Matches(labels.Set(p.Labels)) }
func (s selection) observer(p *corev1.Pod) bool { return s.observers.Matches(labels.Set(p.Labels)) }

// pod is a member as evidence knows it.
func (s selection) pod(p *corev1.Pod) Pod {
	m := member(p)
	m.Observer = s.observer(p)
	return m
}

// members are the pods of the Ensemble by consistent list, without those that have
// finished.
func (g *Guard) members(ctx context.Context, e *v1alpha1.Ensemble, s selection) ([]corev1.Pod, error) {
	all, err := g.cluster.Pods(ctx, e.Namespace, s.members)
	if err != nil {
		return nil, err
	}
	pods := all[:0:0]
	for i := range all {
		if !finished(&all[i]) {
			pods = append(pods, all[i])
		}
	}
	return pods, nil
}
