package admission

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorate/quorate/ensemble/v1alpha1"
)

// replica is one process of the guard: it may pause, crash and be started anew,
// and its clock is its own.
type replica struct {
	Cluster
	mu     sync.Mutex // guards below
	guard  *Guard
	paused chan struct{} // nil unless it pauses
	epoch  int
}

func newReplica(w *world, c Cluster, ex Examiner, offset time.Duration) *replica {
	r := &replica{Cluster: c}
	r.restart(w, ex, offset)
	return r
}

func (r *replica) restart(w *world, ex Examiner, offset time.Duration) {
	g, err := New(Config{Cluster: r, Examiner: ex, Now: func() time.Time { return time.Now().Add(offset) }})
	if err != nil {
		w.t.Fatal(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.guard, r.epoch = g, r.epoch+1
}

// UpdateStatus waits while the replica pauses: after its own deadline was checked,
// which is the worst moment.
func (r *replica) UpdateStatus(ctx context.Context, e *v1alpha1.Ensemble) error {
	r.mu.Lock()
	paused := r.paused
	r.mu.Unlock()
	if paused != nil {
		<-paused
	}
	return r.Cluster.UpdateStatus(ctx, e)
}

// ask is what the API server does with a review: it waits for 5 s. ok is whether
// there was an answer; a replica that crashed meanwhile gives none.
func (r *replica) ask(ctx context.Context, w *world, req Request) (d Decision, ok bool) {
	r.mu.Lock()
	g, epoch := r.guard, r.epoch
	r.mu.Unlock()
	answer := make(chan Decision, 1)
	w.tasks.Go(func() { answer <- g.Judge(ctx, req) })
	timeout := time.NewTimer(5 * time.Second)
	defer timeout.Stop()
	select {
	case d = <-answer:
		r.mu.Lock()
		defer r.mu.Unlock()
		return d, r.epoch == epoch
	case <-timeout.C:
		return Decision{}, false
	}
}

// history is one random run.
type history struct {
	*world
	replicas []*replica
	byName   bool // the mutating step is not installed
	stall    time.Duration
	yes      int
	last     Decision
}

// evict is one request, from the client to its landing. It reports whether the pod
// it was for is on its way out, by whoever.
func (h *history) evict(ctx context.Context, name string, force bool) {
	began := time.Now()
	h.mu.Lock()
	p := h.pods[name]
	if p == nil {
		h.mu.Unlock()
		return
	}
	req := Request{UID: fmt.Sprintf("r%d", h.next()), Verb: Evict, Namespace: "data", Name: name, PodUID: p.uid, User: "ada"}
	switch {
	case force:
		req.Verb, req.PodVersion = DeletePod, p.version()
	case h.byName:
		req.PodUID = ""
	case !p.running:
		req.PodVersion = p.version()
	}
	replica := h.replicas[h.rng.IntN(len(h.replicas))]
	h.mu.Unlock()
	d, ok := replica.ask(ctx, h.world, req)
	h.mu.Lock()
	if ok {
		h.last = d
	}
	if !ok || !d.Outcome.Allowed() || d.Outcome == AllowNoMember { // its labels are off: nobody can guard it
		h.mu.Unlock()
		return
	}
	h.note("said %s to %s for %s", d.Outcome, req.UID, name)
	refused, stalled := !h.calm && h.chance(20), time.Duration(0)
	if !h.calm && h.chance(30) {
		stalled = h.upto(max(0, h.stall-time.Since(began)))
	}
	h.mu.Unlock()
	if refused { // by a PodDisruptionBudget
		return
	}
	h.wait(ctx, stalled)
	h.mu.Lock()
	defer h.mu.Unlock()
	if p = h.pods[name]; p != nil && h.hits(&req, p) {
		h.yes++
		h.remove(p, began, force, d)
	}
}

// drain evicts the pod of that uid until it is gone, as kubectl does.
func (h *history) drain(ctx context.Context, server int) {
	h.mu.Lock()
	p := h.pods[podName(server)]
	h.mu.Unlock()
	for p != nil && ctx.Err() == nil {
		h.mu.Lock()
		gone := h.pods[p.name] != p || p.terminating
		force := !h.calm && h.chance(3)
		h.mu.Unlock()
		if gone {
			return
		}
		h.evict(ctx, p.name, force)
		h.wait(ctx, 5*time.Second)
	}
}

func (h *history) isCalm() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.calm
}

// faults happen until the world is calm.
func (h *history) faults(ctx context.Context) {
	for !h.isCalm() {
		h.mu.Lock()
		pause := h.upto(20 * time.Second)
		what, server := h.rng.IntN(10), h.rng.IntN(len(h.servers))
		r := h.replicas[h.rng.IntN(len(h.replicas))]
		switch what {
		case 0, 1:
			h.crash(server)
		case 2: // recreated, or restored with the grants of a backup
			old := h.ensembles["zk"]
			h.makeEnsemble("zk")
			h.note("the Ensemble was made anew")
			if h.chance(50) {
				h.ensembles["zk"].Status = *old.Status.DeepCopy()
				h.ensembles["zk"].Status.Grants = nil
			}
		case 3:
			if p := h.pods[podName(server)]; p != nil {
				p.relabelled = !p.relabelled
				h.note("%s relabelled %t", p.name, p.relabelled)
				h.after(5*time.Second, func() { p.relabelled = false })
			}
		}
		if what == 8 {
			h.deafen(server)
		}
		offset := h.upto(10 * time.Hour)
		h.mu.Unlock()
		switch what {
		case 4, 5:
			r.restart(h.world, h.world, offset)
		case 6, 7:
			r.pause(h.world, ctx)
		}
		h.wait(ctx, pause)
	}
}

func (r *replica) pause(w *world, ctx context.Context) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.paused != nil {
		return
	}
	c := make(chan struct{})
	r.paused = c
	w.mu.Lock()
	d := w.upto(60 * time.Second)
	w.mu.Unlock()
	w.tasks.Go(func() {
		w.wait(ctx, d)
		r.mu.Lock()
		defer r.mu.Unlock()
		close(c)
		r.paused = nil
	})
}

// run is one history: five minutes of drains and faults, then calm until every
// drain has ended.
func run(t *testing.T, seed uint64) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, seed, 3+2*int(seed%3), int(seed/3%2)*int(seed%3&1))
		h := &history{world: w, byName: seed%4 == 3, stall: 34 * time.Second}
		w.sticky, w.budgeted = seed%5 == 4, seed%3 == 2
		if seed%7 == 6 {
			w.makeEnsemble("zk-two")
		}
		for range 3 {
			h.replicas = append(h.replicas, newReplica(w, w, w, w.upto(10*time.Hour)))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		h.storm(ctx)
		if ctx.Err() != nil {
			t.Errorf("seed %d: a drain was still refused half an hour after the last fault: %s %s\n%s", seed, h.last.Outcome, h.last.Message, h.dump())
		}
		cancel()
		w.end()
		for _, b := range w.broken {
			t.Errorf("seed %d: %s\n%s", seed, b, strings.Join(w.trace, "\n"))
		}
		if h.yes == 0 {
			t.Errorf("seed %d: nothing was ever allowed", seed)
		}
	})
}

// dump is the state that a history got stuck in.
func (h *history) dump() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := fmt.Sprintf("leader %d\n", h.leader)
	for name, e := range h.ensembles {
		s += fmt.Sprintf("%s %s guard %+v grants %+v\n", name, e.UID, e.Status.Guard, e.Status.Grants)
	}
	for name, p := range h.pods {
		s += fmt.Sprintf("%s %s ip=%s terminating=%t running=%t %+v\n", name, p.uid, p.ip, p.terminating, p.running, *p.proc)
	}
	return s
}

// release ends grants now and then, as the status controller does, until the world is
// calm: later nothing may depend on it.
func (h *history) release(ctx context.Context) {
	for !h.isCalm() {
		for _, r := range h.replicas {
			r.mu.Lock()
			g := r.guard
			r.mu.Unlock()
			_, _ = g.Release(ctx, zk) // what fails is left to the next time
		}
		h.wait(ctx, 10*time.Second)
	}
}

func (h *history) storm(ctx context.Context) {
	var drains sync.WaitGroup
	drains.Go(func() { h.faults(ctx) })
	drains.Go(func() { h.release(ctx) })
	for round := range 2 {
		for i := range h.servers {
			drains.Go(func() {
				h.wait(ctx, time.Duration(round)*2*time.Minute)
				h.drain(ctx, i)
			})
		}
	}
	h.wait(ctx, 5*time.Minute)
	h.mu.Lock()
	h.calm = true
	h.mu.Unlock()
	drains.Wait()
}

// TestConcurrentHistories runs random histories, drains and replicas side by side:
// never below quorum and spare, never stuck for ever.
func TestConcurrentHistories(t *testing.T) {
	n := uint64(120)
	if os.Getenv("QUORATE_CHAOS") != "" {
		n *= 20
	}
	for seed := range n {
		run(t, seed)
		if t.Failed() {
			return
		}
	}
}
