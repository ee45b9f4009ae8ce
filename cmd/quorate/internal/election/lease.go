package election

import (
	"context"
	"fmt"

	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// Lease is a Store in the API server.
type Lease struct{ lock resourcelock.Interface }

// NewLease makes a Store of a LeaseLock.
func NewLease(lock resourcelock.Interface) *Lease { return &Lease{lock} }

// Lock implements Store.
func (l *Lease) Lock() resourcelock.Interface { return l.lock }

// Identity implements Store: there is one API server.
func (l *Lease) Identity() string { return "" }

// Close releases the Lease if it is ours still: by what is read now, not by what was
// known before, which would clobber a successor.
func (l *Lease) Close(ctx context.Context) error {
	record, _, err := l.lock.Get(ctx)
	if err != nil || record.HolderIdentity != l.lock.Identity() {
		return nil //nolint:nilerr // it ends by itself
	}
	record.HolderIdentity, record.LeaseDurationSeconds = "", 1
	if err := l.lock.Update(ctx, *record); err != nil {
		return fmt.Errorf("release %s: %w", l.lock.Describe(), err)
	}
	return nil
}
