package leaderelection

import (
	"context"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coordinationv1client "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// tombstoneDuration keeps LeaderElectors since Kubernetes 1.27 away. Older ones judge
// by their own lease duration, the default or ours, and are kept away while the leader
// writes the tombstone again before that is over.
const tombstoneDuration = 10 * 365 * 24 * time.Hour

// sealed is a Lock that is acquired only when a tombstone is in the Lease of the same
// name: a forgotten replica that knows only the Lease cannot lead beside it, and while
// such a one leads this does not.
//
// It is as quick as the Lock, and leads on without an API server. Who has seen the
// tombstone may also begin to lead without one: only a person takes a tombstone away
// (Unseal), when no replica is left that knows only ZooKeeper, or a replica that holds
// both, which must not run beside those that know only the Lease and this one at once.
// Should somebody have done otherwise, whoever leads finds the Lease's holder when it
// next writes the tombstone, and steps down.
type sealed struct {
	*Lock
	lease    *leaseBeside
	intruder string // in the Lease, when it was last found without a tombstone
}

var _ resourcelock.Interface = (*sealed)(nil)

func newSealed(lock *Lock, leases coordinationv1client.LeasesGetter) *sealed {
	return &sealed{Lock: lock, lease: newLeaseBeside(lock, leases)}
}

// Get returns the Lease's holder, if it has one and is no tombstone, and else what the
// Lock's Get does. An elector that renews or releases asks of the Lock alone.
func (s *sealed) Get(ctx context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	if _, bounded := ctx.Deadline(); bounded || s.Term() != nil {
		return s.Lock.Get(ctx)
	}
	s.electorStopped()
	if err := s.look(ctx); err != nil {
		return nil, nil, err
	}
	if s.lease.foreign(time.Now()) != "" {
		r := s.lease.record
		return &r, []byte(s.lease.raw), nil
	}
	r, raw, err := s.Lock.Get(ctx)
	if err != nil {
		return nil, nil, err
	}
	r.LeaderTransitions = s.lease.countedOn(r.LeaderTransitions)
	return r, raw, nil
}

// look at the Lease. Who has seen the tombstone does not need an answer, and waits for
// one no longer than its turn in the queue is kept.
func (s *sealed) look(ctx context.Context) error {
	if !s.lease.sealed() {
		return s.lease.read(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, takeTime/2)
	defer cancel()
	if err := s.lease.read(ctx); err != nil {
		s.log.V(2).Info("Lease is taken to have its tombstone still", "err", err)
	}
	return nil
}

// Create acquires the lock of an election that never was in ZooKeeper.
func (s *sealed) Create(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	if err := s.seal(ctx, r); err != nil {
		return err
	}
	r.LeaderTransitions = s.lease.countedOn(r.LeaderTransitions)
	return s.Lock.Create(ctx, r)
}

// Update acquires the lock, renews it, or releases it.
func (s *sealed) Update(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	term := s.Term()
	if term == nil && r.HolderIdentity != "" {
		if err := s.seal(ctx, r); err != nil {
			return err
		}
	}
	err := s.Lock.Update(ctx, r)
	if err == nil && term != nil && r.HolderIdentity != "" {
		s.keep(ctx, r, term)
		err = term.Valid()
	}
	return err
}

// seal the Lease, before anything is acquired.
func (s *sealed) seal(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	if s.isRefusing() {
		return fmt.Errorf("acquire %s: %w", s.Describe(), ErrTermOver) // without waiting for an answer
	}
	if err := s.look(ctx); err != nil {
		return fmt.Errorf("acquire %s: %w", s.Describe(), err)
	}
	if s.lease.sealed() {
		return nil
	}
	if holder := s.lease.foreign(time.Now()); holder != "" {
		return fmt.Errorf("acquire %s: %w: %s holds the Lease", s.Describe(), ErrNotHolder, holder)
	}
	if err := s.bury(ctx, r); err != nil {
		return fmt.Errorf("seal %s: %w", s.Describe(), err)
	}
	return nil
}

// bury the Lease below a tombstone.
func (s *sealed) bury(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	r.HolderIdentity, r.LeaseDurationSeconds = Tombstone, int(tombstoneDuration/time.Second)
	r.LeaderTransitions = s.lease.countedOn(r.LeaderTransitions)
	if err := s.lease.write(ctx, r); err != nil {
		return err
	}
	s.intruder = ""
	return nil
}

// keep the tombstone while leading: it is written once at the beginning, and then as
// seldom as old electors allow. A failure takes nothing from us; a holder of the Lease
// that is there twice, where one that holds both would have found the lock taken and
// gone, does.
func (s *sealed) keep(ctx context.Context, r resourcelock.LeaderElectionRecord, term *Term) {
	if time.Since(s.lease.written) < max(s.cfg.LeaseDuration, DefaultLeaseDuration)*2/3 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.RetryPeriod)
	defer cancel()
	if s.lease.sealed() && s.bury(ctx, r) == nil {
		return
	}
	err := s.lease.read(ctx)
	holder := s.lease.foreign(time.Now())
	switch {
	case err == nil && holder == "":
		err = s.bury(ctx, r)
	case err == nil && holder == s.intruder:
		term.lose(fmt.Errorf("%w: %s holds the Lease", ErrNotHolder, holder))
	}
	s.intruder = holder
	if err != nil {
		s.log.V(2).Info("Tombstone was not written to the Lease", "err", err)
	}
}

// Unseal empties a Lease that holds a tombstone, so that replicas that know only the
// Lease can lead again, and tells whether it held one: a Lease without is left alone. Do
// it when no replica is left that knows only ZooKeeper.
func Unseal(ctx context.Context, leases coordinationv1client.LeasesGetter, namespace, name string) (bool, error) {
	lease := &resourcelock.LeaseLock{LeaseMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Client: leases}
	r, _, err := lease.Get(ctx)
	if err != nil {
		return false, fmt.Errorf("unseal %s/%s: %w", namespace, name, err)
	}
	if r.HolderIdentity != Tombstone {
		return false, nil
	}
	r.HolderIdentity, r.LeaseDurationSeconds = "", 1
	if err := lease.Update(ctx, *r); err != nil {
		return false, fmt.Errorf("unseal %s/%s: %w", namespace, name, err)
	}
	return true, nil
}
