package leaderelection_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/quorate/quorate/leaderelection"
	"github.com/quorate/quorate/leaderelection/zookeeper"
	"github.com/quorate/quorate/leaderelection/zookeepertest"
)

// holder of the Lease, as everybody reads it.
func (m *migration) holder(t *testing.T) string {
	t.Helper()
	l, err := m.leases.Leases("ns").Get(t.Context(), "x", metav1.GetOptions{})
	if err != nil || l.Spec.HolderIdentity == nil {
		return ""
	}
	return *l.Spec.HolderIdentity
}

// stall the acquires of a replica for so long from the first of them, then call after.
func stall(r *replica, d time.Duration, after func()) {
	var first time.Time
	r.client().Inject(func(ops []zookeeper.Op) zookeepertest.Fault {
		if len(ops) <= 3 {
			return zookeepertest.None
		}
		if first.IsZero() {
			first = time.Now()
		}
		if time.Since(first) < d {
			return zookeepertest.LostBefore
		}
		after()
		return zookeepertest.None
	})
}

// halfway is a replica that holds the Lease, and waits for ZooKeeper for so long,
// beside one that knows only the Lease.
func halfway(t *testing.T, m *migration, waits time.Duration, after func(*replica)) (stuck, other *replica) {
	t.Helper()
	before := m.start(t, leaseOnly)
	await(t, time.Minute, "a first leader", func() bool { return m.h.leader() != "" })
	stuck = m.start(t, both)
	pass(10 * time.Second)
	stall(stuck, waits, func() { after(stuck) })
	before.stop()
	await(t, time.Minute, "the Lease held by one that waits for ZooKeeper", func() bool { return strings.HasPrefix(m.holder(t), both) })
	return stuck, m.start(t, leaseOnly)
}

// ZooKeeper stalls between the two parts of an acquire, for as long as a Lease lasts
// and a session survives: what is won in the end is led by only if the Lease still is
// ours.
func TestStallBetweenLeaseAndLock(t *testing.T) {
	for _, waits := range []time.Duration{5 * time.Second, 12 * time.Second, 16 * time.Second, 20 * time.Second, 28 * time.Second} {
		t.Run(waits.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := &migration{tree: zookeepertest.NewTree(timeout), leases: leases(), h: newHistory()}
				stuck, other := halfway(t, m, waits, func(*replica) {})
				pass(2 * time.Minute)
				if m.h.leader() == "" {
					t.Error("nobody leads after the stall")
				}
				stuck.stop()
				other.stop()
				m.h.check(t)
			})
		})
	}
}

// A Lease that was written long before the lock was had is written again, or it would
// run out before an elector that has lost the API server since.
func TestLeaseIsFreshWhenTheLockIsHad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &migration{tree: zookeepertest.NewTree(timeout), leases: leases(), h: newHistory()}
		stuck, other := halfway(t, m, 9*time.Second, func(r *replica) { r.api.cut.Store(true) })
		pass(2 * time.Minute)
		if got := m.h.leader(); got != other.name {
			t.Errorf("leader while the other cannot reach the API server: got %q, want %q", got, other.name)
		}
		stuck.stop()
		other.stop()
		m.h.check(t)
	})
}

// losses of ZooKeeper alone, by a leader that holds the Lease beside it.
var losses = []struct {
	name   string
	suffer func(t *testing.T, tree *zookeepertest.Tree, leader *replica)
}{
	{"server without peers", func(_ *testing.T, _ *zookeepertest.Tree, leader *replica) { leader.client().Isolate() }},
	{"expired", func(_ *testing.T, _ *zookeepertest.Tree, leader *replica) { leader.client().Expire() }},
	{"owner deleted", func(t *testing.T, tree *zookeepertest.Tree, _ *replica) {
		if len(nodes(tree, "owner")) > 0 {
			remove(t, tree, election1+"/owner")
		}
	}},
	{"asked to resign", func(t *testing.T, _ *zookeepertest.Tree, leader *replica) {
		leader.wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			_ = leader.session.Resign(ctx, "ns", "x") // it may lead no more
		})
	}},
}

// A leader that loses ZooKeeper keeps the Lease until its work has stopped: a replica
// that knows only the Lease leads no sooner.
func TestLossOfZooKeeperKeepsTheLease(t *testing.T) {
	for _, loss := range losses {
		t.Run(loss.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := &migration{tree: zookeepertest.NewTree(timeout), leases: leases(), h: newHistory()}
				leader := m.start(t, both)
				await(t, time.Minute, "a leader", func() bool { return m.h.leader() != "" })
				other := m.start(t, leaseOnly)
				pass(time.Minute + 500*time.Millisecond)
				loss.suffer(t, m.tree, leader)
				await(t, 3*time.Minute, "the next term", func() bool { return len(m.h.order()) > 1 })
				leader.stop()
				other.stop()
				m.h.check(t)
			})
		})
	}
}

// A renewal that waits for the API server beyond the deadline is none.
func TestSlowLeaseRenewsNothingPastTheDeadline(t *testing.T) {
	bubble(t, func(t *testing.T, tree *zookeepertest.Tree) {
		p, api := join(t, tree, newHistory(), "a"), &way{LeasesGetter: leases()}
		l := lockOf(t, p)
		lock := leaderelection.NewBridge(l, api)
		if _, _, err := lock.Get(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := lock.Create(t.Context(), recordOf(l)); err != nil {
			t.Fatal(err)
		}
		term := l.Term()
		p.client().Isolate()
		api.slow.Store(int64(5*time.Second - time.Millisecond))
		for over := error(nil); over == nil; {
			err := lock.Update(t.Context(), recordOf(l))
			if over = term.Valid(); (err == nil) != (over == nil) {
				t.Errorf("renewal: got %v, while of the term's deadline is said %v", err, over)
			}
		}
	})
}

// An acquire that stalls when the lock was had, until its term is over, is none.
func TestStallAfterTheLockAcquiresNothing(t *testing.T) {
	bubble(t, func(t *testing.T, tree *zookeepertest.Tree) {
		p, api := join(t, tree, newHistory(), "a"), &way{LeasesGetter: leases()}
		l := lockOf(t, p)
		lock := leaderelection.NewBridge(l, api)
		if _, _, err := lock.Get(t.Context()); err != nil {
			t.Fatal(err)
		}
		p.client().Inject(func(ops []zookeeper.Op) zookeepertest.Fault {
			switch {
			case len(ops) > 3:
				api.slow.Store(int64(timeout / 2)) // the Lease's next write
			case api.slow.Load() > 0:
				return zookeepertest.LostBefore
			}
			return zookeepertest.None
		})
		if err := lock.Create(t.Context(), recordOf(l)); err == nil || l.Term() != nil {
			t.Errorf("acquire: got %v, and the term %v", err, l.Term())
		}
	})
}

// A candidate that gets the Lease and not the lock leaves the tombstone in it: a leader by
// ZooKeeper alone relies on it.
func TestTombstoneIsLeftBesideALeader(t *testing.T) {
	bubble(t, func(t *testing.T, tree *zookeepertest.Tree) {
		m := &migration{leases: leases()}
		la, lb := lockOf(t, join(t, tree, newHistory(), "a")), lockOf(t, join(t, tree, newHistory(), "b"))
		if err := leaderelection.NewSealed(la, m.leases).Create(t.Context(), recordOf(la)); err != nil {
			t.Fatal(err)
		}
		lock := leaderelection.NewBridge(lb, m.leases)
		if _, _, err := lock.Get(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := lock.Update(t.Context(), recordOf(lb)); !errors.Is(err, leaderelection.ErrNotHolder) {
			t.Errorf("acquire beside a leader: got %v, want %v", err, leaderelection.ErrNotHolder)
		}
		if got := m.holder(t); got != leaderelection.Tombstone {
			t.Errorf("Lease is held by %q, want %q", got, leaderelection.Tombstone)
		}
	})
}

// An elector that has stopped, maybe for the Lease alone, does not keep the lock.
func TestStoppedElectorHoldsNoLock(t *testing.T) {
	bubble(t, func(t *testing.T, tree *zookeepertest.Tree) {
		l := lockOf(t, join(t, tree, newHistory(), "a"))
		lock := leaderelection.NewBridge(l, leases())
		if _, _, err := lock.Get(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := lock.Create(t.Context(), recordOf(l)); err != nil {
			t.Fatal(err)
		}
		lock.RecordEvent("stopped leading")
		await(t, stopTime+time.Second, "no owner", func() bool { return len(nodes(tree, "owner")) == 0 })
	})
}

// What is counted in the Lease goes on to be counted beside it: transitions never go back.
func TestTransitionsGoOnFromTheLease(t *testing.T) {
	for name, with := range locks {
		if name == "no Lease" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, tree *zookeepertest.Tree) {
				p, api := join(t, tree, newHistory(), "a"), leases()
				before := lockOf(t, p)
				acquire(t, before)
				if err := release(t.Context(), before); err != nil {
					t.Fatal(err)
				}
				transitions := int32(7)
				lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "x"}, Spec: coordinationv1.LeaseSpec{LeaseTransitions: &transitions}}
				if _, err := api.Leases("ns").Create(t.Context(), lease, metav1.CreateOptions{}); err != nil {
					t.Fatal(err)
				}
				r, _, err := with(lockOf(t, p), api).Get(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if r.LeaderTransitions != 7 {
					t.Errorf("transitions: got %d, want the Lease's 7", r.LeaderTransitions)
				}
			})
		})
	}
}
