package leaderelection

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coordinationv1client "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// Tombstone is the holder of a Lease whose election has moved to ZooKeeper.
const Tombstone = "moved-to-zookeeper"

// tombstoneDuration keeps LeaderElectors since Kubernetes 1.27 away. Older ones judge
// by their own lease duration, and are kept away while the leader renews it.
const tombstoneDuration = 10 * 365 * 24 * time.Hour

// bridge holds a Lease and a Lock, the Lease first: the step between replicas that
// know only one of them. It is a resourcelock.Interface for one LeaderElector.
//
// Each part's validity is judged on its own: that the Lock's owner lives does not
// make an expired Lease look fresh.
//
// A sealing bridge leads by the Lock alone, and leaves a tombstone in the Lease
// before it does: a forgotten replica that knows only the Lease cannot lead beside
// it, and while such a one leads this does not.
type bridge struct {
	lease *resourcelock.LeaseLock
	lock  *Lock
	seal  bool

	mu       sync.Mutex // guards below
	absent   bool       // the Lease, when last read
	record   resourcelock.LeaderElectionRecord
	observed string    // what was last read of the Lease
	since    time.Time // it was first read so, on our own clock
	reads    int
}

var _ resourcelock.Interface = (*bridge)(nil)

func newBridge(lock *Lock, leases coordinationv1client.LeasesGetter, seal bool) *bridge {
	return &bridge{
		lock: lock, seal: seal,
		lease: &resourcelock.LeaseLock{
			LeaseMeta: metav1.ObjectMeta{Namespace: lock.cfg.Namespace, Name: lock.cfg.Name}, Client: leases,
			LockConfig: resourcelock.ResourceLockConfig{Identity: lock.Identity()},
		},
	}
}

// Get returns who holds either, the Lease's holder first, or nobody.
func (b *bridge) Get(ctx context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	if _, bounded := ctx.Deadline(); !bounded {
		b.lock.electorStopped()
	}
	if err := b.readLease(ctx); err != nil {
		return nil, nil, err
	}
	r, err := b.ofLock(ctx)
	if err != nil {
		return nil, nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	r.LeaderTransitions = max(r.LeaderTransitions, b.record.LeaderTransitions)
	if holder := b.foreignHolder(time.Now()); holder != "" {
		r.HolderIdentity, r.LeaseDurationSeconds = holder, int(b.lock.cfg.LeaseDuration/time.Second)
	}
	b.reads++
	return r, raw(r, b.reads), nil
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

// readLease and note when it changed.
func (b *bridge) readLease(ctx context.Context) error {
	r, raw, err := b.lease.Get(ctx)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.absent = apierrors.IsNotFound(err)
	switch {
	case b.absent:
		b.record, b.observed = resourcelock.LeaderElectionRecord{}, ""
		return nil
	case err != nil:
		return fmt.Errorf("get Lease: %w", err)
	}
	if seen := string(raw); seen != b.observed {
		b.observed, b.since = seen, time.Now()
	}
	b.record = *r
	return nil
}

// foreignHolder of the Lease, if it has one whose time is not over.
func (b *bridge) foreignHolder(now time.Time) string {
	holder := b.record.HolderIdentity
	valid := now.Before(b.since.Add(time.Duration(b.record.LeaseDurationSeconds) * time.Second))
	if holder == "" || holder == b.lock.Identity() || holder == Tombstone || !valid {
		return ""
	}
	return holder
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

func (b *bridge) acquire(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	b.mu.Lock()
	holder, absent, moved := b.foreignHolder(time.Now()), b.absent, b.record
	b.mu.Unlock()
	if holder != "" {
		return fmt.Errorf("acquire %s: %w: %s holds the Lease", b.Describe(), ErrNotHolder, holder)
	}
	write, sent := b.lease.Update, time.Now()
	if absent {
		write = b.lease.Create
	}
	if err := write(ctx, b.leaseRecord(r)); err != nil {
		return fmt.Errorf("acquire Lease: %w", err)
	}
	if b.seal {
		return b.acquireLock(ctx, r)
	}
	err := b.acquireLockWithin(ctx, r, sent.Add(b.lock.cfg.RenewDeadline))
	if err == nil {
		return nil
	}
	left := b.lock.emptied()
	if moved.HolderIdentity == Tombstone {
		left = moved // a leader by ZooKeeper alone relies on it
	}
	return errors.Join(err, b.drop(ctx, left))
}

// acquireLockWithin the time for which an elector relies on the Lease. The Lease is
// written again when the lock is had: it may be another's by then, and the elector will
// rely on it for as long again.
func (b *bridge) acquireLockWithin(ctx context.Context, r resourcelock.LeaderElectionRecord, deadline time.Time) error {
	bounded, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	if err := b.acquireLock(bounded, r); err != nil {
		return err
	}
	ctx, cancel = context.WithTimeout(ctx, b.lock.cfg.RetryPeriod)
	defer cancel()
	r.RenewTime = metav1.Now()
	err := b.lease.Update(ctx, r)
	if err == nil {
		return nil
	}
	err = fmt.Errorf("%w: acquired the lock, but not the Lease again: %w", ErrNotHolder, err)
	if t := b.lock.Term(); t != nil {
		t.lose(err)
	}
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

func (b *bridge) renew(ctx context.Context, r resourcelock.LeaderElectionRecord, term *Term) error {
	if err := b.lock.Update(ctx, r); err != nil {
		return err
	}
	if b.seal {
		b.renewTombstone(ctx, r)
		return nil
	}
	err := b.lease.Update(ctx, r)
	if err == nil {
		return nil
	}
	if readErr := b.readLease(ctx); readErr != nil {
		return errors.Join(err, readErr)
	}
	b.mu.Lock()
	holder := b.foreignHolder(time.Now())
	mine := b.record.HolderIdentity == b.lock.Identity()
	b.mu.Unlock()
	if holder != "" {
		term.lose(fmt.Errorf("%w: %s holds the Lease", ErrNotHolder, holder))
	}
	if !mine {
		return fmt.Errorf("renew Lease: %w", err)
	}
	return b.lease.Update(ctx, r)
}

// renewTombstone is for old electors only, and its failure takes nothing from us.
func (b *bridge) renewTombstone(ctx context.Context, r resourcelock.LeaderElectionRecord) {
	ctx, cancel := context.WithTimeout(ctx, b.lock.cfg.RetryPeriod)
	defer cancel()
	err := b.lease.Update(ctx, b.leaseRecord(r))
	if err != nil {
		if err = b.readLease(ctx); err == nil && b.sealed() {
			err = b.lease.Update(ctx, b.leaseRecord(r))
		}
	}
	if err != nil {
		b.lock.log.V(2).Info("Tombstone in the Lease was not renewed", "err", err)
	}
}

func (b *bridge) sealed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.record.HolderIdentity == Tombstone
}

// release the lock first: it waits until the work has stopped.
func (b *bridge) release(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	err := b.lock.Update(ctx, r)
	if b.seal || err != nil {
		return err
	}
	return b.drop(ctx, b.lock.emptied())
}

// drop the Lease, if it is still ours, and leave a record in it.
func (b *bridge) drop(ctx context.Context, left resourcelock.LeaderElectionRecord) error {
	if err := b.readLease(ctx); err != nil {
		return err
	}
	b.mu.Lock()
	mine := b.record.HolderIdentity == b.lock.Identity()
	b.mu.Unlock()
	if !mine {
		return nil
	}
	if err := b.lease.Update(ctx, left); err != nil {
		return fmt.Errorf("release Lease: %w", err)
	}
	return nil
}

// leaseRecord is what the Lease says while r leads.
func (b *bridge) leaseRecord(r resourcelock.LeaderElectionRecord) resourcelock.LeaderElectionRecord {
	if b.seal {
		r.HolderIdentity, r.LeaseDurationSeconds = Tombstone, int(tombstoneDuration/time.Second)
	}
	return r
}

// RecordEvent of the elector.
func (b *bridge) RecordEvent(event string) {
	if t := b.lock.Term(); event == stoppedLeading && t != nil {
		t.lose(ErrReleased)
	}
	b.lock.RecordEvent(event)
}

// Identity that holds both.
func (b *bridge) Identity() string { return b.lock.Identity() }

// Describe names the election.
func (b *bridge) Describe() string { return b.lock.Describe() }

// Unseal empties a Lease that holds a tombstone, so that replicas that know only the
// Lease can lead again. Do it when none is left that knows only ZooKeeper. A Lease
// without a tombstone is left alone.
func Unseal(ctx context.Context, leases coordinationv1client.LeasesGetter, namespace, name string) error {
	lease := &resourcelock.LeaseLock{LeaseMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Client: leases}
	r, _, err := lease.Get(ctx)
	if err != nil {
		return fmt.Errorf("unseal %s/%s: %w", namespace, name, err)
	}
	if r.HolderIdentity != Tombstone {
		return nil
	}
	r.HolderIdentity, r.LeaseDurationSeconds = "", 1
	if err := lease.Update(ctx, *r); err != nil {
		return fmt.Errorf("unseal %s/%s: %w", namespace, name, err)
	}
	return nil
}
