package leaderelection

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coordinationv1client "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// Tombstone is the holder of a Lease whose election has moved to ZooKeeper.
const Tombstone = "moved-to-zookeeper"

// leaseBeside is the Lease of a Lock's election as the Lock's candidate has observed it.
// It is for one LeaderElector, whose calls come one after the other.
type leaseBeside struct {
	store  *resourcelock.LeaseLock
	absent bool // when it was last read, as all that follows
	record resourcelock.LeaderElectionRecord
	raw    string
	since  time.Time // it was first read so, on our own clock

	written time.Time // the last write of ours that was answered well: when it was sent
}

func newLeaseBeside(lock *Lock, leases coordinationv1client.LeasesGetter) *leaseBeside {
	return &leaseBeside{store: &resourcelock.LeaseLock{
		LeaseMeta: metav1.ObjectMeta{Namespace: lock.cfg.Namespace, Name: lock.cfg.Name}, Client: leases,
		LockConfig: resourcelock.ResourceLockConfig{Identity: lock.Identity()},
	}}
}

// read it, and note when it changed. What is known stays known if it can't be read.
func (b *leaseBeside) read(ctx context.Context) error {
	r, raw, err := b.store.Get(ctx)
	if apierrors.IsNotFound(err) {
		b.absent, b.record, b.raw = true, resourcelock.LeaderElectionRecord{}, ""
		return nil
	}
	if err != nil {
		return fmt.Errorf("get Lease: %w", err)
	}
	if seen := string(raw); seen != b.raw {
		b.raw, b.since = seen, time.Now()
	}
	b.absent, b.record = false, *r
	return nil
}

// write it, as it was when last read or written.
func (b *leaseBeside) write(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	write, sent := b.store.Update, time.Now()
	if b.absent {
		write = b.store.Create
	}
	if err := write(ctx, r); err != nil {
		return fmt.Errorf("write Lease: %w", err)
	}
	b.absent, b.record, b.written = false, r, sent
	return nil
}

// countedOn is so many transitions, or as many as it has counted.
func (b *leaseBeside) countedOn(transitions int) int {
	return max(transitions, b.record.LeaderTransitions)
}

// foreign is its holder, if it has one whose time is not over, and that is neither this
// candidate nor the tombstone.
func (b *leaseBeside) foreign(now time.Time) string {
	valid := now.Before(b.since.Add(time.Duration(b.record.LeaseDurationSeconds) * time.Second))
	if !valid || b.mine() || b.sealed() {
		return ""
	}
	return b.record.HolderIdentity
}

func (b *leaseBeside) mine() bool { return b.record.HolderIdentity == b.store.Identity() }

func (b *leaseBeside) sealed() bool { return b.record.HolderIdentity == Tombstone }
