// Package status_test runs the status controller against a real API server: what it
// writes, when it does not, what it leaves alone, and the budget that it keeps.
package status_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/klog/v2"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/quorate/quorate/admission"
	"github.com/quorate/quorate/admission/status"
	"github.com/quorate/quorate/ensemble/probe"
	"github.com/quorate/quorate/ensemble/v1alpha1"
	"github.com/quorate/quorate/test/lab"
)

const (
	manifest = "../../deploy/base/crd/quorate.io_ensembles.yaml"
	patience = 2 * time.Minute
)

var (
	plane  *lab.ControlPlane
	scheme = runtime.NewScheme()
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	ctx, cancel := context.WithTimeout(context.Background(), 25*time.Minute)
	defer cancel()
	err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme))
	if err == nil {
		plane, err = lab.StartControlPlane(ctx, lab.ControlPlaneConfig{Progress: os.Stderr})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer plane.Close()
	for _, args := range [][]string{
		{"apply", "-f", manifest},
		{"wait", "--for=condition=Established", "--timeout=60s", "crd/ensembles.quorate.io"},
	} {
		if out, err := plane.Kubectl(ctx, args...); err != nil {
			fmt.Fprintln(os.Stderr, out, err)
			return 1
		}
	}
	return m.Run()
}

// stage is an Ensemble in a namespace of its own, and what its members say.
type stage struct {
	client   client.Client
	ensemble *v1alpha1.Ensemble
	mu       sync.Mutex // guards below
	health   map[string]string
	looks    int
	events   []string
}

// Examine implements status.Examiner: pods are as health says, the first that is a
// leader told a configuration of all pods.
func (s *stage) Examine(_ context.Context, e *v1alpha1.Ensemble, pods []corev1.Pod) probe.View {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.looks++
	config := &probe.Config{}
	for i := range pods {
		config.Members = append(config.Members, probe.ConfigMember{ServerID: fmt.Sprint(i + 1), Votes: true, Weight: 1})
	}
	var answers []probe.Answer
	for i, t := range probe.Targets(e, pods) {
		a := probe.Answer{Target: t, Heard: true, Serving: true, Role: probe.Follower, ServerID: fmt.Sprint(i + 1), Epoch: 5, At: time.Now()}
		switch s.health[t.Name] {
		case "leader":
			a.Role, a.Config = probe.Leader, config
		case "syncing":
			a.Serving, a.State = false, "following - synchronization"
		}
		answers = append(answers, a)
	}
	return probe.Judge(answers, probe.Rules{}, time.Now())
}

// Eventf implements admission.Recorder.
func (s *stage) Eventf(_, _ runtime.Object, kind, reason, _, note string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, kind+" "+reason+": "+fmt.Sprintf(note, args...))
}

func (s *stage) say(name, health string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.health[name] = health
}

func (s *stage) looked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.looks
}

func (s *stage) told(reason string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.events, func(e string) bool { return strings.Contains(e, reason) })
}

// setUp makes the Ensemble and three pods, and runs a controller for them.
func setUp(t *testing.T, namespace string, pace status.Pace, spec func(*v1alpha1.EnsembleSpec)) *stage {
	t.Helper()
	c, err := client.New(plane.RESTConfig(), client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	s := &stage{client: c, health: map[string]string{"zk-0": "leader"}}
	create(t, c, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}})
	for i := range 3 {
		create(t, c, &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprintf("zk-%d", i), Labels: map[string]string{"app": "zk"}},
			Spec:       corev1.PodSpec{NodeName: fmt.Sprintf("node-%d", i), Containers: []corev1.Container{{Name: "zk", Image: "zk"}}},
		})
	}
	s.ensemble = &v1alpha1.Ensemble{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "zk"},
		Spec:       v1alpha1.EnsembleSpec{Selector: v1alpha1.Selector{MatchLabels: map[string]v1alpha1.LabelValue{"app": "zk"}}, Voters: ptr.To[int32](3)},
	}
	if spec != nil {
		spec(&s.ensemble.Spec)
	}
	create(t, c, s.ensemble)
	s.serve(t, namespace, pace)
	return s
}

func create(t *testing.T, c client.Client, o client.Object) {
	t.Helper()
	if err := c.Create(t.Context(), o); err != nil {
		t.Fatal(err)
	}
}

func (s *stage) serve(t *testing.T, name string, pace status.Pace) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	mgr, err := ctrl.NewManager(plane.RESTConfig(), ctrl.Options{
		Scheme: scheme, Metrics: metricsserver.Options{BindAddress: "0"}, Logger: klog.Background(),
		Controller: config.Controller{SkipNameValidation: new(true)},
	})
	if err != nil {
		t.Fatal(err)
	}
	r := &status.Reconciler{
		Client: mgr.GetClient(), Reader: only{mgr.GetAPIReader(), name}, Examiner: s, Events: s, Pace: pace,
		Timing: admission.Timing{Arm: time.Second},
	}
	if err := r.SetupWithManager(mgr); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// only refuses to list in the namespaces of other tests, whose controllers are theirs.
type only struct {
	client.Reader
	namespace string
}

func (o only) List(ctx context.Context, list client.ObjectList, opts ...client.ListOption) error {
	var lo client.ListOptions
	lo.ApplyOptions(opts)
	if lo.Namespace != o.namespace {
		return fmt.Errorf("namespace %s is another test's", lo.Namespace)
	}
	return o.Reader.List(ctx, list, opts...)
}

func (s *stage) get(ctx context.Context) (*v1alpha1.Ensemble, error) {
	e := &v1alpha1.Ensemble{}
	return e, s.client.Get(ctx, client.ObjectKeyFromObject(s.ensemble), e)
}

// await waits until the Ensemble is as wanted.
func (s *stage) await(t *testing.T, what string, holds func(*v1alpha1.Ensemble) bool) *v1alpha1.Ensemble {
	t.Helper()
	var e *v1alpha1.Ensemble
	err := lab.Await(t.Context(), patience, what, func(ctx context.Context) (err error) {
		if e, err = s.get(ctx); err == nil && !holds(e) {
			err = fmt.Errorf("status is %+v", e.Status)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func (s *stage) awaitLooks(t *testing.T, more int) {
	t.Helper()
	want := s.looked() + more
	err := lab.Await(t.Context(), patience, "more looks", func(context.Context) error {
		if n := s.looked(); n < want {
			return fmt.Errorf("%d looks of %d", n, want)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func synced(n int32) func(*v1alpha1.Ensemble) bool {
	return func(e *v1alpha1.Ensemble) bool { return e.Status.Synced != nil && *e.Status.Synced == n }
}

var quick = status.Pace{Every: 100 * time.Millisecond, Most: 200 * time.Millisecond, Write: time.Millisecond}

// The status is written, by our own field manager; what others wrote stays; what
// does not change is not written again, however often it is looked at.
func TestStatusIsWrittenWhenItChanges(t *testing.T) {
	s := setUp(t, "written", quick, nil)
	e := s.await(t, "three in sync, and the guard armed", func(e *v1alpha1.Ensemble) bool { return synced(3)(e) && admission.Armed(e) })
	if *e.Status.Voters != 3 || *e.Status.Quorum != 2 || *e.Status.DisruptionsAllowed != 1 || len(e.Status.Members) != 3 || e.Status.ObservedGeneration != e.Generation {
		t.Errorf("status is %+v", e.Status)
	}
	if m := e.Status.Members[0]; m.Name != "zk-0" || m.Role != "Leader" || !m.Votes || m.Node != "node-0" || m.Health != "Synced" {
		t.Errorf("member is %+v", m)
	}
	if !slices.ContainsFunc(e.ManagedFields, func(f metav1.ManagedFieldsEntry) bool {
		return f.Manager == status.FieldManager && f.Operation == metav1.ManagedFieldsOperationApply && f.Subresource == "status"
	}) {
		t.Errorf("field managers are %+v", e.ManagedFields)
	}

	e.Status.Grants = []v1alpha1.Grant{{PodUID: "gone", Name: "zk-9", Since: metav1.Now()}}
	if err := s.client.Status().Update(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	version := e.ResourceVersion
	s.awaitLooks(t, 10)
	if e, err := s.get(t.Context()); err != nil || e.ResourceVersion != version {
		t.Errorf("written again although nothing changed: %v", err)
	}

	s.say("zk-2", "syncing")
	e = s.await(t, "one to be seen resyncing", synced(2))
	if len(e.Status.Grants) != 1 || !admission.Armed(e) {
		t.Errorf("grants and guard are not ours to touch: %+v", e.Status)
	}
	if m := e.Status.Members[2]; m.Health != "NotSynced" || !strings.Contains(m.Reason, "following - synchronization") {
		t.Errorf("member is %+v", m)
	}
	s.say("zk-1", "syncing")
	s.await(t, "the quorum to be lost", func(e *v1alpha1.Ensemble) bool {
		c := e.Status.Conditions[0]
		return c.Type == v1alpha1.ConditionQuorate && c.Status == metav1.ConditionFalse
	})
	if !s.told("Warning QuorumLost") {
		t.Errorf("events are %q", s.events)
	}
	s.say("zk-1", "")
	s.await(t, "it to be back", synced(2))
	if !s.told("QuorumRestored") {
		t.Errorf("events are %q", s.events)
	}
}

// Two changes in a row are one write, a while later.
func TestStatusIsWrittenSeldom(t *testing.T) {
	pace := quick
	pace.Write = time.Hour
	s := setUp(t, "seldom", pace, nil)
	e := s.await(t, "the first write, and the guard armed", func(e *v1alpha1.Ensemble) bool { return synced(3)(e) && admission.Armed(e) })
	s.say("zk-2", "syncing")
	s.awaitLooks(t, 5)
	if now, err := s.get(t.Context()); err != nil || now.ResourceVersion != e.ResourceVersion {
		t.Errorf("written twice within an hour: %v", err)
	}
}

// The budget is made where nobody has one, follows the quorum, and goes when somebody
// else makes one: two for a pod break its eviction.
func TestBudgetStepsBack(t *testing.T) {
	s := setUp(t, "budget", quick, func(spec *v1alpha1.EnsembleSpec) { spec.Disruption.PodDisruptionBudget = "Adopt" })
	budgets := func(ctx context.Context) (names []string, err error) {
		var list policyv1.PodDisruptionBudgetList
		err = s.client.List(ctx, &list, client.InNamespace("budget"))
		for _, b := range list.Items {
			names = append(names, fmt.Sprintf("%s %s %s", b.Name, b.Spec.MinAvailable, ptr.Deref(b.Spec.UnhealthyPodEvictionPolicy, policyv1.IfHealthyBudget)))
		}
		return names, err
	}
	awaitBudgets := func(want ...string) {
		t.Helper()
		if err := lab.Await(t.Context(), patience, strings.Join(want, ", "), func(ctx context.Context) error {
			got, err := budgets(ctx)
			if err == nil && !slices.Equal(got, want) {
				err = fmt.Errorf("budgets are %q", got)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	awaitBudgets("quorate-zk 2 AlwaysAllow")
	theirs := &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Namespace: "budget", Name: "chart"},
		Spec:       policyv1.PodDisruptionBudgetSpec{MinAvailable: new(intstr.FromInt32(1)), Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "zk"}}},
	}
	create(t, s.client, theirs)
	awaitBudgets("chart 1 IfHealthyBudget")
	if !s.told("BudgetWithdrawn") {
		t.Errorf("events are %q", s.events)
	}
	if err := s.client.Delete(t.Context(), theirs); err != nil {
		t.Fatal(err)
	}
	awaitBudgets("quorate-zk 2 AlwaysAllow")
	e, err := s.get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	patch := client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"disruption":{"podDisruptionBudget":"None"}}}`))
	if err := s.client.Patch(t.Context(), e, patch); err != nil {
		t.Fatal(err)
	}
	awaitBudgets()
}
