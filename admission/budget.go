package admission

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// budgeted names a PodDisruptionBudget for whose sake the API server does not hold an
// eviction to the version that it is bound to: it evicts a pod that runs and is not ready
// in the version that it reads once all webhooks have answered, if the budget lets such
// pods go (Kubernetes 1.36, pkg/registry/core/pod/storage/eviction.go). Whether it does is
// for the API server to say by then; any budget that selects the pod counts. A deletion is
// always judged for the version that is deleted.
func (g *Guard) budgeted(ctx context.Context, r *Request, pod *corev1.Pod) (name string, err error) {
	if r.Verb != Evict || r.PodVersion == "" || pod.Status.Phase == corev1.PodPending {
		return "", nil
	}
	budgets, err := g.cluster.Budgets(ctx, pod.Namespace)
	if err != nil {
		return "", err
	}
	for i := range budgets {
		selector, err := metav1.LabelSelectorAsSelector(budgets[i].Spec.Selector)
		if err == nil && selector.Matches(labels.Set(pod.Labels)) {
			return budgets[i].Name, nil
		}
	}
	return "", nil
}
