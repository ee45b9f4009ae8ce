package election

import (
	"context"
	"errors"
	"fmt"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/klog/v2"

	"github.com/quorate/quorate/cmd/quorate/internal/config"
)

// Store is one place where the election can be held.
type Store interface {
	// Lock to be won there.
	Lock() resourcelock.Interface
	// Identity of the store, the same for all replicas and addresses; empty where there
	// is only one such store.
	Identity() string
	// Close gives up what is held, after the work has ended.
	Close(ctx context.Context) error
}

// Open reaches the store that the configuration names.
type Open func(ctx context.Context, c config.LeaderElection) (Store, error)

// Elector runs work on the replica that leads.
type Elector struct {
	// Client for the pointer, in Namespace.
	Client    kubernetes.Interface
	Namespace string
	// Identity of this replica.
	Identity string
	// Open reaches a store.
	Open Open
	// Work is done while leading, and must return soon after its ctx ends.
	Work func(ctx context.Context)
	// Retry between two attempts to reach a store. 0: 5 s.
	Retry time.Duration
}

// Run elects as the first configuration says, and again as each that comes by changes
// says, until ctx ends. It returns when the work has ended and the lock is released.
func (e *Elector) Run(ctx context.Context, c config.LeaderElection, changes <-chan config.LeaderElection) {
	for {
		electing, stop := context.WithCancel(ctx)
		done := make(chan struct{})
		go func(c config.LeaderElection) {
			defer close(done)
			e.elect(electing, c)
		}(c)
		select {
		case <-ctx.Done():
		case c = <-changes:
			klog.FromContext(ctx).Info("The election moves: its configuration changed")
		}
		stop()
		<-done
		if ctx.Err() != nil {
			return
		}
	}
}

// elect holds elections in one place until ctx ends.
func (e *Elector) elect(ctx context.Context, c config.LeaderElection) {
	if !c.LeaderElect {
		e.Work(ctx)
		return
	}
	for ctx.Err() == nil {
		if err := e.once(ctx, c); err != nil && ctx.Err() == nil {
			klog.FromContext(ctx).Error(err, "Election ended; it begins again", "lock", c.ResourceLock)
		}
		pause(ctx, e.retry())
	}
}

// once opens the store and elects until leadership is lost or ctx ends.
func (e *Elector) once(ctx context.Context, c config.LeaderElection) error {
	store, err := e.Open(ctx, c)
	if err != nil {
		return err
	}
	defer e.close(ctx, store, c.RenewDeadline.Duration)
	return e.lead(ctx, store, c, func(ctx context.Context) {
		if err := e.claim(ctx, store, c); err == nil {
			e.Work(ctx)
		}
	})
}

// lead runs do while this replica holds the store's lock, and returns when do has.
func (e *Elector) lead(ctx context.Context, store Store, c config.LeaderElection, do func(context.Context)) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	returned := make(chan struct{})
	lock := &witness{Interface: store.Lock()}
	// The elector would release the lock before the work has ended: Close does it after.
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: lock, Name: c.ResourceName,
		LeaseDuration: c.LeaseDuration.Duration, RenewDeadline: c.RenewDeadline.Duration, RetryPeriod: c.RetryPeriod.Duration,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(ctx context.Context) {
				defer close(returned)
				defer stop()
				do(ctx)
			},
			OnStoppedLeading: func() {},
			OnNewLeader:      func(string) {},
		},
	})
	if err != nil {
		return fmt.Errorf("elect: %w", err)
	}
	elector.Run(ctx)
	if lock.led {
		<-returned
	}
	return nil
}

// witness remembers whether the elector has led: it says so by an event, before it
// starts the work.
type witness struct {
	resourcelock.Interface
	led bool // written and read by the goroutine of the elector only
}

// RecordEvent is called by the elector.
func (w *witness) RecordEvent(event string) {
	if event == "became leader" {
		w.led = true
	}
	w.Interface.RecordEvent(event)
}

// claim makes the pointer name this store, and returns once it does or ctx ends.
func (e *Elector) claim(ctx context.Context, store Store, c config.LeaderElection) error {
	if store.Identity() == "" {
		return nil
	}
	p := pointer{e.Client.CoordinationV1().Leases(e.Namespace), c.ResourceName + "-store"}
	mine := place{store.Identity(), c.ZooKeeper.Servers}
	for {
		err := e.move(ctx, p, mine, c)
		if err == nil || ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
		klog.FromContext(ctx).Error(err, "Won the lock, but may not lead yet")
		pause(ctx, e.retry())
	}
}

// move writes the pointer, holding the lock of the place that it names.
func (e *Elector) move(ctx context.Context, p pointer, mine place, c config.LeaderElection) error {
	at, read, err := p.read(ctx)
	if err != nil {
		return err
	}
	if read == nil || at.store == mine.store {
		return p.write(ctx, read, mine, e.Identity)
	}
	old := c
	old.ZooKeeper.Servers = at.address
	store, err := e.Open(ctx, old)
	if err != nil {
		return fmt.Errorf("the election is held on another ensemble, at %s, which is not reached; if it is gone for good, delete the Lease %s/%s: %w", at.address, e.Namespace, p.name, err)
	}
	defer e.close(ctx, store, c.RenewDeadline.Duration)
	if store.Identity() != at.store {
		return fmt.Errorf("the election is held on an ensemble that was at %s, where another one is now; if it is gone for good, delete the Lease %s/%s", at.address, e.Namespace, p.name)
	}
	klog.FromContext(ctx).Info("Waiting for the lock of the ensemble that the election is moved from", "from", at.address, "to", mine.address)
	moved := errors.New("the lock of the former ensemble was not won")
	err = e.lead(ctx, store, old, func(ctx context.Context) {
		// What was read before the lock was won may be stale.
		if at, read, moved = p.read(ctx); moved == nil && at.store != store.Identity() {
			moved = errors.New("the election was moved by somebody else")
		}
		if moved == nil {
			moved = p.write(ctx, read, mine, e.Identity)
		}
	})
	return errors.Join(err, moved)
}

func (e *Elector) retry() time.Duration {
	if e.Retry == 0 {
		return 5 * time.Second
	}
	return e.Retry
}

func (e *Elector) close(ctx context.Context, store Store, limit time.Duration) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	if err := store.Close(ctx); err != nil {
		klog.FromContext(ctx).Error(err, "Could not close the store of the election")
	}
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
