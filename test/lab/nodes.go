package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Node is a node of the lab: an object that pods are scheduled to.
type Node struct {
	Name string
	// Zone is its topology.kubernetes.io/zone. Empty: it bears no such label.
	Zone string
	// Labels are added to those of host and zone.
	Labels map[string]string
	// Capacity it has to give, all of it allocatable. Default: 8 CPUs, 32Gi, 110 pods.
	Capacity corev1.ResourceList
}

// Hosts are n nodes in each of the zones: a-1, a-2, ... b-1, ...
func Hosts(n int, zones ...string) []Node {
	var nodes []Node
	for _, zone := range zones {
		for i := range n {
			nodes = append(nodes, Node{Name: fmt.Sprintf("%s-%d", zone, i+1), Zone: zone})
		}
	}
	return nodes
}

// parallelWrites keeps thousands of writes short without drowning a small machine.
const parallelWrites = 24

// CreateNodes makes nodes that are ready and bear no taint.
func (c *ControlPlane) CreateNodes(ctx context.Context, nodes ...Node) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallelWrites)
	for _, node := range nodes {
		group.Go(func() error {
			_, err := c.Client.CoreV1().Nodes().Create(ctx, node.object(), metav1.CreateOptions{})
			if err != nil {
				return fmt.Errorf("create node %s: %w", node.Name, err)
			}
			return nil
		})
	}
	return group.Wait()
}

func (n Node) object() *corev1.Node {
	labels := map[string]string{
		corev1.LabelHostname: n.Name, corev1.LabelOSStable: "linux", corev1.LabelArchStable: "amd64",
	}
	if n.Zone != "" {
		labels[corev1.LabelTopologyZone] = n.Zone
		labels[corev1.LabelTopologyRegion] = "lab"
	}
	maps.Copy(labels, n.Labels)
	capacity := n.Capacity
	if capacity == nil {
		capacity = corev1.ResourceList{
			corev1.ResourceCPU:    resource.MustParse("8"),
			corev1.ResourceMemory: resource.MustParse("32Gi"),
			corev1.ResourcePods:   resource.MustParse("110"),
		}
	}
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: n.Name, Labels: labels},
		Status: corev1.NodeStatus{
			Capacity: capacity, Allocatable: capacity,
			Conditions: []corev1.NodeCondition{readiness(corev1.ConditionTrue)},
			NodeInfo:   corev1.NodeSystemInfo{KubeletVersion: KubernetesVersion, OperatingSystem: "linux", Architecture: "amd64"},
		},
	}
}

func readiness(status corev1.ConditionStatus) corev1.NodeCondition {
	now := metav1.Now()
	reason := map[corev1.ConditionStatus]string{corev1.ConditionTrue: "KubeletReady", corev1.ConditionUnknown: "NodeStatusUnknown"}[status]
	return corev1.NodeCondition{
		Type: corev1.NodeReady, Status: status, Reason: reason, LastHeartbeatTime: now, LastTransitionTime: now,
	}
}

// LoseNodes makes nodes look as the node lifecycle controller leaves those that it
// has not heard of for long: ready Unknown, and tainted unreachable. Their pods stay
// bound, as in a real cluster. A Runner has to be told itself (Lose).
func (c *ControlPlane) LoseNodes(ctx context.Context, names ...string) error {
	return c.eachNode(ctx, names, corev1.ConditionUnknown, []corev1.Taint{
		{Key: corev1.TaintNodeUnreachable, Effect: corev1.TaintEffectNoSchedule},
		{Key: corev1.TaintNodeUnreachable, Effect: corev1.TaintEffectNoExecute},
	})
}

// RecoverNodes undoes LoseNodes.
func (c *ControlPlane) RecoverNodes(ctx context.Context, names ...string) error {
	return c.eachNode(ctx, names, corev1.ConditionTrue, []corev1.Taint{})
}

func (c *ControlPlane) eachNode(ctx context.Context, names []string, ready corev1.ConditionStatus, taints []corev1.Taint) error {
	status, err := json.Marshal(map[string]any{"status": map[string]any{"conditions": []corev1.NodeCondition{readiness(ready)}}})
	if err != nil {
		return err
	}
	spec, err := json.Marshal(map[string]any{"spec": map[string]any{"taints": taints}})
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallelWrites)
	for _, name := range names {
		group.Go(func() error {
			nodes := c.Client.CoreV1().Nodes()
			if _, err := nodes.Patch(ctx, name, types.StrategicMergePatchType, status, metav1.PatchOptions{}, "status"); err != nil {
				return fmt.Errorf("set readiness of node %s: %w", name, err)
			}
			// Taints as a whole: a strategic merge would keep those that are to go.
			if _, err := nodes.Patch(ctx, name, types.MergePatchType, spec, metav1.PatchOptions{}); err != nil {
				return fmt.Errorf("set taints of node %s: %w", name, err)
			}
			return nil
		})
	}
	return group.Wait()
}

// DeleteNodes removes nodes as a cloud does whose machines are gone, and their
// pods with them, as the pod garbage collector does a minute later.
func (c *ControlPlane) DeleteNodes(ctx context.Context, names ...string) error {
	for _, name := range names {
		if err := c.Client.CoreV1().Nodes().Delete(ctx, name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("delete node %s: %w", name, err)
		}
	}
	return c.ForgetPods(ctx, names...)
}

// ForgetPods force-deletes the pods that are bound to nodes which will not answer.
func (c *ControlPlane) ForgetPods(ctx context.Context, nodes ...string) error {
	gone := map[string]bool{}
	for _, name := range nodes {
		gone[name] = true
	}
	pods, err := c.Client.CoreV1().Pods("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list pods: %w", err)
	}
	for _, pod := range pods.Items {
		if !gone[pod.Spec.NodeName] {
			continue
		}
		err := c.Client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, *metav1.NewDeleteOptions(0))
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("delete pod %s: %w", pod.Name, err)
		}
	}
	return nil
}

// Heartbeat renews the leases of nodes every period until ctx ends, as kubelets do:
// what NodeLifecycle needs. It returns when ctx ends, or with the first error.
func (c *ControlPlane) Heartbeat(ctx context.Context, period time.Duration, names ...string) error {
	tick := time.NewTicker(period)
	defer tick.Stop()
	for {
		group, beat := errgroup.WithContext(ctx)
		group.SetLimit(parallelWrites)
		for _, name := range names {
			group.Go(func() error { return c.renewLease(beat, name) })
		}
		if err := group.Wait(); err != nil && ctx.Err() == nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
