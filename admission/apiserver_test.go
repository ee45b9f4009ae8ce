package admission

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/quorate/quorate/ensemble/v1alpha1"
)

// delay is the way to the API server or a member: short mostly.
func (w *world) delay(ctx context.Context, most time.Duration) {
	w.mu.Lock()
	d := w.upto(most)
	if !w.calm && w.chance(3) {
		d += w.upto(3 * time.Second)
	}
	w.mu.Unlock()
	w.wait(ctx, d)
}

func (w *world) wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// read is a read of the API server: one moment between two delays.
func (w *world) read(ctx context.Context, f func() error) error {
	w.delay(ctx, 10*time.Millisecond)
	w.mu.Lock()
	err := f()
	w.mu.Unlock()
	w.delay(ctx, 10*time.Millisecond)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// version changes whenever the kubelet reports something else.
func (p *modelPod) version() string {
	return fmt.Sprintf("%s running=%t terminating=%t", p.proc.id, p.running, p.terminating)
}

func (p *modelPod) object() corev1.Pod {
	o := corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "data", Name: p.name, UID: p.uid, ResourceVersion: p.version(), Labels: map[string]string{"app": "zookeeper"}},
		Status:     corev1.PodStatus{Phase: corev1.PodRunning, PodIP: p.ip.String()},
	}
	if p.owner != "" {
		o.OwnerReferences = []metav1.OwnerReference{{Kind: "StatefulSet", UID: p.owner, Controller: new(true)}}
	}
	if p.relabelled {
		o.Labels = nil
	}
	if p.terminating {
		o.DeletionTimestamp = &metav1.Time{Time: time.Now()}
	}
	state := corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}}
	if p.running {
		state = corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	}
	o.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "zookeeper", ContainerID: p.proc.id, State: state}}
	return o
}

var (
	podsResource      = schema.GroupResource{Resource: "pods"}
	ensemblesResource = schema.GroupResource{Group: "quorate.io", Resource: "ensembles"}
)

// Pod implements Cluster.
func (w *world) Pod(ctx context.Context, key types.NamespacedName) (pod *corev1.Pod, err error) {
	err = w.read(ctx, func() error {
		p := w.pods[key.Name]
		if p == nil {
			return apierrors.NewNotFound(podsResource, key.Name)
		}
		o := p.object()
		pod = &o
		if f := w.afterRead; f != nil {
			w.afterRead = nil
			f()
		}
		return nil
	})
	return pod, err
}

// Pods implements Cluster.
func (w *world) Pods(ctx context.Context, _ string, selector labels.Selector) (pods []corev1.Pod, err error) {
	err = w.read(ctx, func() error {
		for _, name := range slices.Sorted(maps.Keys(w.pods)) {
			p := w.pods[name]
			if o := p.object(); selector.Matches(labels.Set(o.Labels)) {
				pods = append(pods, o)
			}
		}
		return nil
	})
	return pods, err
}

// hits reports whether the API server takes the pod for the one that the request is bound
// to. Where a budget lets a pod go that is not ready, an eviction is not held to a version.
func (w *world) hits(r *Request, p *modelPod) bool {
	free := r.Verb == Evict && w.budgeted
	return (r.PodUID == "" || p.uid == r.PodUID) && (free || r.PodVersion == "" || p.version() == r.PodVersion)
}

// Budgets implements Cluster.
func (w *world) Budgets(ctx context.Context, _ string) (budgets []policyv1.PodDisruptionBudget, err error) {
	err = w.read(ctx, func() error {
		if w.budgeted {
			budgets = []policyv1.PodDisruptionBudget{{
				ObjectMeta: metav1.ObjectMeta{Namespace: "data", Name: "zk"},
				Spec:       policyv1.PodDisruptionBudgetSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "zookeeper"}}},
			}}
		}
		return nil
	})
	return budgets, err
}

// StatefulSet implements Cluster.
func (w *world) StatefulSet(context.Context, types.NamespacedName) (*appsv1.StatefulSet, error) {
	return nil, errors.New("not in this model")
}

// Ensembles implements Cluster.
func (w *world) Ensembles(ctx context.Context, _ string) (list []v1alpha1.Ensemble, err error) {
	err = w.read(ctx, func() error {
		for _, e := range w.ensembles {
			list = append(list, *e.DeepCopy())
		}
		slices.SortFunc(list, func(a, b v1alpha1.Ensemble) int { return len(a.Name) - len(b.Name) })
		return nil
	})
	return list, err
}

// UpdateStatus implements Cluster: now, late, without telling, or not at all.
func (w *world) UpdateStatus(ctx context.Context, e *v1alpha1.Ensemble) error {
	w.delay(ctx, 10*time.Millisecond)
	w.mu.Lock()
	fault := 100
	if !w.calm {
		fault = w.rng.IntN(100)
	}
	var err error
	switch {
	case fault < 5:
		err = apierrors.NewConflict(ensemblesResource, e.Name, errors.New("injected"))
	case fault < 8:
		late := e.DeepCopy()
		w.after(w.upto(40*time.Second), func() { _ = w.store(late) })
		w.mu.Unlock()
		<-ctx.Done()
		return ctx.Err()
	case fault < 11:
		_ = w.store(e.DeepCopy())
		err = errors.New("connection reset by peer")
	default:
		err = w.store(e)
	}
	w.mu.Unlock()
	w.delay(ctx, 10*time.Millisecond)
	return err
}

// store is the compare-and-swap.
func (w *world) store(e *v1alpha1.Ensemble) error {
	old := w.ensembles[e.Name]
	switch {
	case old == nil:
		return apierrors.NewNotFound(ensemblesResource, e.Name)
	case old.UID != e.UID, old.ResourceVersion != e.ResourceVersion:
		return apierrors.NewConflict(ensemblesResource, e.Name, errors.New("the object has been modified"))
	}
	w.rv++
	e.ResourceVersion = strconv.Itoa(w.rv)
	w.ensembles[e.Name] = e.DeepCopy()
	w.note("stored %s guard %v", e.UID, e.Status.Guard)
	for _, g := range e.Status.Grants {
		w.note("  grant %s %s %v", g.Name, g.PodUID, g.RequestUIDs)
	}
	return nil
}
