package leaderelection

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coordinationv1client "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// bridge holds a Lease and a Lock, the Lease first: the step between replicas that
// know only one of them. It is a resourcelock.Interface for one LeaderElector.
//
// Each part's validity is judged on its own: that the Lock's owner lives does not
// make an expired Lease look fresh.
type bridge struct {
	lease *leaseBeside
	lock  *Lock
	reads int

	relied time.Time // the last write of the Lease that the elector may rely on: when it was sent
}

var _ resourcelock.Interface = (*bridge)(nil)

func newBridge(lock *Lock, leases coordinationv1client.LeasesGetter) *bridge {
	return &bridge{lock: lock, lease: newLeaseBeside(lock, leases)}
}

// Get returns who holds either, the Lease's holder first, or nobody.
func (b *bridge) Get(ctx context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	if _, bounded := ctx.Deadline(); !bounded {
		b.lock.electorStopped()
	}
	b.expire()
	if b.lock.isRefusing() {
		// The elector must not wait for an answer before it stops its work.
		return nil, nil, fmt.Errorf("get %s: %w", b.Describe(), ErrTermOver)
	}
	if err := b.lease.read(ctx); err != nil {
		return nil, nil, err
	}
	r, err := b.ofLock(ctx)
	if err != nil {
		return nil, nil, err
	}
	r.LeaderTransitions = b.lease.countedOn(r.LeaderTransitions)
	if holder := b.lease.foreign(time.Now()); holder != "" {
		r.HolderIdentity, r.LeaseDurationSeconds = holder, int(b.lock.cfg.LeaseDuration/time.Second)
	}
	b.reads++
	return r, raw(r, b.reads), nil
}

// expire ends a term whose Lease was not renewed for a renew deadline, be it written: an
// elector to whom no renewal was granted gives up then, and releases before it cancels the
// work. It must neither wait for the API server, nor free the lock meanwhile.
func (b *bridge) expire() {
	if t, limit := b.lock.Term(), b.lock.cfg.RenewDeadline; t != nil && time.Since(b.relied) >= limit {
		t.lose(fmt.Errorf("%w: the Lease was not renewed for %v", ErrPastDeadline, limit))
	}
}

// ofLock never blocks for another's end: the Lease must be polled.
func (b *bridge) ofLock(ctx context.Context) (*resourcelock.LeaderElectionRecord, error) {
	ctx, cancel := context.WithTimeout(ctx, b.lock.cfg.RenewDeadline/2)
	defer cancel()
	r, _, err := b.lock.Get(ctx)
	if apierrors.IsNotFound(err) {
		return &resourcelock.LeaderElectionRecord{}, nil
	}
	return r, err
}

// Create acquires both.
func (b *bridge) Create(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	return b.Update(ctx, r)
}

// Update acquires both, renews both, or releases both.
func (b *bridge) Update(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	switch term := b.lock.Term(); {
	case r.HolderIdentity == "":
		return b.release(ctx, r)
	case term != nil:
		return b.renew(ctx, r, term)
	default:
		return b.acquire(ctx, r)
	}
}

// acquire both, unless a term is over whose work may go on: the Lease keeps others away
// until it has stopped.
func (b *bridge) acquire(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	if b.lock.isRefusing() {
		return fmt.Errorf("acquire %s: %w", b.Describe(), ErrTermOver)
	}
	if holder := b.lease.foreign(time.Now()); holder != "" {
		return fmt.Errorf("acquire %s: %w: %s holds the Lease", b.Describe(), ErrNotHolder, holder)
	}
	left, sent := b.lock.emptied(), time.Now()
	left.LeaderTransitions = b.lease.countedOn(left.LeaderTransitions)
	if b.lease.sealed() {
		left = b.lease.record // a leader by ZooKeeper alone relies on it
	}
	if err := b.lease.write(ctx, r); err != nil {
		// It may have been made all the same.
		return errors.Join(fmt.Errorf("acquire %s: %w", b.Describe(), err), b.drop(ctx, left))
	}
	err := b.acquireLockWithin(ctx, r, sent.Add(b.lock.cfg.RenewDeadline))
	if err == nil {
		return nil
	}
	return errors.Join(err, b.drop(ctx, left))
}

// acquireLockWithin the time for which an elector relies on the Lease. The Lease is
// written again when the lock is had: it may be another's by then, and the elector will
// rely on it for as long again. That may take until after the deadline.
func (b *bridge) acquireLockWithin(ctx context.Context, r resourcelock.LeaderElectionRecord, deadline time.Time) error {
	bounded, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	if err := b.acquireLock(bounded, r); err != nil {
		return err
	}
	ctx, cancel = context.WithTimeout(ctx, b.lock.cfg.RetryPeriod)
	defer cancel()
	r.RenewTime = metav1.Now()
	term := b.lock.lastTerm()
	err := b.lease.write(ctx, r)
	if err == nil {
		b.relied = b.lease.written
		return term.Valid()
	}
	err = fmt.Errorf("%w: acquired the lock, but not the Lease again: %w", ErrNotHolder, err)
	term.lose(err)
	return err
}

// acquireLock looks again: the Lease may have taken a while.
func (b *bridge) acquireLock(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	found, err := b.ofLock(ctx)
	if err != nil {
		return err
	}
	if found.HolderIdentity != "" {
		return fmt.Errorf("acquire %s: %w: %s holds the lock", b.Describe(), ErrNotHolder, found.HolderIdentity)
	}
	if v := b.lock.lastSeen(); v == nil || !v.exists {
		return b.lock.Create(ctx, r)
	}
	return b.lock.Update(ctx, r)
}

// renew both.
func (b *bridge) renew(ctx context.Context, r resourcelock.LeaderElectionRecord, term *Term) error {
	if err := b.lock.Update(ctx, r); err != nil {
		return err
	}
	err := b.lease.write(ctx, r)
	if err == nil {
		return b.renewed(term)
	}
	if readErr := b.lease.read(ctx); readErr != nil {
		return errors.Join(err, readErr)
	}
	if holder := b.lease.foreign(time.Now()); holder != "" {
		term.lose(fmt.Errorf("%w: %s holds the Lease", ErrNotHolder, holder))
	}
	if !b.lease.mine() {
		return fmt.Errorf("renew %s: %w", b.Describe(), err)
	}
	if err := b.lease.write(ctx, r); err != nil {
		return err
	}
	return b.renewed(term)
}

// renewed is whether an elector may rely on the renewal. It may go on for a retry period
// and a renew deadline without another, and the Lease, which counts from the write's
// arrival, must last until its work has stopped. The term's own deadline may be over, too.
func (b *bridge) renewed(term *Term) error {
	left := b.lock.cfg.LeaseDuration - time.Since(b.lease.written)
	if left < b.lock.reserve {
		return fmt.Errorf("renew %s: %w: the Lease lasts for %v more, but stopping takes %v", b.Describe(), ErrPastDeadline, left, b.lock.reserve)
	}
	if err := term.Valid(); err != nil {
		return err
	}
	b.relied = b.lease.written
	return nil
}

// release the lock first: it waits until the work has stopped.
func (b *bridge) release(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	if err := b.lock.Update(ctx, r); err != nil {
		return err
	}
	return b.drop(ctx, b.lock.emptied())
}

// drop the Lease, if it is still ours, and leave a record in it.
func (b *bridge) drop(ctx context.Context, left resourcelock.LeaderElectionRecord) error {
	if err := b.lease.read(ctx); err != nil || !b.lease.mine() {
		return err
	}
	if err := b.lease.write(ctx, left); err != nil {
		return fmt.Errorf("release %s: %w", b.Describe(), err)
	}
	return nil
}

// RecordEvent of the elector. One that has stopped holds neither: it may have lost the
// Lease alone.
func (b *bridge) RecordEvent(event string) {
	b.expire()
	if t := b.lock.Term(); event == stoppedLeading && t != nil {
		t.lose(ErrReleased)
	}
	b.lock.RecordEvent(event)
}

// Identity that holds both.
func (b *bridge) Identity() string { return b.lock.Identity() }

// Describe names the election.
func (b *bridge) Describe() string { return b.lock.Describe() }
