package admission

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/ensemble/v1alpha1"
)

// Cluster is what the guard reads from and writes to the API server. No read may
// come from a cache of ours: each shows every write that ended before it began.
type Cluster interface {
	// Pod by name; a NotFound error if there is none.
	Pod(ctx context.Context, key types.NamespacedName) (*corev1.Pod, error)
	// Pods of the namespace that the selector matches.
	Pods(ctx context.Context, namespace string, selector labels.Selector) ([]corev1.Pod, error)
	// StatefulSet by name.
	StatefulSet(ctx context.Context, key types.NamespacedName) (*appsv1.StatefulSet, error)
	// Budgets are the PodDisruptionBudgets of the namespace.
	Budgets(ctx context.Context, namespace string) ([]policyv1.PodDisruptionBudget, error)
	// Ensembles of the namespace.
	Ensembles(ctx context.Context, namespace string) ([]v1alpha1.Ensemble, error)
	// UpdateStatus writes the status if the object is still that of its
	// resourceVersion and uid, and a Conflict otherwise.
	UpdateStatus(ctx context.Context, e *v1alpha1.Ensemble) error
}

// Live is a Cluster behind clients of the API server. Reader must not cache.
type Live struct {
	Reader client.Reader
	Writer client.StatusClient
}

// Pod implements Cluster.
func (l Live) Pod(ctx context.Context, key types.NamespacedName) (*corev1.Pod, error) {
	var p corev1.Pod
	if err := l.Reader.Get(ctx, key, &p); err != nil {
		return nil, fmt.Errorf("get pod: %w", err)
	}
	return &p, nil
}

// Pods implements Cluster.
func (l Live) Pods(ctx context.Context, namespace string, selector labels.Selector) ([]corev1.Pod, error) {
	var list corev1.PodList
	if err := l.Reader.List(ctx, &list, client.InNamespace(namespace), client.MatchingLabelsSelector{Selector: selector}); err != nil {
		return nil, fmt.Errorf("list pods: %w", err)
	}
	return list.Items, nil
}

// StatefulSet implements Cluster.
func (l Live) StatefulSet(ctx context.Context, key types.NamespacedName) (*appsv1.StatefulSet, error) {
	var s appsv1.StatefulSet
	if err := l.Reader.Get(ctx, key, &s); err != nil {
		return nil, fmt.Errorf("get statefulset: %w", err)
	}
	return &s, nil
}

// Budgets implements Cluster.
func (l Live) Budgets(ctx context.Context, namespace string) ([]policyv1.PodDisruptionBudget, error) {
	var list policyv1.PodDisruptionBudgetList
	if err := l.Reader.List(ctx, &list, client.InNamespace(namespace)); err != nil {
		return nil, fmt.Errorf("list poddisruptionbudgets: %w", err)
	}
	return list.Items, nil
}

// Ensembles implements Cluster.
func (l Live) Ensembles(ctx context.Context, namespace string) ([]v1alpha1.Ensemble, error) {
	var list v1alpha1.EnsembleList
	if err := l.Reader.List(ctx, &list, client.InNamespace(namespace)); err != nil {
		return nil, fmt.Errorf("list ensembles: %w", err)
	}
	return list.Items, nil
}

// UpdateStatus implements Cluster.
func (l Live) UpdateStatus(ctx context.Context, e *v1alpha1.Ensemble) error {
	if err := l.Writer.Status().Update(ctx, e); err != nil {
		return fmt.Errorf("update ensemble status: %w", err)
	}
	return nil
}

// address is invalid for what is none.
func address(s string) netip.Addr {
	ip, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Addr{}
	}
	return ip
}

// ordinal of a pod of a StatefulSet, -1 without.
func ordinal(name string) int {
	n, err := strconv.Atoi(name[strings.LastIndex(name, "-")+1:])
	if err != nil {
		return -1
	}
	return n
}
