package admission

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/quorate/quorate/ensemble/probe"
	"github.com/quorate/quorate/ensemble/v1alpha1"
)

// A hole is a history that breaks the promise as soon as one rule is taken out. The
// rules are taken out here, between the guard and its world, never in the guard.
type hole struct {
	// why, in a sentence.
	why string
	// tell is the history.
	tell func(ctx context.Context, s *stage)
	// without takes the rule out.
	without func(s *stage)
}

// stage is a quiet world of three voters in which a history is told step by step.
type stage struct {
	*history
	mutant *mutant
}

// mutant stands between the guard and its world, and passes everything on as long
// as its fields are nil.
type mutant struct {
	*world
	ensembles func(*v1alpha1.Ensemble)
	pods      func(*corev1.Pod)
	update    func(*v1alpha1.Ensemble)
	view      func(*probe.View, []corev1.Pod)
	stale     bool // reads come from a cache that was filled once
	cached    []corev1.Pod
	seen      *probe.View
	after     func() // runs once, after the next look at the members
	timing    Timing
	unbound   bool // the API server does not obey preconditions
}

func (m *mutant) Ensembles(ctx context.Context, namespace string) ([]v1alpha1.Ensemble, error) {
	list, err := m.world.Ensembles(ctx, namespace)
	for i := range list {
		if m.ensembles != nil {
			m.ensembles(&list[i])
		}
	}
	return list, err
}

func (m *mutant) Pods(ctx context.Context, namespace string, s labels.Selector) ([]corev1.Pod, error) {
	list, err := m.world.Pods(ctx, namespace, s)
	if m.stale {
		if m.cached == nil {
			m.cached = list
		}
		list = m.cached
	}
	for i := range list {
		if m.pods != nil {
			m.pods(&list[i])
		}
	}
	return list, err
}

func (m *mutant) Examine(ctx context.Context, e *v1alpha1.Ensemble, pods []corev1.Pod) probe.View {
	v := m.world.Examine(ctx, e, pods)
	if m.stale {
		if m.seen == nil {
			m.seen = &v
		}
		v = *m.seen
	}
	if m.view != nil {
		m.view(&v, pods)
	}
	if f := m.after; f != nil {
		m.after = nil
		f()
	}
	return v
}

func (m *mutant) UpdateStatus(ctx context.Context, e *v1alpha1.Ensemble) error {
	if m.update != nil {
		m.update(e)
	}
	return m.world.UpdateStatus(ctx, e)
}

// newStage is a stage with two replicas, and without the rule that is taken out, if one
// is.
func newStage(t *testing.T, without func(*stage)) *stage {
	w := newWorld(t, 1, 3, 0)
	w.calm, w.slow = true, time.Second
	s := &stage{history: &history{world: w}, mutant: &mutant{world: w}}
	if without != nil {
		without(s)
	}
	s.restartGuard()
	s.restartGuard()
	return s
}

// play tells the history on a fresh stage and returns what the oracle saw.
func (h *hole) play(t *testing.T, mutate bool) (broken []string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var without func(*stage)
		if mutate {
			without = h.without
		}
		s := newStage(t, without)
		ctx, cancel := context.WithCancel(t.Context())
		h.tell(ctx, s)
		cancel()
		s.end()
		broken = s.broken
	})
	return broken
}

// restartGuard adds a replica that remembers nothing.
func (s *stage) restartGuard() {
	g, err := New(Config{Cluster: s.mutant, Examiner: s.mutant, Timing: s.mutant.timing})
	if err != nil {
		s.t.Fatal(err)
	}
	s.replicas = append(s.replicas, &replica{Cluster: s.mutant, guard: g})
}

// promise is a request that was asked, and has not acted yet.
type promise struct {
	Request
	d     Decision
	began time.Time
}

// asked has the request judged by the given replica.
func (s *stage) asked(ctx context.Context, replica, server int, change func(*Request)) promise {
	s.mu.Lock()
	p := s.pods[podName(server)]
	r := Request{UID: "r" + string(rune('a'+s.next()%26)), Verb: Evict, Namespace: "data", Name: podName(server)}
	if p != nil {
		r.PodUID = p.uid
	}
	s.mu.Unlock()
	if change != nil {
		change(&r)
	}
	began := time.Now()
	return promise{r, s.replicas[replica].guard.Judge(ctx, r), began}
}

// lands lets the request act, if it was allowed and its pod is still the one.
func (s *stage) lands(p promise, force bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	pod := s.pods[p.Name]
	if !p.d.Outcome.Allowed() || p.DryRun || pod == nil {
		return
	}
	if !s.mutant.unbound && (p.PodUID != "" && p.PodUID != pod.uid || p.PodVersion != "" && p.PodVersion != pod.version()) {
		return
	}
	s.remove(pod, p.began, force, p.d)
}

// evicted is asked and lands at once.
func (s *stage) evicted(ctx context.Context, server int) {
	s.lands(s.asked(ctx, 0, server, nil), false)
}

// ended has the replica end what grants it can.
func (s *stage) ended(ctx context.Context, replica int) {
	if _, err := s.replicas[replica].guard.Release(ctx, zk); err != nil {
		s.t.Error(err)
	}
}

func (s *stage) pass(ctx context.Context, d time.Duration) { s.wait(ctx, d) }

func bySomeName(r *Request) { r.PodUID = "" }

// until waits for a moment of the world.
func (s *stage) until(ctx context.Context, holds func() bool) {
	for range 100_000 {
		s.mu.Lock()
		ok := holds()
		s.mu.Unlock()
		if ok {
			return
		}
		s.wait(ctx, 20*time.Millisecond)
	}
	s.t.Fatal("the history never got there")
}

// back waits until the server is synced in a pod that is not that one.
func (s *stage) back(ctx context.Context, server int, old *modelPod) {
	s.until(ctx, func() bool {
		p := s.pods[podName(server)]
		return p != nil && p != old && p.proc.synced
	})
}

func (s *stage) first() *modelPod {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pods[podName(0)]
}
