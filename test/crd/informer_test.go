package crd_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/quorate/quorate/ensemble/membership"
	"github.com/quorate/quorate/ensemble/v1alpha1"
)

// start runs an informer with two keepers, as two extenders would.
func start(t *testing.T) (*membership.Informer, rest.Interface) {
	t.Helper()
	ensembles, err := membership.NewClient(plane.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	i := membership.NewInformer(membership.SourcesOf(plane.Client, ensembles), nil)
	keepers := []*membership.Keeper{membership.NewKeeper(i, ensembles), membership.NewKeeper(i, ensembles)}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1+len(keepers))
	go func() { done <- i.Run(ctx) }()
	for _, k := range keepers {
		go func() { done <- k.Run(ctx) }()
	}
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-done, <-done, <-done); err != nil {
			t.Error(err)
		}
	})
	return i, ensembles
}

func await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.After(2 * time.Minute); !condition(); {
		select {
		case <-time.After(20 * time.Millisecond):
		case <-deadline:
			t.Fatalf("never: %s", what)
		}
	}
}

// An informer on a real API server sees what is there and what changes; keepers
// resolve the topology once, tighten it, and never loosen it.
func TestInformerAndKeeper(t *testing.T) {
	i, ensembles := start(t)
	await(t, "synced", i.HasSynced)
	key := types.NamespacedName{Namespace: "default", Name: "kept"}
	topology := func() string {
		e, ok := i.Snapshot().Get(key)
		if !ok {
			return ""
		}
		return describe(e.Object.Status.Topology)
	}
	node(t, "n1", "a")
	node(t, "n2", "b")
	set(t, "kept", 3)
	if out, err := apply(t, "kept", "{selector: {matchLabels: {app: kept}}}"); err != nil {
		t.Fatal(out, err)
	}
	await(t, "two zones are preferred", func() bool {
		return topology() == "kubernetes.io/hostname=DoNotSchedule topology.kubernetes.io/zone=ScheduleAnyway"
	})
	node(t, "n3", "c")
	await(t, "three zones are protected", func() bool {
		return topology() == "kubernetes.io/hostname=DoNotSchedule topology.kubernetes.io/zone=DoNotSchedule"
	})
	e, _ := i.Snapshot().Get(key)
	stale := e.Object.DeepCopy()
	if err := plane.Client.CoreV1().Nodes().Delete(t.Context(), "n3", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	pod(t, "kept-0", "n1")
	await(t, "the pod is a member, and zones are still protected", func() bool {
		e, ok := i.Snapshot().Get(key)
		return ok && !i.Snapshot().HasNode("n3") && len(e.Members) == 1 && e.Members[0].Node == "n1" &&
			topology() == "kubernetes.io/hostname=DoNotSchedule topology.kubernetes.io/zone=DoNotSchedule"
	})
	kubectl(t, "patch", "ens", "kept", "--type=merge", "-p", `{"spec": {"topology": [{"topologyKey": "rack"}]}}`)
	await(t, "the user's list is what counts", func() bool { return topology() == "rack=DoNotSchedule" })

	err := membership.WriteTopology(t.Context(), ensembles, stale, stale.Status.Topology)
	if !apierrors.IsConflict(err) {
		t.Errorf("a write over what somebody else wrote: %v, want a conflict", err)
	}
	kubectl(t, "delete", "ens", "kept")
	await(t, "it is gone", func() bool { _, ok := i.Snapshot().Get(key); return !ok })
	if err := membership.WriteTopology(t.Context(), ensembles, stale, stale.Status.Topology); err == nil {
		t.Error("a write made an Ensemble that was deleted")
	}
	if out, err := apply(t, "kept", "{selector: {matchLabels: {app: kept}}}"); err != nil {
		t.Fatal(out, err)
	}
	if err := membership.WriteTopology(t.Context(), ensembles, stale, stale.Status.Topology); !apierrors.IsConflict(err) {
		t.Errorf("a write to an Ensemble that was made anew: %v, want a conflict", err)
	}
}

func describe(levels []v1alpha1.TopologyLevel) string {
	var parts []string
	for _, l := range levels {
		parts = append(parts, fmt.Sprintf("%s=%s", l.TopologyKey, l.WhenUnsatisfiable))
	}
	return strings.Join(parts, " ")
}

func node(t *testing.T, name, zone string) {
	t.Helper()
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name, corev1.LabelTopologyZone: zone}}}
	if _, err := plane.Client.CoreV1().Nodes().Create(t.Context(), n, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func set(t *testing.T, name string, replicas int32) {
	t.Helper()
	l := map[string]string{"app": name}
	s := &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: appsv1.StatefulSetSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: l},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: l},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "zk", Image: "zk"}}},
			},
		},
	}
	if _, err := plane.Client.AppsV1().StatefulSets("default").Create(t.Context(), s, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func pod(t *testing.T, name, node string) {
	t.Helper()
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": name[:strings.LastIndex(name, "-")]}},
		Spec:       corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "zk", Image: "zk"}}},
	}
	if _, err := plane.Client.CoreV1().Pods("default").Create(t.Context(), p, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}
