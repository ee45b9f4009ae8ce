package membership

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	fake "k8s.io/client-go/tools/cache/testing"

	"github.com/quorate/quorate/ensemble/v1alpha1"
)

// cluster is a source of every kind, to be changed under a running informer.
type cluster struct {
	ensembles, pods, sets, nodes, claims, volumes *fake.FakeControllerSource
}

func newCluster() *cluster {
	return &cluster{
		fake.NewFakeControllerSource(), fake.NewFakeControllerSource(), fake.NewFakeControllerSource(),
		fake.NewFakeControllerSource(), fake.NewFakeControllerSource(), fake.NewFakeControllerSource(),
	}
}

func (c *cluster) sources() Sources {
	return Sources{Ensembles: c.ensembles, Pods: c.pods, StatefulSets: c.sets, Nodes: c.nodes, Claims: c.claims, Volumes: c.volumes}
}

func (c *cluster) add(objects ...runtime.Object) {
	for _, o := range objects {
		switch o := o.(type) {
		case *v1alpha1.Ensemble:
			c.ensembles.Add(o)
		case *corev1.Pod:
			c.pods.Add(o)
		case *appsv1.StatefulSet:
			c.sets.Add(o)
		case *corev1.Node:
			c.nodes.Add(o)
		case *corev1.PersistentVolumeClaim:
			c.claims.Add(o)
		case *corev1.PersistentVolume:
			c.volumes.Add(o)
		}
	}
}

// heard collects what a listener is told.
type heard struct {
	mu      sync.Mutex // guards below
	last    *Snapshot
	changed map[types.NamespacedName]int
}

func (h *heard) listen(s *Snapshot, changed []types.NamespacedName) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last = s
	for _, k := range changed {
		h.changed[k]++
	}
}

// run starts an informer that ends with the test.
func run(t *testing.T, c *cluster) (*Informer, *heard) {
	t.Helper()
	h := &heard{changed: map[types.NamespacedName]int{}}
	i := NewInformer(c.sources(), nil)
	i.Listen(h.listen)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- i.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run ended with %v", err)
		}
	})
	return i, h
}

// await polls until the ensemble zk looks as wanted.
func await(t *testing.T, i *Informer, want string) {
	t.Helper()
	got := ""
	for deadline := time.After(60 * time.Second); ; {
		if s := i.Snapshot(); s != nil {
			if e, ok := s.Get(zk); ok {
				got = picture(e)
			}
			if got == want {
				return
			}
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-deadline:
			t.Fatalf("never came (-want +got)\n%s", cmp.Diff(want, got))
		}
	}
}

// Changes reach the snapshot, whatever kind of object they are of, and only those
// ensembles are told of that they matter to.
func TestInformerFollows(t *testing.T) {
	c := newCluster()
	c.add(zones("a", "b")...)
	c.add(setOf("zk", 3), ensembleOf("zk"), podOf("zk-0", "a1"), setOf("other", 1), ensembleOf("other"), podOf("other-0", "a1"))
	i, h := run(t, c)
	await(t, i, "zk-0 [[a1] [a]]\ndeclared: 3 voters, counts zk-0\n")

	c.add(podOf("zk-1", ""))
	await(t, i, "zk-0 [[a1] [a]]\nzk-1 [[] []]\ndeclared: 3 voters, counts zk-0 zk-1\n")
	c.add(pinned("zk-1", zoneKey, "b")...)
	await(t, i, "zk-0 [[a1] [a]]\nzk-1 [[] [b]]\ndeclared: 3 voters, counts zk-0 zk-1\n")
	c.pods.Modify(podOf("zk-1", "b2"))
	await(t, i, "zk-0 [[a1] [a]]\nzk-1 [[b2] [b]]\ndeclared: 3 voters, counts zk-0 zk-1\n")
	c.pods.Delete(podOf("zk-1", "b2"))
	await(t, i, "zk-0 [[a1] [a]]\nzk-1 absent [[] [b]]\ndeclared: 3 voters, counts zk-0 zk-1\n")
	c.sets.Modify(setOf("zk", 1))
	await(t, i, "zk-0 [[a1] [a]]\ndeclared: 1 voters, counts zk-0\n")
	c.nodes.Modify(nodeOf("a1", "elsewhere"))
	await(t, i, "zk-0 [[a1] [elsewhere]]\ndeclared: 1 voters, counts zk-0\n")

	i.Waiting() // until whoever publishes the last snapshot has told the listeners
	h.mu.Lock()
	defer h.mu.Unlock()
	other := types.NamespacedName{Namespace: "data", Name: "other"}
	if h.changed[other] != 2 { // at first, and when its node was labelled anew
		t.Errorf("the other ensemble changed %d times, want 2", h.changed[other])
	}
	if h.last != i.Snapshot() {
		t.Error("the listener's last snapshot is not the last one")
	}
}

// Nothing is said before everything was listed: an empty snapshot would take every
// member for a stranger.
func TestInformerWaits(t *testing.T) {
	c := newCluster()
	sources := c.sources()
	hold := make(chan struct{})
	sources.Volumes = held{c.volumes, hold}
	i := NewInformer(sources, nil)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- i.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	waitFor(t, func() bool { return cmp.Equal(i.Waiting(), []string{"persistentvolumes"}) })
	if i.HasSynced() || i.Snapshot() != nil {
		t.Error("there is a snapshot although the volumes were not listed")
	}
	close(hold)
	waitFor(t, i.HasSynced)
}

func waitFor(t *testing.T, condition func() bool) {
	t.Helper()
	for deadline := time.After(60 * time.Second); !condition(); {
		select {
		case <-time.After(5 * time.Millisecond):
		case <-deadline:
			t.Fatal("the condition never came true")
		}
	}
}

// A list that lacks an object says that it is gone, and Touch asks for the live
// configuration again.
func TestReplaceAndTouch(t *testing.T) {
	live := &fixed{}
	i := NewInformer(newCluster().sources(), live)
	put := func(name string, objects ...any) {
		for _, r := range i.resources() {
			if r.name == name {
				if err := (&store{i, r}).Replace(objects, ""); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	for _, r := range i.resources() {
		put(r.name)
	}
	put("nodes", nodeOf("a1", "a"))
	put("statefulsets", setOf("zk", 3))
	put("ensembles", ensembleOf("zk"))
	put("pods", podOf("zk-0", "a1"), podOf("zk-1", "a1"))
	await(t, i, "zk-0 [[a1] [a]]\nzk-1 [[a1] [a]]\ndeclared: 3 voters, counts zk-0 zk-1\n")
	before := i.Snapshot()
	put("pods", podOf("zk-1", "a1"))
	await(t, i, "zk-1 [[a1] [a]]\ndeclared: 3 voters, counts zk-1\n")
	if !i.Snapshot().SameNodes(before) {
		t.Error("a pod went, and the nodes are said to be others")
	}
	put("nodes", nodeOf("a1", "a"), nodeOf("b1", "b"))
	if i.Snapshot().SameNodes(before) {
		t.Error("a node came, and the nodes are said to be the same")
	}
	live.config = &Config{Voters: []Voter{{Pod: "zk-1"}}, Next: []Voter{{Pod: "zk-1"}, {Pod: "zk-2"}}}
	i.Touch(zk)
	await(t, i, "zk-1 [[a1] [a]]\nlive: 1 voters, counts zk-1\nlive: 2 voters, counts zk-1\ndeclared: 3 voters, counts zk-1\n")
	put("ensembles")
	if _, ok := i.Snapshot().Get(zk); ok {
		t.Error("the ensemble is still there")
	}
	if _, ok := i.Snapshot().Of("data", map[string]string{"app": "zk"}); ok {
		t.Error("the pod still belongs to it")
	}
	put("pods")
	put("statefulsets")
	if len(i.model.spaces) != 0 || len(i.model.refs) != 0 {
		t.Errorf("%d namespaces and %d references are kept of nothing", len(i.model.spaces), len(i.model.refs))
	}
}

// held lists nothing before hold is closed.
type held struct {
	*fake.FakeControllerSource
	hold chan struct{}
}

func (h held) List(o metav1.ListOptions) (runtime.Object, error) {
	<-h.hold
	return h.FakeControllerSource.List(o)
}

// fixed is a live configuration that the test sets.
type fixed struct{ config *Config }

func (f *fixed) Live(*v1alpha1.Ensemble) *Config { return f.config }
