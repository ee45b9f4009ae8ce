package eviction

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/quorate/quorate/admission"
	"github.com/quorate/quorate/test/lab"
)

const (
	// quorum of the five.
	quorum = voters/2 + 1
	// late is for how long a member that comes back in a storm is kept from resyncing:
	// longer than kubectl drain waits between two tries.
	late = 12 * time.Second
)

// long runs take their time: make chaos.
var long = os.Getenv("QUORATE_CHAOS") != ""

// TestGuard tells one story of one cluster, since to start it takes long: first
// without a guard, where the storm must do harm, then with it.
func TestGuard(t *testing.T) {
	r := newRig(t)
	s := sample(t, r.zk.Servers())
	steps := []struct {
		name string
		run  func(*testing.T, *rig, *sampler)
	}{
		{"without the guard a drain storm breaks the quorum", withoutGuard},
		{"the guard starts", func(_ *testing.T, r *rig, _ *sampler) { r.guard(t, 3, 20) }},
		{"requests", requests},
		{"scale-down and rolling update", scaleDown},
		{"drain node by node", nodeByNode},
		{"drain storm", storm},
		{"nothing is blocked while the guard is down", down},
	}
	for _, step := range steps {
		ok := t.Run(step.name, func(t *testing.T) { step.run(t, r, s) })
		if !ok {
			return
		}
	}
}

// withoutGuard is the control: what the usual charts ship is a PodDisruptionBudget
// with maxUnavailable 1, and readiness by ruok.
func withoutGuard(t *testing.T, r *rig, s *sampler) {
	r.behave(memberConfig{late: late, ruok: true})
	r.budget(t, 1)
	ctx, cancel := context.WithCancel(t.Context())
	drains, ctx := errgroup.WithContext(ctx)
	nodes := r.nodes(t)
	for _, node := range nodes {
		drains.Go(func() error {
			_, err := r.plane.Kubectl(ctx, "drain", node, "--timeout=90s")
			return err
		})
	}
	drained := make(chan error, 1)
	go func() { drained <- drains.Wait() }()
	stalled, broke := false, false
	r.await(t, "the storm to do harm", func(context.Context) error {
		select {
		case err := <-drained:
			stalled = err != nil
			drained <- err
		default:
		}
		fewest, _, _ := s.least()
		if broke = fewest < quorum; !broke && !stalled {
			return fmt.Errorf("%d servers counted at the least", fewest)
		}
		return nil
	})
	cancel()
	given := <-drained
	fewest, _, story := s.least()
	t.Logf("without the guard %d of %d servers counted at the least; a drain stalled: %t; given up with %v\n%s", fewest, voters, stalled, given, story)
	r.behave(memberConfig{})
	r.calm(t, s, nodes)
	r.kubectl(t, "delete", "pdb", "zk", "-n", namespace)
}

// nodeByNode drains one node after the other with kubectl drain alone, which waits
// on refusals while members resync: they do not before the third drain was refused.
func nodeByNode(t *testing.T, r *rig, s *sampler) {
	s.restart()
	r.behave(memberConfig{late: untilHealed})
	before := r.decided(t, admission.DenyUnsafe)
	began := time.Now()
	nodes := r.nodes(t)
	if !long {
		nodes = nodes[:3]
	}
	again := make(chan string, 1000)
	refused := make(chan error, 1)
	go func() {
		refused <- lab.Await(t.Context(), 4*time.Minute, "a drain to be refused", func(context.Context) error {
			if r.decided(t, admission.DenyUnsafe) == before {
				return errors.New("none was")
			}
			return nil
		})
		r.behave(memberConfig{})
	}()
	for _, node := range nodes {
		if err := r.drain(t.Context(), node, again); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-refused; err != nil {
		t.Error(err)
	}
	took := time.Since(began)
	r.calm(t, s, nodes)
	onlyUnreached(t, again)
	r.verdict(t, s, fmt.Sprintf("%d nodes drained in %s, %d kubectl runs failed and were run again", len(nodes), took, len(again)))
}

// decided is how many requests had one of these outcomes so far.
func (r *rig) decided(t testing.TB, outcomes ...admission.Outcome) (n int) {
	t.Helper()
	for _, line := range r.judged(t) {
		if slices.ContainsFunc(outcomes, func(o admission.Outcome) bool { return strings.Contains(line, fmt.Sprintf("outcome=%q", o)) }) {
			n++
		}
	}
	return n
}

// onlyUnreached fails for runs of kubectl that ended for something else than that the
// API server had no answer of a replica in time: nothing that we answer makes kubectl
// drain give up.
func onlyUnreached(t *testing.T, failed chan string) {
	t.Helper()
	for range len(failed) {
		why := <-failed
		if !strings.Contains(why, "failed calling webhook") {
			t.Errorf("kubectl drain gave up: %s", why)
		}
		failed <- why
	}
}

// storm drains all nodes at once, while replicas of the guard are killed and paused,
// writes conflict, a PodDisruptionBudget refuses now and then, a server is stopped
// and those that come back resync slowly.
func storm(t *testing.T, r *rig, s *sampler) {
	rounds := 1
	if long {
		rounds = 20
	}
	for round := range rounds {
		stormOnce(t, r, s, round)
	}
}

func stormOnce(t *testing.T, r *rig, s *sampler, round int) {
	r.behave(memberConfig{late: late})
	repeats, refusals := r.decided(t, saidAgain...), r.decided(t, saidNo...)
	nodes := r.nodes(t)
	stopped := r.follower(t)
	if err := stopped.Pause(); err != nil {
		t.Fatal(err)
	}
	s.pause(stopped.ID()-1, true)
	s.restart()
	faults, stop := context.WithCancel(t.Context())
	r.budget(t, 0)
	var chaos errgroup.Group
	chaos.Go(func() error {
		// The budget refuses every yes until one was said again, whenever that is.
		err := lab.Await(t.Context(), 2*time.Minute, "a yes to be said again", func(context.Context) error {
			if r.decided(t, saidAgain...) == repeats {
				return errors.New("none was")
			}
			return nil
		})
		return errors.Join(err, r.moody(faults))
	})
	chaos.Go(func() error { return r.failReplicas(faults, round) })
	chaos.Go(func() error { _ = wait(faults, 10*time.Second); return stopped.Resume() })
	chaos.Go(func() error { _ = wait(faults, 15*time.Second); stop(); return nil })
	drains, ctx := errgroup.WithContext(t.Context())
	again := make(chan string, 1000)
	for _, node := range nodes {
		drains.Go(func() error { return r.drain(ctx, node, again) })
	}
	began := time.Now()
	if err := errors.Join(drains.Wait(), chaos.Wait()); err != nil {
		_, _, story := s.least()
		t.Fatalf("%v\n%s\n%s", err, story, strings.Join(r.judged(t), "\n"))
	}
	took := time.Since(began)
	stop()
	r.behave(memberConfig{})
	r.calm(t, s, nodes)
	onlyUnreached(t, again)
	switch {
	case r.decided(t, saidAgain...) == repeats:
		t.Error("no yes was refused by the PodDisruptionBudget, so that it was asked for again")
	case r.decided(t, saidNo...) == refusals:
		t.Error("no drain was refused")
	case len(r.said(t, conflictInjected)) == 0:
		t.Error("no write was in conflict")
	}
	r.verdict(t, s, fmt.Sprintf("storm of %d drains ended in %s, %d kubectl runs failed and were run again", len(nodes), took, len(again)))
}

var (
	saidAgain = []admission.Outcome{admission.AllowRepeat, admission.DenyRepeats}
	saidNo    = []admission.Outcome{admission.DenyUnsafe, admission.DenyUnknown}
)

// drain runs kubectl drain until it succeeds: a replica that dies in mid-request,
// or answers later than the API server waits, makes it give up.
func (r *rig) drain(ctx context.Context, node string, again chan<- string) error {
	return lab.Await(ctx, 4*time.Minute, "drain of "+node, func(ctx context.Context) error {
		out, err := r.plane.Kubectl(ctx, "drain", node, "--timeout=100s")
		switch {
		case err != nil:
			again <- err.Error()
		case !strings.Contains(out, "drained"):
			return lab.Stop(fmt.Errorf("got %q of kubectl, want it to say drained", out))
		}
		return err
	})
}

// verdict says how few servers counted.
func (r *rig) verdict(t *testing.T, s *sampler, what string) {
	t.Helper()
	fewest, samples, story := s.least()
	if fewest < quorum {
		t.Errorf("%s: got %d servers at the least, want %d:\n%s", what, fewest, quorum, strings.Join(r.judged(t), "\n"))
	}
	t.Logf("%s: at the least %d of %d servers counted, in %d samples; one that counted did not serve for %s at the most\n%s",
		what, fewest, voters, samples, s.idlest(), story)
}

// calm waits until all is well again on nodes that take pods.
func (r *rig) calm(t *testing.T, s *sampler, nodes []string) {
	t.Helper()
	if len(nodes) > 0 {
		r.kubectl(t, append([]string{"uncordon"}, nodes...)...)
	}
	r.await(t, "every server to count", func(context.Context) error { return s.all() })
	r.await(t, "all members to be ready", r.ready)
}

// nodes that members are on.
func (r *rig) nodes(t testing.TB) (nodes []string) {
	t.Helper()
	for i := range voters {
		nodes = append(nodes, r.pod(t, i).Spec.NodeName)
	}
	return nodes
}

func (r *rig) follower(t *testing.T) *lab.Server {
	t.Helper()
	for _, server := range r.zk.Servers() {
		if mode, err := server.Mode(t.Context()); err == nil && mode == "follower" {
			return server
		}
	}
	t.Fatal("no server follows")
	return nil
}

func (r *rig) budget(t testing.TB, unavailable int) {
	t.Helper()
	most := intstr.FromInt(unavailable)
	_, err := r.plane.Client.PolicyV1().PodDisruptionBudgets(namespace).Create(t.Context(), &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Name: "zk", Namespace: namespace},
		Spec: policyv1.PodDisruptionBudgetSpec{
			MaxUnavailable: &most, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "zk"}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

// moody lets the PodDisruptionBudget refuse everything half of the time, and takes it
// away in the end.
func (r *rig) moody(ctx context.Context) error {
	budgets := r.plane.Client.PolicyV1().PodDisruptionBudgets(namespace)
	for n := 1; ; n++ {
		if wait(ctx, 2*time.Second) != nil {
			return budgets.Delete(context.WithoutCancel(ctx), "zk", metav1.DeleteOptions{})
		}
		patch := fmt.Appendf(nil, `{"spec":{"maxUnavailable":%d}}`, n%2*voters)
		if _, err := budgets.Patch(ctx, "zk", types.MergePatchType, patch, metav1.PatchOptions{}); err != nil && ctx.Err() == nil {
			return err
		}
	}
}

// failReplicas pauses one replica and kills another, for good.
func (r *rig) failReplicas(ctx context.Context, round int) error {
	if round == 0 {
		_ = wait(ctx, time.Second)
		if err := r.replicas[0].Kill(); err != nil {
			return err
		}
	}
	_ = wait(ctx, 2*time.Second)
	if err := r.replicas[1].Pause(); err != nil {
		return err
	}
	_ = wait(ctx, 6*time.Second)
	return r.replicas[1].Resume()
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// down deletes the namespace while no replica is left: the namespace controller,
// the kubelets and the garbage collector are not even asked about.
func down(t *testing.T, r *rig, _ *sampler) {
	for _, p := range r.replicas {
		if err := p.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := r.plane.Kubectl(t.Context(), "delete", "pod", "zk-0", "-n", namespace); err == nil || !strings.Contains(out, "failed calling webhook") {
		t.Errorf("got %q and %v of kubectl, want a person to be refused while no guard answers", out, err)
	}
	r.kubectl(t, "delete", "namespace", namespace, "--timeout=240s")
	pods, err := r.plane.Client.CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(pods.Items) > 0 {
		t.Errorf("got %d pods, want none", len(pods.Items))
	}
}
