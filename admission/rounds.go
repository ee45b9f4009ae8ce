package admission

import (
	"context"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/quorate/quorate/ensemble/probe"
	"github.com/quorate/quorate/ensemble/v1alpha1"
)

const (
	// patience is for how long a round that somebody waits for lets the one before it
	// go on alone. A healthy ensemble answers sooner; one with a silent member must
	// not hold everybody up for as long as that member is waited for.
	patience = 250 * time.Millisecond
	// leastTime is what a request must have left to ask for a round: with less, it
	// would cut the round short for others.
	leastTime = time.Second
)

// rounds are the probes of all members of ensembles. Requests that have read the
// very same Ensemble and pods share a round, so that members are not asked for each
// of many that come at once. A round begins after all who share it have asked for
// it, and so after all that they read: nobody joins one that is under way.
type rounds struct {
	examiner Examiner
	metrics  *metrics
	now      func() time.Time // for how long they take

	mu      sync.Mutex // guards below
	waiting map[string]*round
	running map[types.UID]*round // the newest of each ensemble
}

// round of probes: what it showed is set before done is closed, and never after.
type round struct {
	until time.Time // guarded by rounds.mu: when the first of those who share it must answer
	done  chan struct{}
	view  probe.View
	ok    bool // the view is there
}

func newRounds(ex Examiner, m *metrics, now func() time.Time) *rounds {
	return &rounds{examiner: ex, metrics: m, now: now, waiting: map[string]*round{}, running: map[types.UID]*round{}}
}

// examine the pods in a round that begins after the call, and takes half of the time
// at most that is left to those who share it. ok is whether there was time for one.
func (s *rounds) examine(ctx context.Context, e *v1alpha1.Ensemble, pods []corev1.Pod) (v probe.View, ok bool) {
	deadline, has := ctx.Deadline()
	if !has || time.Until(deadline) < leastTime {
		return v, false
	}
	what := versions(e, pods)
	r, before, first := s.join(what, e.UID, deadline)
	if first {
		s.ask(ctx, what, r, before, e, pods)
	}
	select {
	case <-r.done:
		return r.view, r.ok
	case <-ctx.Done():
		return v, false
	}
}

// versions name what is asked: this state of the Ensemble and of each pod.
func versions(e *v1alpha1.Ensemble, pods []corev1.Pod) string {
	var b strings.Builder
	b.WriteString(string(e.UID) + " " + e.ResourceVersion)
	for i := range pods {
		b.WriteString(" " + string(pods[i].UID) + " " + pods[i].ResourceVersion)
	}
	return b.String()
}

// join a round that has not begun. The first is the one who asks, after the round
// before it.
func (s *rounds) join(what string, ensemble types.UID, deadline time.Time) (r, before *round, first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r, ok := s.waiting[what]; ok {
		if deadline.Before(r.until) {
			r.until = deadline
		}
		return r, nil, false
	}
	r = &round{until: deadline, done: make(chan struct{})}
	s.waiting[what] = r
	return r, s.running[ensemble], true
}

// ask the pods for all who share the round.
func (s *rounds) ask(ctx context.Context, what string, r, before *round, e *v1alpha1.Ensemble, pods []corev1.Pod) {
	before.wait()
	ctx, cancel := s.begin(ctx, what, r, e.UID)
	defer cancel()
	defer s.end(r, e.UID) // if it panics, too: others wait
	began := s.now()
	r.view = s.examiner.Examine(ctx, e, pods)
	s.metrics.probes.Observe(s.now().Sub(began).Seconds())
	r.ok = true
}

// wait for the end of a round, with patience.
func (r *round) wait() {
	if r == nil {
		return
	}
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case <-r.done:
	case <-t.C:
	}
}

// begin a round: from here on nobody joins it. It goes on though the first of those
// who share it is gone.
func (s *rounds) begin(ctx context.Context, what string, r *round, ensemble types.UID) (context.Context, context.CancelFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.waiting, what)
	s.running[ensemble] = r
	return context.WithTimeout(context.WithoutCancel(ctx), time.Until(r.until)/2)
}

func (s *rounds) end(r *round, ensemble types.UID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running[ensemble] == r {
		delete(s.running, ensemble)
	}
	close(r.done)
}
