package leaderelection_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coordinationv1client "k8s.io/client-go/kubernetes/typed/coordination/v1"
	clientgo "k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"github.com/quorate/quorate/leaderelection"
	"github.com/quorate/quorate/leaderelection/zookeepertest"
)

// replica of a program in a migration: it knows one store, or both.
type replica struct {
	kind string
	*process
	api  *way
	kill func() // without a word to anybody
	stop func() // in peace
	wg   sync.WaitGroup
}

const (
	leaseOnly = "leases"
	both      = "leases-and-zookeeper"
	zkOnly    = "zookeeper"
)

type migration struct {
	tree   *zookeepertest.Tree
	leases coordinationv1client.LeasesGetter
	h      *history
	n      int
	cut    bool // whoever starts has no way to the API server
}

func (m *migration) start(t *testing.T, kind string) *replica {
	t.Helper()
	m.n++
	r := &replica{kind: kind, api: &way{LeasesGetter: m.leases}}
	r.api.cut.Store(m.cut)
	name := fmt.Sprintf("%s-%d", kind, m.n)
	var l resourcelock.Interface
	if kind == leaseOnly {
		r.process = &process{name: name, history: m.h, slow: stopTime - time.Millisecond}
		l = &resourcelock.LeaseLock{
			LeaseMeta: metav1.ObjectMeta{Namespace: "ns", Name: "x"}, Client: r.api,
			LockConfig: resourcelock.ResourceLockConfig{Identity: name},
		}
	} else {
		r.process = join(t, m.tree, m.h, name)
		lock := lockOf(t, r.process)
		if l = leaderelection.NewBridge(lock, r.api); kind == zkOnly {
			l = leaderelection.NewSealed(lock, r.api)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	dead := make(chan struct{})
	r.stop = sync.OnceFunc(func() { cancel(); r.wg.Wait() })
	r.kill = sync.OnceFunc(func() {
		close(dead)
		m.h.stop(name)
		if r.session != nil {
			r.client().Cut()
		}
		cancel()
	})
	r.wg.Go(func() { m.elect(ctx, t, r, &mortal{l, dead}, dead) })
	t.Cleanup(r.stop)
	return r
}

// mortal does nothing any more once its process is dead.
type mortal struct {
	resourcelock.Interface
	dead chan struct{}
}

func (m *mortal) Update(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	select {
	case <-m.dead:
		return context.Canceled
	default:
		return m.Interface.Update(ctx, r)
	}
}

func (m *mortal) RecordEvent(event string) {
	select {
	case <-m.dead:
	default:
		m.Interface.RecordEvent(event)
	}
}

func (m *migration) elect(ctx context.Context, t *testing.T, r *replica, l resourcelock.Interface, dead chan struct{}) {
	working := make(chan struct{}, 1) // holds one while the work goes on
	for ctx.Err() == nil {
		e, err := clientgo.NewLeaderElector(clientgo.LeaderElectionConfig{
			Lock: l, LeaseDuration: 15 * time.Second, RenewDeadline: 10 * time.Second, RetryPeriod: 2 * time.Second,
			// A LeaseLock is released before the work has stopped.
			ReleaseOnCancel: r.kind != leaseOnly,
			Callbacks: clientgo.LeaderCallbacks{
				OnStartedLeading: func(ctx context.Context) {
					working <- struct{}{}
					defer func() { <-working }()
					m.h.mu.Lock()
					token := int64(len(m.h.tokens) + 1) // Leases have none
					m.h.mu.Unlock()
					select {
					case <-dead:
						return
					default:
					}
					m.h.start(r.name, token)
					<-ctx.Done()
					select {
					case <-time.After(r.slow):
					case <-dead:
					}
					m.h.stop(r.name)
				},
				OnStoppedLeading: func() {},
			},
		})
		if err != nil {
			t.Error(err)
			return
		}
		e.Run(ctx)
		working <- struct{}{}
		<-working
	}
}

// A rolling update from Leases to ZooKeeper and back, replicas killed or stopped at
// every step, and leaders that hold both without ZooKeeper: never two leaders, and always
// one in the end.
func TestMigrationThereAndBack(t *testing.T) {
	runs := 2
	if os.Getenv("QUORATE_CHAOS") != "" {
		runs *= 20
	}
	violations := 0
	for i := range runs {
		seed := rand.Uint64()
		t.Run(fmt.Sprintf("%d/seed=%d", i, seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { violations += thereAndBack(t, rand.New(rand.NewPCG(seed, 0))) })
		})
	}
	fmt.Printf("chaos: migration runs=%d violations=%d\n", runs, violations)
}

func thereAndBack(t *testing.T, r *rand.Rand) (violations int) {
	m := &migration{tree: zookeepertest.NewTree(timeout), leases: leases(), h: newHistory()}
	passUpTo := func(ms int) { pass(time.Duration(r.IntN(ms)) * time.Millisecond) }
	var running []*replica
	for range 3 {
		running = append(running, m.start(t, leaseOnly))
	}
	for _, kind := range []string{both, zkOnly, both, leaseOnly} {
		for i, old := range running {
			running[i] = m.start(t, kind) // surge: the new one is there first
			passUpTo(20_000)
			if r.IntN(2) == 0 {
				old.kill()
			}
			old.stop()
			passUpTo(20_000)
			if leader := find(running, m.h.leader()); leader != nil && leader.kind == both && r.IntN(2) == 0 {
				losses[r.IntN(len(losses))].suffer(t, m.tree, leader)
			}
			passUpTo(20_000)
		}
		await(t, 3*time.Minute, "a leader that knows "+kind, func() bool { return m.h.leader() != "" })
		if kind == zkOnly {
			forgottenReplica(t, m)
		}
	}
	for _, r := range running {
		r.stop()
	}
	m.h.check(t)
	return len(m.h.violations())
}

func find(running []*replica, name string) *replica {
	for _, r := range running {
		if r.name == name {
			return r
		}
	}
	return nil
}

// forgottenReplica knows only the Lease, and cannot lead beside one that knows only
// ZooKeeper: the tombstone is in its way.
func forgottenReplica(t *testing.T, m *migration) {
	t.Helper()
	l, err := m.leases.Leases("ns").Get(t.Context(), "x", metav1.GetOptions{})
	if err != nil || l.Spec.HolderIdentity == nil || *l.Spec.HolderIdentity != leaderelection.Tombstone {
		t.Fatalf("Lease after the migration: %+v, %v", l, err)
	}
	before := len(m.h.order())
	forgotten := m.start(t, leaseOnly)
	pass(10 * time.Minute)
	if got := m.h.order(); len(got) != before {
		t.Errorf("leaders beside the tombstone: %v", got[before:])
	}
	forgotten.stop()
}

// unseal the Lease; one without a tombstone is left alone.
func (m *migration) unseal(t *testing.T) {
	t.Helper()
	for _, want := range []bool{true, false} {
		if got, err := leaderelection.Unseal(t.Context(), m.leases, "ns", "x"); err != nil || got != want {
			t.Fatalf("unsealed: got %v, %v, want %v", got, err, want)
		}
	}
}

// The way back without the step between: the tombstone is taken away by hand.
func TestUnseal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &migration{tree: zookeepertest.NewTree(timeout), leases: leases(), h: newHistory()}
		zk := m.start(t, zkOnly)
		await(t, time.Minute, "a leader", func() bool { return m.h.leader() != "" })
		zk.stop()
		old := m.start(t, leaseOnly)
		pass(time.Minute)
		if l := m.h.leader(); l != "" {
			t.Errorf("%s leads though the Lease is sealed", l)
		}
		m.unseal(t)
		await(t, time.Minute, "a leader by the Lease", func() bool { return m.h.leader() != "" })
		old.stop()
		m.h.check(t)
	})
}
