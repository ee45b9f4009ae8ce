package admission

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/quorate/quorate/ensemble/probe"
	"github.com/quorate/quorate/ensemble/v1alpha1"
)

// A hole is a history that breaks the promise as soon as one rule is taken out. The
// rules are taken out here, between the guard and its world, never in the guard.
type hole struct {
	// why, in a sentence.
	why string
	// voters of the ensemble; 0: three.
	voters int
	// tell is the history.
	tell func(ctx context.Context, s *stage)
	// without takes the rule out.
	without func(s *stage)
}

// stage is a quiet world of a few voters in which a history is told step by step.
type stage struct {
	*history
	mutant *mutant
	said   map[hintKey]Decision // every yes
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
	deadline  time.Duration // the guard's own; 0: the default
	only      string        // the one Ensemble that is shown, if any
	budgets   bool          // there are none to be seen
	hides     bool          // a pod without its labels is not found by its name
	lost      bool          // the next write gets lost, and its answer too
	trusts    bool          // a write without an answer is taken for done
	// What the guard is told of a request.
	unbound bool // nothing bound it, although the guard was told so
	exact   bool // it can hit the pod only as it is
	wet     bool // it is no dry run
	recalls bool // yes again to whoever was told yes once
	apart   bool // it is judged and granted for one Ensemble after the other
}

func (m *mutant) Ensembles(ctx context.Context, namespace string) ([]v1alpha1.Ensemble, error) {
	list, err := m.world.Ensembles(ctx, namespace)
	list = slices.DeleteFunc(list, func(e v1alpha1.Ensemble) bool { return m.only != "" && e.Name != m.only })
	for i := range list {
		if m.ensembles != nil {
			m.ensembles(&list[i])
		}
	}
	return list, err
}

func (m *mutant) Budgets(ctx context.Context, namespace string) ([]policyv1.PodDisruptionBudget, error) {
	list, err := m.world.Budgets(ctx, namespace)
	if m.budgets {
		list = nil
	}
	return list, err
}

func (m *mutant) Pod(ctx context.Context, key types.NamespacedName) (*corev1.Pod, error) {
	p, err := m.world.Pod(ctx, key)
	if err == nil && m.hides && p.Labels == nil {
		return nil, apierrors.NewNotFound(podsResource, key.Name)
	}
	return p, err
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
	if m.lost {
		m.lost = false
		if m.trusts {
			return nil
		}
		return errors.New("connection reset by peer")
	}
	return m.world.UpdateStatus(ctx, e)
}

// newStage is a stage with two replicas, and without the rule that is taken out, if one
// is.
func newStage(t *testing.T, voters int, without func(*stage)) *stage {
	w := newWorld(t, 1, voters, 0)
	w.calm, w.slow = true, time.Second
	s := &stage{history: &history{world: w}, mutant: &mutant{world: w}, said: map[hintKey]Decision{}}
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
		s := newStage(t, cmp.Or(h.voters, 3), without)
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
	g, err := New(Config{Cluster: s.mutant, Examiner: s.mutant, Timing: s.mutant.timing, Deadline: s.mutant.deadline})
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
	r := Request{UID: fmt.Sprintf("r%d", s.next()), Verb: Evict, Namespace: "data", Name: podName(server)}
	version := ""
	if p != nil {
		r.PodUID, version = p.uid, p.version()
	}
	s.mu.Unlock()
	if change != nil {
		change(&r)
	}
	told := r
	if s.mutant.exact {
		told.PodVersion = version
	}
	told.DryRun = told.DryRun && !s.mutant.wet
	began := time.Now()
	d := s.judged(ctx, replica, told)
	if s.mutant.unbound {
		r.PodUID, r.PodVersion = "", ""
	}
	return promise{r, d, began}
}

func (s *stage) judged(ctx context.Context, replica int, r Request) Decision {
	key := hintKey{r.PodUID, r.Name}
	if d, ok := s.said[key]; ok && s.mutant.recalls {
		return d
	}
	judge := s.replicas[replica].guard.Judge
	d := Decision{}
	if s.mutant.apart {
		for _, name := range []string{"zk", "zk-two"} {
			if s.mutant.only = name; d.Outcome == "" || d.Outcome.Allowed() {
				d = judge(ctx, r)
			}
		}
	} else {
		d = judge(ctx, r)
	}
	if d.Outcome.Allowed() {
		s.said[key] = d
	}
	return d
}

// lands lets the request act, if it was allowed and its pod is still the one.
func (s *stage) lands(p promise, force bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	pod := s.pods[p.Name]
	if !p.d.Outcome.Allowed() || p.DryRun || pod == nil || !s.hits(&p.Request, pod) {
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

// breaks is told by a history that is about something else than what the oracle sees.
func (s *stage) breaks(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = append(s.broken, what)
}

func (s *stage) pass(ctx context.Context, d time.Duration) { s.wait(ctx, d) }

func (s *stage) passUpTo(ctx context.Context, most time.Duration) {
	s.mu.Lock()
	d := s.upto(most)
	s.mu.Unlock()
	s.wait(ctx, d)
}

// asIs binds the request to the pod as it is now.
func (s *stage) asIs(server int) func(*Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	version := s.pods[podName(server)].version()
	return func(r *Request) { r.PodVersion = version }
}

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
