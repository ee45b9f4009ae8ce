package leaderelection

import (
	"context"
	"errors"
	"fmt"

	"k8s.io/client-go/tools/leaderelection"
)

// Callbacks of Run.
type Callbacks struct {
	// OnStartedLeading does the work. Its context carries the Term (TermFrom) and is
	// cancelled the moment the term is over; it must return within Config.StopTime
	// then. The lock is released when it has returned, at once if it returns by
	// itself, and is kept while it does not.
	OnStartedLeading func(ctx context.Context)
	// OnStoppedLeading is called when the work has returned and the lock is released,
	// and only if there was any. It may be nil.
	OnStoppedLeading func()
	// OnNewLeader is called with the identity of every leader seen, this one
	// included, one after the other. It must return soon, since the candidacy waits for
	// it. It may be nil.
	OnNewLeader func(identity string)
}

// Run waits until this candidate leads, runs the work, and returns when the work
// has returned and the lock is released: nil if the work returned by itself or ctx
// was cancelled, else why leadership was lost. It needs a shorter session than a
// bare LeaderElector with the same durations, since loss cancels the work at once,
// and never sleeps while it stands by: its successors' time does not depend on the
// retry period.
func Run(ctx context.Context, cfg Config, cb Callbacks) error {
	l, err := newLock(cfg, true)
	if err != nil {
		return err
	}
	if cb.OnStartedLeading == nil {
		return fmt.Errorf("run %s: OnStartedLeading is nil", l.Describe())
	}
	l.news = cb.OnNewLeader
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	returned := make(chan struct{})
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: l, Name: l.Describe(),
		LeaseDuration: l.cfg.LeaseDuration, RenewDeadline: l.cfg.RenewDeadline, RetryPeriod: l.cfg.RetryPeriod,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(ctx context.Context) {
				defer close(returned)
				defer stop()
				if l.news != nil {
					l.news(l.identity)
				}
				l.work(ctx, stop, cb.OnStartedLeading)
			},
			OnStoppedLeading: func() {},
		},
	})
	if err != nil {
		return fmt.Errorf("run %s: %w", l.Describe(), err)
	}
	elector.Run(ctx)
	t := l.lastTerm()
	if t == nil {
		return nil // it never led
	}
	<-returned
	err = t.finish(context.WithoutCancel(ctx))
	if cb.OnStoppedLeading != nil {
		cb.OnStoppedLeading()
	}
	return err
}

// work until the term is over or the elector stops.
func (l *Lock) work(ctx context.Context, stop context.CancelFunc, do func(context.Context)) {
	t := l.lastTerm()
	ctx, cancel := context.WithCancelCause(context.WithValue(ctx, termKey{}, t))
	defer cancel(nil)
	done := make(chan struct{})
	watching := make(chan struct{})
	go func() {
		defer close(watching)
		select {
		case <-t.Lost():
			cancel(t.Err())
			stop()
		case <-done:
		}
	}()
	defer func() {
		close(done)
		<-watching
	}()
	do(ctx)
}

// finish a term whose work has returned: release it, or after a loss say that it
// may be given back, and wait for that as long as a renewal may take. It returns why
// the term was lost.
func (t *Term) finish(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, t.lock.cfg.RenewDeadline)
	defer cancel()
	t.lose(ErrReleased)
	t.stop()
	if err := t.freed(ctx); err != nil {
		t.life.log.V(2).Info("Lock was not given back in time", "lock", t.lock.Describe(), "err", err)
	}
	if err := t.Err(); !errors.Is(err, ErrReleased) {
		return fmt.Errorf("lead %s: %w", t.lock.Describe(), err)
	}
	return nil
}
