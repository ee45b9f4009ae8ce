package leaderelection

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/klog/v2"
)

// stoppedLeading is the event by which a LeaderElector says that its term is over.
const stoppedLeading = "stopped leading"

// Lock is a candidate in an election: a resourcelock.Interface for one
// LeaderElector at a time. Every call returns by the time its context ends.
type Lock struct {
	cfg      Config
	layout   layout
	identity string
	managed  bool                // Run cancels the work and releases; no elector does
	news     func(holder string) // Run is told of other holders by it; may be nil
	reserve  time.Duration
	log      klog.Logger
	metrics  *metrics

	mu       sync.Mutex // guards below
	term     *Term      // the current or the last one
	stopped  *Term      // the last one that was over when its elector had stopped
	seen     *view      // by the last Get: what the next write expects
	record   resourcelock.LeaderElectionRecord
	reported string // the holder that Get last told, or nobody
	reads    int    // makes a raw record differ from the one before
	place    *place // in the queue
}

var _ resourcelock.Interface = (*Lock)(nil)

// New returns a Lock for a LeaderElector that runs with the durations of cfg. All
// problems of cfg are reported at once, ErrBudget with all its numbers among them
// if the session's timeout is too short.
func New(cfg Config) (*Lock, error) { return newLock(cfg, false) }

func newLock(cfg Config, managed bool) (*Lock, error) {
	cfg.complete()
	if err := cfg.validate(managed); err != nil {
		return nil, fmt.Errorf("make lock %s/%s: %w", cfg.Namespace, cfg.Name, err)
	}
	s := cfg.Session
	l := &Lock{
		cfg: cfg, managed: managed, reserve: reserveOf(&cfg, managed),
		layout:   layoutOf(s.cfg.Root, cfg.Namespace, cfg.Name),
		identity: cfg.Identity + "_" + uuid.NewString()[:8],
		log:      s.log.WithValues("lock", cfg.Namespace+"/"+cfg.Name),
		metrics:  s.metrics,
	}
	l.metrics.candidate(l)
	return l, nil
}

// Identity of the candidate: that of the Config and a nonce.
func (l *Lock) Identity() string { return l.identity }

// Describe names the election: namespace/name.
func (l *Lock) Describe() string { return l.cfg.Namespace + "/" + l.cfg.Name }

// RecordEvent records an event of the elector. That it has stopped leading lets
// this lock be acquired again.
func (l *Lock) RecordEvent(event string) {
	if event == stoppedLeading {
		l.electorStopped()
	}
	if l.cfg.Events == nil {
		return
	}
	subject := &coordinationv1.Lease{
		TypeMeta:   metav1.TypeMeta{Kind: "Lease", APIVersion: coordinationv1.SchemeGroupVersion.String()},
		ObjectMeta: metav1.ObjectMeta{Namespace: l.cfg.Namespace, Name: l.cfg.Name},
	}
	l.cfg.Events.Eventf(subject, corev1.EventTypeNormal, "LeaderElection", "%s", l.identity+" "+event)
}

// Term that this lock is in, or nil.
func (l *Lock) Term() *Term {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.term == nil || l.term.Err() != nil {
		return nil
	}
	return l.term
}

// Lost is closed when the current term is over, and closed already if there is
// none.
func (l *Lock) Lost() <-chan struct{} {
	if t := l.lastTerm(); t != nil {
		return t.Lost()
	}
	return closed
}

var closed = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

func (l *Lock) lastTerm() *Term {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.term
}

// electorStopped ends the refusal of a second term. What it says of a bare elector's
// work, Run says itself.
func (l *Lock) electorStopped() {
	l.mu.Lock()
	t := l.term
	over := t != nil && t.Err() != nil
	if over {
		l.stopped = t
	}
	l.mu.Unlock()
	if over && !l.managed {
		t.stop()
	}
}

// termLost tells people, once, that a term is over.
func (l *Lock) termLost(t *Term, why error) {
	if errors.Is(why, ErrReleased) {
		l.log.Info("Released the lock", "token", t.token)
		return
	}
	l.log.Info("Lost the lock", "token", t.token, "err", why)
}

// Update acquires the lock, renews it, which asks nobody and is refused past the
// deadline, or releases it if the record names no holder.
func (l *Lock) Update(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	t := l.Term()
	switch {
	case r.HolderIdentity == "" && t == nil:
		return fmt.Errorf("release %s: %w", l.Describe(), ErrNotHolder)
	case r.HolderIdentity == "":
		return t.release(ctx)
	case r.HolderIdentity != l.identity:
		return fmt.Errorf("update %s: %w: the record names %q", l.Describe(), ErrNotHolder, r.HolderIdentity)
	case t != nil:
		if err := t.renew(); err != nil {
			return fmt.Errorf("renew %s: %w", l.Describe(), err)
		}
		return nil
	}
	v := l.lastSeen()
	if l.isRefusing() {
		return fmt.Errorf("acquire %s: %w", l.Describe(), ErrTermOver)
	}
	if v == nil {
		return fmt.Errorf("acquire %s: call Get first", l.Describe())
	}
	if !v.exists {
		return l.asAPI("acquire", errNoRecord)
	}
	return l.acquire(ctx, r, v)
}

// Create acquires the lock of an election that never was.
func (l *Lock) Create(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	if r.HolderIdentity != l.identity {
		return fmt.Errorf("create %s: %w: the record names %q", l.Describe(), ErrNotHolder, r.HolderIdentity)
	}
	v := l.lastSeen()
	if v == nil || v.exists {
		li, _, err := l.cfg.Session.current()
		if err != nil {
			return fmt.Errorf("create %s: %w", l.Describe(), err)
		}
		v = &view{life: li}
	}
	return l.acquire(ctx, r, v)
}

func (l *Lock) isRefusing() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.refusing()
}

// refusing a second term, because the last one is over and its elector has not
// stopped. It is read from the term itself: whoever knows of the loss meets it. Needs
// l.mu.
func (l *Lock) refusing() bool {
	return l.term != nil && l.term != l.stopped && l.term.Err() != nil
}

func (l *Lock) lastSeen() *view {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.seen
}

// emptied is the record of a released lock.
func (l *Lock) emptied() resourcelock.LeaderElectionRecord {
	now := metav1.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	return resourcelock.LeaderElectionRecord{
		LeaseDurationSeconds: 1, AcquireTime: now, RenewTime: now, LeaderTransitions: l.record.LeaderTransitions,
	}
}

// Led is whether this lock was ever acquired.
func (l *Lock) Led() bool { return l.lastTerm() != nil }
