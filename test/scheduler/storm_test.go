package scheduler

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	extenderv1 "k8s.io/kube-scheduler/extender/v1"

	"github.com/quorate/quorate/ensemble/membership"
	"github.com/quorate/quorate/extender"
	"github.com/quorate/quorate/test/lab"
)

// storm is 60 ensembles created at once, all pods in parallel, while bindings are
// slow, fail and land late.
type storm struct {
	name    string
	seed    uint64
	count   int
	address string
	// standby is the address of a second extender, beside a second scheduler that takes
	// over midway, once the first was killed.
	standby string
	// midway is called while it blows, once half of the pods are bound.
	midway func()
	// patience until then, and limit for all to be bound once faults have ended.
	patience, limit time.Duration
}

func votersOf(ensemble string) int { return 3 + 2*(int(ensemble[len(ensemble)-1]-'0')%2) }

// blow runs it. The map is about safety, the error about progress. Of every tenth
// ensemble one pod's bindings fail until all others are bound.
func (s storm) blow(t *testing.T) (map[string][]string, error) {
	t.Helper()
	ns := namespace(t, s.name)
	f := startFaults(t, plane, s.seed)
	f.doomed = func(path string) bool { return strings.Contains(path, "7-0/") }
	o := startOracle(t, plane, ns, zoneOf, votersOf)
	first := s.schedule(t, f)
	doomed := 0
	var pods []*corev1.Pod
	for i := range s.count {
		name := fmt.Sprintf("e%02d", i)
		if strings.HasSuffix(name, "7") {
			doomed++
		}
		createEnsemble(t, ns, name, int32(votersOf(name)))
		for k := range votersOf(name) {
			pods = append(pods, apart(memberPod(ns, name, k)))
		}
	}
	createPods(t, pods...)
	if err := o.awaitBound(t.Context(), len(pods)/2, s.patience); err != nil {
		return o.verdict(), err
	}
	if s.midway != nil {
		s.midway()
	}
	if s.standby != "" {
		if err := first.Kill(); err != nil {
			return nil, err
		}
	}
	f.calm()
	if err := o.awaitBound(t.Context(), len(pods)-doomed, s.limit); err != nil {
		return o.verdict(), fmt.Errorf("beside pods whose bindings always fail: %w", err)
	}
	f.end()
	err := o.awaitBound(t.Context(), len(pods), s.limit)
	t.Logf("%s: %d ensembles, %d pods; bindings %v; %d ensembles unsafe", s.name, s.count, len(pods), f.counts, len(o.verdict()))
	return o.verdict(), err
}

// schedule starts the scheduler, and the second one once the first leads.
func (s storm) schedule(t *testing.T, f *faults) (first *lab.Scheduler) {
	t.Helper()
	if s.standby == "" {
		return runScheduler(t, "scheduler-"+s.name, s.name, s.address, f, nil)
	}
	lease := s.lease()
	first = runScheduler(t, "scheduler-"+s.name, s.name, s.address, f, lease)
	if err := lab.Await(t.Context(), time.Minute, "the first scheduler to lead", func(ctx context.Context) error {
		_, err := plane.Client.CoordinationV1().Leases(lease.Namespace).Get(ctx, lease.Name, metav1.GetOptions{})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	runScheduler(t, "scheduler-"+s.name+"-standby", s.name, s.standby, f, lease)
	return first
}

// lease that two schedulers are elected by.
func (s storm) lease() *types.NamespacedName {
	return &types.NamespacedName{Namespace: metav1.NamespaceSystem, Name: s.name}
}

const ensemblesAtOnce = 60

func TestStorm(t *testing.T) {
	t.Parallel()
	runs, violations := 2, 0
	if os.Getenv("QUORATE_CHAOS") != "" {
		runs = 20
		t.Run("as shipped", asShipped)
	}
	for i := range runs {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			p := startExtender(t, "127.0.0.1:0")
			s := storm{name: fmt.Sprintf("storm-%d", i), seed: uint64(i), count: ensemblesAtOnce, address: p.address, patience: 2 * time.Minute, limit: 90 * time.Second}
			if i%2 == 1 {
				s.midway = func() { // the extender starts anew, and remembers nothing
					p.stop()
					startExtender(t, p.address)
				}
			}
			violations += judge(t, s)
		})
	}
	t.Logf("chaos: placement runs=%d violations=%d", runs, violations)
}

// asShipped is a storm in which the extender starts anew midway, with the timing that is
// shipped.
func asShipped(t *testing.T) {
	p := runExtender(t, "127.0.0.1:0", extender.Timing{}, nil)
	judge(t, storm{name: "shipped", seed: 3, count: ensemblesAtOnce, address: p.address, patience: 2 * time.Minute, limit: 90 * time.Second, midway: func() {
		p.stop()
		runExtender(t, p.address, extender.Timing{}, nil)
	}})
}

// TestStormTakenOver is a storm in which the scheduler is killed midway, and another
// one, with an extender of its own, takes over.
func TestStormTakenOver(t *testing.T) {
	t.Parallel()
	s := storm{name: "taken-over", seed: 4, count: ensemblesAtOnce, patience: 2 * time.Minute, limit: 90 * time.Second}
	s.address = runExtender(t, "127.0.0.1:0", timing, s.lease()).address
	s.standby = runExtender(t, "127.0.0.1:0", timing, s.lease()).address
	judge(t, s)
}

// judge a storm: no ensemble may ever be unsafe, and all pods must be bound.
func judge(t *testing.T, s storm) (violations int) {
	t.Helper()
	unsafe, err := s.blow(t)
	if err != nil {
		t.Error(err)
	}
	for name, moments := range unsafe {
		t.Errorf("%s: unsafe: %v", name, moments)
	}
	return len(unsafe)
}

// TestStormCatchesNaive makes sure that the storm finds what it looks for.
func TestStormCatchesNaive(t *testing.T) {
	t.Parallel()
	informer := membership.NewInformer(membership.SourcesOf(plane.Client, ensembles), nil)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- informer.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	server := control(t, func(pod *corev1.Pod, names []string) extender.Answer {
		s := informer.Snapshot()
		e, ok := s.Of(pod.Namespace, pod.Labels)
		if !ok {
			return extender.Answer{Outcome: extender.Unknown}
		}
		for i := range e.Members {
			if e.Members[i].UID == pod.UID {
				return extender.Filter(s, e, extender.Candidate{Member: i}, names, func(*membership.Member) extender.Claim { return extender.Claim{} })
			}
		}
		return extender.Answer{Outcome: extender.Unknown}
	})
	if err := lab.Await(t.Context(), time.Minute, "the informer", func(context.Context) error {
		if !informer.HasSynced() {
			return errNotSynced
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	unsafe, err := storm{name: "naive", seed: 1, count: ensemblesAtOnce, address: server, patience: 2 * time.Minute, limit: 90 * time.Second}.blow(t)
	if err != nil {
		t.Error(err)
	}
	if len(unsafe) < ensemblesAtOnce/4 {
		t.Errorf("unsafe ensembles: got %d of %d, want a quarter at least: the storm is too mild", len(unsafe), ensemblesAtOnce)
	}
}

var errNotSynced = fmt.Errorf("not synced")

// TestStormCatchesRefusal makes sure that safety alone does not pass.
func TestStormCatchesRefusal(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	server := control(t, func(*corev1.Pod, []string) extender.Answer {
		asked.Add(1)
		return extender.Answer{Outcome: extender.Held}
	})
	unsafe, err := storm{name: "refusal", seed: 1, count: ensemblesAtOnce, address: server, patience: 10 * time.Second}.blow(t)
	if err == nil || len(unsafe) > 0 {
		t.Errorf("got %v and unsafe ensembles %v where everything is refused, want no progress and none", err, unsafe)
	}
	if asked.Load() == 0 {
		t.Error("the extender was not asked")
	}
}

// control serves an extender that is not ours.
func control(t testing.TB, answer func(*corev1.Pod, []string) extender.Answer) (address string) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		args := &extenderv1.ExtenderArgs{}
		if err := json.NewDecoder(r.Body).Decode(args); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if strings.HasSuffix(r.URL.Path, extender.PrioritizeVerb) {
			_, _ = w.Write([]byte("[]"))
			return
		}
		a := answer(args.Pod, *args.NodeNames)
		result := &extenderv1.ExtenderFilterResult{NodeNames: &a.Nodes, FailedAndUnresolvableNodes: a.Reasons()}
		if a.Outcome.Temporary() {
			result.Error = "not now"
		}
		_ = json.NewEncoder(w).Encode(result)
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}
