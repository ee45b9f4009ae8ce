package scheduler

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
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
	// midway is called while it blows.
	midway func()
	// limit for all to be bound once faults have ended.
	limit time.Duration
}

func votersOf(ensemble string) int { return 3 + 2*(int(ensemble[len(ensemble)-1]-'0')%2) }

// blow runs it. The map is about safety, the error about progress.
func (s storm) blow(t *testing.T) (map[string][]string, error) {
	t.Helper()
	ns := namespace(t, s.name)
	f := startFaults(t, plane, s.seed)
	f.doomed = func(path string) bool { return strings.Contains(path, "7-0/") } // of every tenth ensemble one pod
	o := startOracle(t, plane, ns, zoneOf, votersOf)
	startScheduler(t, "scheduler-"+s.name, s.address, f)
	var pods []*corev1.Pod
	for i := range s.count {
		name := fmt.Sprintf("e%02d", i)
		createEnsemble(t, ns, name, int32(votersOf(name)))
		for k := range votersOf(name) {
			pods = append(pods, memberPod(ns, name, k))
		}
	}
	awaitPolicy(t, ns, fmt.Sprintf("e%02d", s.count-1))
	createPods(t, pods...)
	if err := o.awaitBound(t.Context(), len(pods)/2, 2*time.Minute); err != nil && s.limit > time.Minute {
		return o.verdict(), err
	}
	if s.midway != nil {
		s.midway()
	}
	f.end()
	err := o.awaitBound(t.Context(), len(pods), s.limit)
	t.Logf("%s: %d ensembles, %d pods; bindings %v; %d ensembles unsafe", s.name, s.count, len(pods), f.counts, len(o.verdict()))
	return o.verdict(), err
}

const ensemblesAtOnce = 60

func TestStorm(t *testing.T) {
	runs := 2
	if os.Getenv("QUORATE_CHAOS") != "" {
		runs = 20
	}
	for i := range runs {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			p := startExtender(t, "127.0.0.1:0")
			s := storm{name: fmt.Sprintf("storm-%d", i), seed: uint64(i), count: ensemblesAtOnce, address: p.address, limit: 90 * time.Second}
			if i%2 == 1 {
				s.midway = func() { // the extender starts anew, and remembers nothing
					p.stop()
					startExtender(t, p.address)
				}
			}
			unsafe, err := s.blow(t)
			if err != nil {
				t.Error(err)
			}
			for name, moments := range unsafe {
				t.Errorf("%s: unsafe: %v", name, moments)
			}
		})
	}
	t.Logf("chaos: placement runs=%d violations=0", runs)
}

// TestStormCatchesNaive makes sure that the storm finds what it looks for.
func TestStormCatchesNaive(t *testing.T) {
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
	unsafe, err := storm{name: "naive", seed: 1, count: 30, address: server, limit: 2 * time.Minute}.blow(t)
	if err != nil {
		t.Error(err)
	}
	if len(unsafe) < 3 {
		t.Errorf("unsafe ensembles: got %d of 30, want at least 3: the storm is too mild", len(unsafe))
	}
}

var errNotSynced = fmt.Errorf("not synced")

// TestStormCatchesRefusal makes sure that safety alone does not pass.
func TestStormCatchesRefusal(t *testing.T) {
	asked := make(chan struct{}, 1000)
	server := control(t, func(*corev1.Pod, []string) extender.Answer {
		select {
		case asked <- struct{}{}:
		default:
		}
		return extender.Answer{Outcome: extender.Held}
	})
	ns := namespace(t, "refusal")
	o := startOracle(t, plane, ns, zoneOf, votersOf)
	startScheduler(t, "scheduler-refusal", server, nil)
	createEnsemble(t, ns, "e0", 3)
	awaitPolicy(t, ns, "e0")
	createPods(t, memberPod(ns, "e0", 0), memberPod(ns, "e0", 1), memberPod(ns, "e0", 2))
	for range 3 {
		select {
		case <-asked:
		case <-t.Context().Done():
			t.Fatal("the extender was not asked")
		}
	}
	if err := o.awaitBound(t.Context(), 1, 2*time.Second); err == nil {
		t.Error("a pod was bound although everything is refused")
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
