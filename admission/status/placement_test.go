package status

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	cachetesting "k8s.io/client-go/tools/cache/testing"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/quorate/quorate/ensemble/membership"
	"github.com/quorate/quorate/ensemble/probe"
	"github.com/quorate/quorate/ensemble/v1alpha1"
)

// healthy is an Examiner of ensembles that are well.
type healthy struct{}

func (healthy) Examine(_ context.Context, e *v1alpha1.Ensemble, pods []corev1.Pod) probe.View {
	return view(e, pods, "leader follower follower")
}

// told are the Events of a test.
type told []string

func (e *told) Eventf(_, _ runtime.Object, kind, reason, _, note string, args ...any) {
	*e = append(*e, kind+" "+reason+": "+fmt.Sprintf(note, args...))
}

// zones is a cluster whose nodes are one to a zone.
type zones struct {
	nodes *cachetesting.FakeControllerSource
}

func zone(name string) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelTopologyZone: name}}}
}

// informer of the zones and the ensemble.
func (z *zones) informer(t *testing.T, e *v1alpha1.Ensemble) *membership.Informer {
	t.Helper()
	ensembles := cachetesting.NewFakeControllerSource()
	ensembles.Add(e.DeepCopy())
	return membership.NewInformer(membership.Sources{
		Ensembles: ensembles, Nodes: z.nodes, Pods: cachetesting.NewFakeControllerSource(), StatefulSets: cachetesting.NewFakeControllerSource(),
		Claims: cachetesting.NewFakeControllerSource(), Volumes: cachetesting.NewFakeControllerSource(),
	}, nil)
}

// An ensemble that has no safe placement is told so by one Event with the arithmetic,
// each time that it comes to be.
func TestInfeasiblePlacementIsTold(t *testing.T) {
	e, pods := ensemble(3, 3)
	e.Spec.Topology = []v1alpha1.TopologyLevel{{TopologyKey: corev1.LabelTopologyZone, WhenUnsatisfiable: v1alpha1.DoNotSchedule}}
	z := &zones{cachetesting.NewFakeControllerSource()}
	z.nodes.Add(zone("a"))
	z.nodes.Add(zone("b"))
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{v1alpha1.AddToScheme, corev1.AddToScheme, policyv1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	c := fake.NewClientBuilder().WithScheme(scheme).WithStatusSubresource(e).WithObjects(e, &pods[0], &pods[1], &pods[2]).Build()
	events := &told{}
	r := &Reconciler{Client: c, Reader: c, Examiner: healthy{}, Membership: z.informer(t, e), Events: events, Pace: Pace{Write: time.Nanosecond}}
	if err := r.Prepare(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Membership.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})

	reconcile := func(nodes int) {
		t.Helper()
		await(t, func() bool { return len(shown(r.Membership.Snapshot())) == nodes })
		for range 2 { // the second look finds nothing new
			if _, err := r.Reconcile(ctx, ctrl.Request{NamespacedName: client.ObjectKeyFromObject(e)}); err != nil {
				t.Fatal(err)
			}
		}
	}
	want := func(times int) {
		t.Helper()
		warnings := slices.DeleteFunc(slices.Clone(*events), func(e string) bool { return !strings.HasPrefix(e, "Warning PlacementInfeasible: ") })
		if len(warnings) != times || !strings.Contains(warnings[0], "3 voters over 2 zones (a, b)") {
			t.Errorf("got %q, want %d Events with the arithmetic", *events, times)
		}
	}
	reconcile(2)
	want(1)
	z.nodes.Add(zone("c"))
	reconcile(3)
	want(1)
	z.nodes.Delete(zone("c"))
	reconcile(2)
	want(2)
}

// shown are the zones of the snapshot.
func shown(s *membership.Snapshot) (names []membership.Domain) {
	if s == nil {
		return nil
	}
	for d := range s.Domains(membership.Level{Key: corev1.LabelTopologyZone}) {
		names = append(names, d)
	}
	return names
}

func await(t *testing.T, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(time.Minute); !condition(); {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("the condition did not come true within a minute")
		}
	}
}
