package admission

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/quorate/quorate/ensemble/probe"
	"github.com/quorate/quorate/ensemble/v1alpha1"
)

// examinerFunc is an Examiner.
type examinerFunc func(ctx context.Context, e *v1alpha1.Ensemble, pods []corev1.Pod) probe.View

func (f examinerFunc) Examine(ctx context.Context, e *v1alpha1.Ensemble, pods []corev1.Pod) probe.View {
	return f(ctx, e, pods)
}

func newTestRounds(t *testing.T, ex examinerFunc) *rounds {
	t.Helper()
	m, err := newMetrics(nil, NewMemory(1), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return newRounds(ex, m, time.Now)
}

// state of an ensemble and its one pod.
func state(ensemble, pod string) (*v1alpha1.Ensemble, []corev1.Pod) {
	return &v1alpha1.Ensemble{ObjectMeta: metav1.ObjectMeta{UID: "e", ResourceVersion: ensemble}},
		[]corev1.Pod{{ObjectMeta: metav1.ObjectMeta{Name: "zk-0", UID: "p", ResourceVersion: pod}}}
}

// takes is an examiner whose view tells when it began and what it was asked about.
func takes(d time.Duration) examinerFunc {
	return func(ctx context.Context, e *v1alpha1.Ensemble, pods []corev1.Pod) probe.View {
		v := probe.View{At: time.Now(), Reason: e.ResourceVersion + " " + pods[0].ResourceVersion}
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
		}
		return v
	}
}

// What anybody is told was seen after it asked, of what it had read, and in time;
// whoever comes when, and however long the members take.
func TestRoundsBeginAfterAllHaveAsked(t *testing.T) {
	for seed := range uint64(200) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 1))
			var mu sync.Mutex // guards asked
			asked := 0
			took := time.Duration(1+rng.IntN(3000)) * time.Millisecond
			members := takes(took)
			s := newTestRounds(t, func(ctx context.Context, e *v1alpha1.Ensemble, pods []corev1.Pod) probe.View {
				mu.Lock()
				asked++
				mu.Unlock()
				return members(ctx, e, pods)
			})
			const requests = 60
			var wait sync.WaitGroup
			for range requests {
				after, ensemble, pod := time.Duration(rng.IntN(2000))*time.Millisecond, fmt.Sprint(rng.IntN(2)), fmt.Sprint(rng.IntN(2))
				left := leastTime + time.Duration(rng.IntN(4000))*time.Millisecond
				gone := time.Duration(rng.IntN(5000)) * time.Millisecond // the API server hangs up
				wait.Go(func() {
					<-time.After(after)
					ctx, cancel := context.WithTimeout(t.Context(), left)
					defer cancel()
					stop := time.AfterFunc(gone, cancel)
					defer stop.Stop()
					began := time.Now()
					e, pods := state(ensemble, pod)
					v, ok := s.examine(ctx, e, pods)
					switch waited := time.Since(began); {
					case waited > left:
						t.Errorf("seed %d: it took %v of %v", seed, waited, left)
					case !ok && gone > left:
						t.Errorf("seed %d: somebody who had %v was told nothing after %v", seed, left, waited)
					case ok && v.At.Before(began):
						t.Errorf("seed %d: the members were asked %v before the request", seed, began.Sub(v.At))
					case ok && v.Reason != ensemble+" "+pod:
						t.Errorf("seed %d: got what was read as %q, want %q", seed, v.Reason, ensemble+" "+pod)
					}
				})
			}
			wait.Wait()
			if most := 4 * int(2*time.Second/min(took, patience)+2); asked > most { // of four states each
				t.Errorf("seed %d: the members were asked %d times, for %v each, want at most %d", seed, asked, took, most)
			}
			if len(s.waiting)+len(s.running) > 0 {
				t.Errorf("seed %d: %d rounds are left", seed, len(s.waiting)+len(s.running))
			}
		})
	}
}

// Fifty at once are two rounds: that of the first, and that of all who came while it
// was under way.
func TestRoundsAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked, members := 0, takes(100*time.Millisecond)
		s := newTestRounds(t, func(ctx context.Context, e *v1alpha1.Ensemble, pods []corev1.Pod) probe.View {
			asked++
			return members(ctx, e, pods)
		})
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
		defer cancel()
		var wait sync.WaitGroup
		for range 50 {
			wait.Go(func() {
				e, pods := state("1", "1")
				if _, ok := s.examine(ctx, e, pods); !ok {
					t.Error("got nothing")
				}
			})
			synctest.Wait() // the first has begun before the others come
		}
		wait.Wait()
		if asked != 2 {
			t.Errorf("the members were asked %d times for 50 requests, want 2", asked)
		}
	})
}

// Nobody waits for a silent member of a round before for longer than patience.
func TestRoundsDoNotQueueUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestRounds(t, takes(time.Hour))
		var wait sync.WaitGroup
		for range 3 {
			wait.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
				defer cancel()
				e, pods := state("1", "1")
				began := time.Now()
				v, ok := s.examine(ctx, e, pods)
				if !ok || v.At.Sub(began) > patience {
					t.Errorf("got ok=%t and a round that began after %v, want one within %v", ok, v.At.Sub(began), patience)
				}
			})
			synctest.Wait()
		}
		wait.Wait()
	})
}

// A round that panics is a no for all who share it, and the next one is none the worse.
func TestRoundThatPanicsTellsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := true
		s := newTestRounds(t, func(ctx context.Context, e *v1alpha1.Ensemble, pods []corev1.Pod) probe.View {
			<-time.After(time.Millisecond)
			if broken {
				panic("a bug")
			}
			return probe.View{}
		})
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
		defer cancel()
		e, pods := state("1", "1")
		before := &round{done: make(chan struct{})} // both below share the one after it
		s.running[e.UID] = before
		var wait sync.WaitGroup
		oks := make(chan bool, 2)
		for range 2 {
			wait.Go(func() {
				defer func() {
					if recover() != nil {
						oks <- false
					}
				}()
				_, ok := s.examine(ctx, e, pods)
				oks <- ok
			})
			synctest.Wait()
		}
		close(before.done)
		wait.Wait()
		for range 2 {
			if <-oks {
				t.Error("got a view of a round that panicked")
			}
		}
		broken = false
		if _, ok := s.examine(ctx, e, pods); !ok {
			t.Error("got nothing from the round after it")
		}
	})
}

// Members may take half of what is left to the first who must answer: the rest is for what
// is written, and read again.
func TestRoundTakesHalfOfTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestRounds(t, takes(time.Minute)) // for as long as it may
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
		defer cancel()
		e, pods := state("1", "1")
		began := time.Now()
		if _, ok := s.examine(ctx, e, pods); !ok || time.Since(began) != 2*time.Second {
			t.Errorf("got ok=%t after %v, want a view after half of 4 s", ok, time.Since(began))
		}
	})
}

// Who has too little time left is told so, and may try again.
func TestRoundsWantTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, 3, 0)
		w.calm = true
		defer w.end()
		g, err := New(Config{Cluster: w, Examiner: w, Deadline: leastTime})
		if err != nil {
			t.Fatal(err)
		}
		d := g.Judge(t.Context(), Request{UID: "r", Verb: Evict, Namespace: "data", Name: "zk-0", PodUID: w.pods["zk-0"].uid})
		if d.Outcome != DenyContention || d.RetryAfter() == 0 {
			t.Errorf("got %s %q, want %s, to be tried again", d.Outcome, d.Message, DenyContention)
		}
	})
}

// A server that crashed before a request is not taken for synced because somebody
// else asked it before that.
func TestRoundUnderWayIsNotJoined(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, 3, 0)
		w.calm = true
		defer w.end()
		slow := examinerFunc(func(ctx context.Context, e *v1alpha1.Ensemble, pods []corev1.Pod) probe.View {
			v := w.Examine(ctx, e, pods)
			<-time.After(100 * time.Millisecond)
			return v
		})
		g, err := New(Config{Cluster: w, Examiner: slow})
		if err != nil {
			t.Fatal(err)
		}
		ask := func(name string) Request {
			return Request{UID: "for " + name, Verb: Evict, Namespace: "data", Name: name, PodUID: w.pods[name].uid, DryRun: true}
		}
		var wait sync.WaitGroup
		wait.Go(func() { g.Judge(t.Context(), ask("zk-0")) })
		<-time.After(130 * time.Millisecond) // its members have answered
		w.mu.Lock()
		w.pods["zk-1"].proc.synced = false // its pod tells nothing of it
		w.mu.Unlock()
		if d := g.Judge(t.Context(), ask("zk-2")); d.Outcome != DenyUnsafe {
			t.Errorf("got %s %q, want %s: zk-1 is out of sync since before", d.Outcome, d.Message, DenyUnsafe)
		}
		wait.Wait()
	})
}
