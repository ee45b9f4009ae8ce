package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/quorate/quorate/ensemble/v1alpha1"
	"github.com/quorate/quorate/test/lab"
)

// voterResource is what member pods request, as the shipped policy has it, so that the
// scheduler asks about them.
const voterResource = "quorate.io/voter"

// namespace of the demo's workloads.
const namespace = "default"

// zooKeeper is a StatefulSet as a chart makes it: all members at once.
func zooKeeper(name string, members int32, change func(*corev1.PodSpec)) *appsv1.StatefulSet {
	labels := map[string]string{"app": name}
	spec := corev1.PodSpec{
		TerminationGracePeriodSeconds: new(int64(10)),
		Containers: []corev1.Container{{
			Name: "zookeeper", Image: "zookeeper",
			Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
				corev1.ResourceCPU: resource.MustParse("500m"), corev1.ResourceMemory: resource.MustParse("1Gi"),
			}},
		}},
	}
	change(&spec)
	return &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace},
		Spec: appsv1.StatefulSetSpec{
			Replicas: &members, ServiceName: name, PodManagementPolicy: appsv1.ParallelPodManagement,
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: spec},
		},
	}
}

// unchanged is a chart as it comes: it knows nothing of quorums.
func unchanged(*corev1.PodSpec) {}

// spread is what charts offer instead: topologySpreadConstraints over zones.
func spread(name string) func(*corev1.PodSpec) {
	return func(spec *corev1.PodSpec) {
		spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{
			MaxSkew: 1, TopologyKey: corev1.LabelTopologyZone, WhenUnsatisfiable: corev1.DoNotSchedule,
			LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}},
		}}
	}
}

// twoZones is a cluster of two zones, seen from a pod.
func twoZones(spec *corev1.PodSpec) {
	spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
		RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
			MatchExpressions: []corev1.NodeSelectorRequirement{{
				Key: corev1.LabelTopologyZone, Operator: corev1.NodeSelectorOpIn, Values: zones[:2],
			}},
		}}},
	}}
}

// ensembleOf names the members, and the failure domains that no quorum may depend
// on; none: hosts, and zones where the nodes show enough of them.
func ensembleOf(name string, levels ...v1alpha1.TopologyLevel) *v1alpha1.Ensemble {
	return &v1alpha1.Ensemble{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace},
		Spec: v1alpha1.EnsembleSpec{
			System:   v1alpha1.ZooKeeper,
			Selector: v1alpha1.Selector{MatchLabels: map[string]v1alpha1.LabelValue{"app": v1alpha1.LabelValue(name)}},
			Topology: levels,
		},
	}
}

func (c *cluster) create(ctx context.Context, set *appsv1.StatefulSet) error {
	if _, err := c.Client.AppsV1().StatefulSets(namespace).Create(ctx, set, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("create StatefulSet %s: %w", set.Name, err)
	}
	return nil
}

func (c *cluster) createEnsemble(ctx context.Context, e *v1alpha1.Ensemble) error {
	err := c.ensembles.Post().Namespace(e.Namespace).Resource("ensembles").Body(e).Do(ctx).Error()
	if err != nil {
		return fmt.Errorf("create Ensemble %s: %w", e.Name, err)
	}
	return c.awaitPolicy(ctx, e)
}

// awaitPolicy waits until the API server, which learns of policies and Ensembles a
// moment late, makes voters of the Ensemble's pods.
func (c *cluster) awaitPolicy(ctx context.Context, e *v1alpha1.Ensemble) error {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{GenerateName: e.Name + "-", Labels: map[string]string{"app": e.Name}},
		Spec:       zooKeeper(e.Name, 1, unchanged).Spec.Template.Spec,
	}
	try := metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}
	return lab.Await(ctx, time.Minute, "the policy to see Ensemble "+e.Name, func(ctx context.Context) error {
		made, err := c.Client.CoreV1().Pods(e.Namespace).Create(ctx, pod, try)
		if err != nil {
			return err
		}
		if _, ok := made.Spec.Containers[0].Resources.Requests[voterResource]; !ok {
			return errors.New("pods do not request " + voterResource + " yet")
		}
		return nil
	})
}

// remove deletes a workload and waits until its pods are gone.
func (c *cluster) remove(ctx context.Context, name string) error {
	if _, err := c.Kubectl(ctx, "delete", "statefulset", name, "--cascade=foreground", "--timeout=60s"); err != nil {
		return err
	}
	return nil
}
