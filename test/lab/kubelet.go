package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

// reconcile makes what runs for a pod what should run, and says when to look again.
func (r *Runner) reconcile(ctx context.Context, key types.NamespacedName) (again time.Duration, err error) {
	pod, err := r.pods.Pods(key.Namespace).Get(key.Name)
	if apierrors.IsNotFound(err) {
		return 0, r.kill(ctx, key) // deleted by force
	}
	if err != nil {
		return 0, err
	}
	l := r.life(key)
	switch {
	case l != nil && l.uid != pod.UID, l != nil && r.isLost(l.node):
		if err := r.kill(ctx, key); err != nil {
			return 0, err
		}
		return time.Millisecond, nil
	case pod.Spec.NodeName == "", r.isLost(pod.Spec.NodeName):
		return 0, nil
	case pod.DeletionTimestamp != nil:
		return 0, r.terminate(ctx, key, pod)
	case l == nil:
		return r.launch(ctx, key, pod)
	default:
		return r.observe(ctx, key, pod, l)
	}
}

// launch starts the workload. An unbound predecessor of the same name has ended by
// now: name, address and data have one user at a time.
func (r *Runner) launch(ctx context.Context, key types.NamespacedName, pod *corev1.Pod) (time.Duration, error) {
	work, address, err := r.start(ctx, pod)
	if err != nil {
		return 0, fmt.Errorf("start pod %s: %w", key, err)
	}
	l := &life{uid: pod.UID, node: pod.Spec.NodeName, work: work, address: address}
	r.mu.Lock()
	r.lives[key] = l
	r.mu.Unlock()
	return r.observe(ctx, key, pod, l)
}

// observe reports a workload's readiness where it changed, and starts one that
// ended anew: restartPolicy Always.
func (r *Runner) observe(ctx context.Context, key types.NamespacedName, pod *corev1.Pod, l *life) (time.Duration, error) {
	if l.work == nil {
		return 0, r.tell(ctx, pod, l, true)
	}
	select {
	case <-l.work.Done():
		if err := r.tell(ctx, pod, l, false); err != nil {
			return 0, err
		}
		return readinessPeriod, r.kill(ctx, key)
	default:
	}
	ask, cancel := context.WithTimeout(ctx, 2*time.Second)
	ready := l.work.Ready(ask) == nil
	cancel()
	if err := r.tell(ctx, pod, l, ready); err != nil {
		return 0, err
	}
	return readinessPeriod, nil
}

// terminate stops the workload within the pod's grace, and says that it is gone.
func (r *Runner) terminate(ctx context.Context, key types.NamespacedName, pod *corev1.Pod) error {
	if l := r.life(key); l != nil && l.work != nil {
		grace := time.Duration(ptr.Deref(pod.DeletionGracePeriodSeconds, 30)) * time.Second
		stop, cancel := context.WithTimeout(ctx, grace)
		err := l.work.Stop(stop)
		cancel()
		if err != nil {
			return fmt.Errorf("stop pod %s: %w", key, err)
		}
	}
	r.forget(key)
	client, err := r.as(pod.Spec.NodeName)
	if err != nil {
		return err
	}
	options := metav1.NewDeleteOptions(0)
	options.Preconditions = metav1.NewUIDPreconditions(string(pod.UID))
	err = client.CoreV1().Pods(key.Namespace).Delete(ctx, key.Name, *options)
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return fmt.Errorf("delete pod %s: %w", key, err)
	}
	return nil
}

// tell writes the pod's status where it changed.
func (r *Runner) tell(ctx context.Context, pod *corev1.Pod, l *life, ready bool) error {
	if l.told && l.ready == ready {
		return nil
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": pod.UID}, "status": podStatus(pod, l.address, ready)})
	if err != nil {
		return err
	}
	client, err := r.as(pod.Spec.NodeName)
	if err != nil {
		return err
	}
	_, err = client.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil // gone, or another pod of its name: its event is on the way
	}
	if err != nil {
		return fmt.Errorf("report pod %s: %w", pod.Name, err)
	}
	l.told, l.ready = true, ready
	return nil
}

func podStatus(pod *corev1.Pod, address string, ready bool) corev1.PodStatus {
	now, is := metav1.Now(), corev1.ConditionFalse
	if ready {
		is = corev1.ConditionTrue
	}
	status := corev1.PodStatus{
		Phase: corev1.PodRunning, PodIP: address, PodIPs: []corev1.PodIP{{IP: address}}, StartTime: &now,
		Conditions: []corev1.PodCondition{
			{Type: corev1.PodInitialized, Status: corev1.ConditionTrue, LastTransitionTime: now},
			{Type: corev1.ContainersReady, Status: is, LastTransitionTime: now},
			{Type: corev1.PodReady, Status: is, LastTransitionTime: now},
		},
	}
	for _, container := range pod.Spec.Containers {
		status.ContainerStatuses = append(status.ContainerStatuses, corev1.ContainerStatus{
			Name: container.Name, Image: container.Image, Ready: ready, Started: new(true),
			State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: now}},
		})
	}
	return status
}

// kill ends a workload without grace.
func (r *Runner) kill(ctx context.Context, key types.NamespacedName) error {
	l := r.life(key)
	if l != nil && l.work != nil {
		now, cancel := context.WithCancel(ctx)
		cancel()
		if err := l.work.Stop(now); err != nil {
			return fmt.Errorf("kill pod %s: %w", key, err)
		}
	}
	r.forget(key)
	return nil
}

func (r *Runner) life(key types.NamespacedName) *life {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lives[key]
}

func (r *Runner) forget(key types.NamespacedName) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.lives, key)
}

func (r *Runner) isLost(node string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lost[node]
}

func (r *Runner) enqueueNode(node string) {
	pods, err := r.pods.List(labels.Everything())
	if err != nil {
		return // a cache does not fail
	}
	for _, pod := range pods {
		if pod.Spec.NodeName == node {
			r.enqueue(pod)
		}
	}
}

// renewLease is one heartbeat of a node.
func (c *ControlPlane) renewLease(ctx context.Context, node string) error {
	leases := c.Client.CoordinationV1().Leases(corev1.NamespaceNodeLease)
	now := metav1.NewMicroTime(time.Now())
	patch, err := json.Marshal(map[string]any{"spec": coordinationv1.LeaseSpec{RenewTime: &now, HolderIdentity: &node}})
	if err != nil {
		return err
	}
	_, err = leases.Patch(ctx, node, types.MergePatchType, patch, metav1.PatchOptions{})
	if apierrors.IsNotFound(err) {
		_, err = leases.Create(ctx, &coordinationv1.Lease{
			ObjectMeta: metav1.ObjectMeta{Name: node},
			Spec:       coordinationv1.LeaseSpec{HolderIdentity: &node, RenewTime: &now, LeaseDurationSeconds: new(int32(40))},
		}, metav1.CreateOptions{})
	}
	if err != nil {
		return fmt.Errorf("renew lease of node %s: %w", node, err)
	}
	return nil
}
