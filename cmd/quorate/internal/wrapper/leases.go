package wrapper

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coordinationclient "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/klog/v2"
)

var (
	errRenewal = errors.New("lease was not renewed in time")
	errDeposed = errors.New("another holds the lease")
	errStale   = errors.New("no answer from the API server for a lease duration")
)

// Leases is a candidacy for a Lease.
type Leases struct {
	// Client of the API server.
	Client coordinationclient.LeasesGetter
	// Namespace and Name of the Lease.
	Namespace, Name string
	// Identity of the candidate; it must be unlike any other's.
	Identity string
	// LeaseDuration, RenewDeadline and RetryPeriod are the elector's.
	LeaseDuration, RenewDeadline, RetryPeriod time.Duration

	mu   sync.Mutex // guards below
	seen time.Time  // when the API server was last heard
}

// Check implements Candidacy.
func (l *Leases) Check() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.seen.IsZero() && time.Since(l.seen) > l.LeaseDuration+2*l.RetryPeriod {
		return errStale
	}
	return nil
}

func (l *Leases) heard() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seen = time.Now()
}

// Run implements Candidacy.
func (l *Leases) Run(ctx context.Context, work func(context.Context, Term)) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	t := &leaseTerm{proven: make(chan struct{}), leases: l, depose: func() { stop(errDeposed) }, Interface: &resourcelock.LeaseLock{
		LeaseMeta:  metav1.ObjectMeta{Namespace: l.Namespace, Name: l.Name},
		Client:     l.Client,
		LockConfig: resourcelock.ResourceLockConfig{Identity: l.Identity},
	}}
	returned := make(chan struct{})
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: t, Name: t.Describe(), LeaseDuration: l.LeaseDuration, RenewDeadline: l.RenewDeadline, RetryPeriod: l.RetryPeriod,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(ctx context.Context) {
				defer close(returned)
				t.begin(ctx)
				if t.readToken(ctx) {
					work(ctx, t)
				}
				if ctx.Err() == nil {
					stop(nil) // else it is known already why the term is over
				}
			},
			OnStoppedLeading: func() {},
		},
	})
	if err != nil {
		return fmt.Errorf("stand for lease %s: %w", t.Describe(), err)
	}
	elector.Run(ctx)
	if !t.begun() {
		return nil
	}
	cause := context.Cause(ctx) // nil: the elector gave up
	<-returned
	t.release(context.WithoutCancel(ctx))
	switch {
	case cause == nil:
		return fmt.Errorf("lead %s: %w", t.Describe(), errRenewal)
	case errors.Is(cause, errDeposed):
		return fmt.Errorf("lead %s: %w", t.Describe(), cause)
	}
	return nil
}

// leaseTerm is a Lease that keeps time: a renewal that was answered proves that
// nobody else takes the lease until its duration after the renewal was *sent*.
type leaseTerm struct {
	resourcelock.Interface
	leases *Leases
	depose func()

	mu       sync.Mutex // guards below
	deadline time.Time
	token    int64
	proven   chan struct{}
	work     context.Context // ends with the term; nil until it begins
}

// Get implements resourcelock.Interface. That another holds what we held ends the
// term here: client-go would go on until its renew deadline, and tells of a holder
// some time after it was read, perhaps when that is no more.
func (t *leaseTerm) Get(ctx context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	record, raw, err := t.Interface.Get(ctx)
	if err == nil {
		t.leases.heard()
		if record.HolderIdentity != t.Identity() && t.begun() {
			t.depose()
		}
	}
	return record, raw, err
}

// Create implements resourcelock.Interface.
func (t *leaseTerm) Create(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	return t.timed(r, func() error { return t.Interface.Create(ctx, r) })
}

// Update implements resourcelock.Interface.
func (t *leaseTerm) Update(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	return t.timed(r, func() error { return t.Interface.Update(ctx, r) })
}

func (t *leaseTerm) timed(r resourcelock.LeaderElectionRecord, write func() error) error {
	sent := time.Now()
	if err := write(); err != nil {
		return err
	}
	t.leases.heard()
	if r.HolderIdentity != t.Identity() {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.deadline = sent.Add(time.Duration(r.LeaseDurationSeconds) * time.Second)
	close(t.proven)
	t.proven = make(chan struct{})
	return nil
}

// readToken takes the version of the lease while we hold it for the token: the next
// holder's is higher, even if the lease was deleted in between. It says whether that
// succeeded before ctx ended.
func (t *leaseTerm) readToken(ctx context.Context) bool {
	retry := time.NewTicker(100 * time.Millisecond)
	defer retry.Stop()
	for {
		lease, err := t.leases.Client.Leases(t.leases.Namespace).Get(ctx, t.leases.Name, metav1.GetOptions{})
		if err == nil && lease.Spec.HolderIdentity != nil && *lease.Spec.HolderIdentity == t.Identity() {
			version, err := strconv.ParseInt(lease.ResourceVersion, 10, 64)
			t.mu.Lock()
			t.token = version
			t.mu.Unlock()
			return err == nil && ctx.Err() == nil
		}
		select {
		case <-ctx.Done():
			return false
		case <-retry.C:
		}
	}
}

// release gives the lease back if it is ours still.
func (t *leaseTerm) release(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, t.leases.RenewDeadline)
	defer cancel()
	record, _, err := t.Get(ctx)
	if err == nil && record.HolderIdentity == t.Identity() {
		now := metav1.Now()
		err = t.Update(ctx, resourcelock.LeaderElectionRecord{
			LeaderTransitions: record.LeaderTransitions, LeaseDurationSeconds: 1, RenewTime: now, AcquireTime: now,
		})
	}
	if err != nil {
		klog.FromContext(ctx).Info("Lease was not given back, it will run out", "lease", t.Describe(), "err", err)
	}
}

func (t *leaseTerm) begin(work context.Context) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.work = work
}

func (t *leaseTerm) begun() bool { return !t.Deadline().IsZero() }

// Token implements Term.
func (t *leaseTerm) Token() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.token
}

// Deadline implements Term.
func (t *leaseTerm) Deadline() time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.deadline
}

// Proven implements Term.
func (t *leaseTerm) Proven() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.proven
}

// Err implements Term. It is read from the context of the work, so that whoever sees
// that end knows why.
func (t *leaseTerm) Err() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.work == nil {
		return nil
	}
	return context.Cause(t.work)
}
