package leaderelection_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coordinationv1client "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/tools/leaderelection/resourcelock"

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

// atStepTwo is a leader that holds both, beside one that knows only the Lease.
func atStepTwo(t *testing.T) (m *migration, leader, other *replica) {
	t.Helper()
	m = &migration{tree: zookeepertest.NewTree(timeout), leases: leases(), h: newHistory()}
	leader = m.start(t, both)
	await(t, time.Minute, "a leader", func() bool { return m.h.leader() != "" })
	other = m.start(t, leaseOnly)
	pass(time.Minute + 500*time.Millisecond)
	return m, leader, other
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
				m, leader, other := atStepTwo(t)
				loss.suffer(t, m.tree, leader)
				await(t, 3*time.Minute, "the next term", func() bool { return len(m.h.order()) > 1 })
				leader.stop()
				other.stop()
				m.h.check(t)
			})
		})
	}
}

// A leader that can't renew the Lease stops before it is another's, though client-go
// releases before it cancels the work; and the owner is there until the work has stopped.
func TestLossOfTheAPIServerEndsTheWorkInTime(t *testing.T) {
	for name, lose := range map[string]func(*way){
		"no answers": func(w *way) { w.hangs.Store(true) },
		"no writes":  func(w *way) { w.refuses.Store(true) },
		// What is written lands, but no renewal is answered soon enough to be relied on.
		"slow answers": func(w *way) { w.slow.Store(int64(1500 * time.Millisecond)) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, leader, other := atStepTwo(t)
				lose(leader.api)
				for m.h.leader() == leader.name {
					if len(nodes(m.tree, "owner")) == 0 {
						t.Error("the owner is gone while the work goes on")
						break
					}
					pass(100 * time.Millisecond)
				}
				await(t, 3*time.Minute, "the next term", func() bool { return len(m.h.order()) > 1 })
				leader.stop()
				other.stop()
				m.h.check(t)
			})
		})
	}
}

// leaderByBoth is a lock that is held beside its Lease.
func leaderByBoth(t *testing.T, tree *zookeepertest.Tree) (*leaderelection.Lock, resourcelock.Interface) {
	t.Helper()
	l := lockOf(t, join(t, tree, newHistory(), "a"))
	lock := leaderelection.NewBridge(l, leases())
	if _, _, err := lock.Get(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := lock.Create(t.Context(), recordOf(l)); err != nil {
		t.Fatal(err)
	}
	return l, lock
}

// An elector that stops gives back what it holds, unless it has stopped because the Lease
// could not be renewed: its work goes on then, and the term was lost.
func TestStopWithoutARenewalIsNoRelease(t *testing.T) {
	const limit = leaderelection.DefaultRenewDeadline
	for name, c := range map[string]struct {
		renewals int
		idle     time.Duration // before each, and before the end
		want     error
	}{
		"gave up":      {idle: limit, want: leaderelection.ErrPastDeadline},
		"has acquired": {idle: limit - 1, want: leaderelection.ErrReleased},
		"has renewed":  {renewals: 1, idle: limit - 1, want: leaderelection.ErrReleased},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, tree *zookeepertest.Tree) {
				l, lock := leaderByBoth(t, tree)
				term := l.Term()
				for range c.renewals {
					pass(c.idle)
					if err := lock.Update(t.Context(), recordOf(l)); err != nil {
						t.Fatal(err)
					}
				}
				pass(c.idle)
				lock.RecordEvent("stopped leading")
				if err := term.Err(); !errors.Is(err, c.want) {
					t.Errorf("term ended by %v, want %v", err, c.want)
				}
			})
		})
	}
}

// A renewal that waits for the API server beyond the deadline is none.
func TestSlowLeaseRenewsNothingPastTheDeadline(t *testing.T) {
	for name, slow := range map[string]time.Duration{"Lease held": 999 * time.Millisecond, "Lease sealed": 5*time.Second - time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, tree *zookeepertest.Tree) {
				p, api := join(t, tree, newHistory(), "a"), &way{LeasesGetter: leases()}
				l := lockOf(t, p)
				lock := locks[name](l, api)
				if _, _, err := lock.Get(t.Context()); err != nil && !apierrors.IsNotFound(err) {
					t.Fatal(err)
				}
				if err := lock.Create(t.Context(), recordOf(l)); err != nil {
					t.Fatal(err)
				}
				term := l.Term()
				p.client().Isolate()
				api.slow.Store(int64(slow))
				for over := error(nil); over == nil; pass(time.Millisecond) {
					err := lock.Update(t.Context(), recordOf(l))
					if over = term.Valid(); (err == nil) != (over == nil) {
						t.Errorf("renewal: got %v, while of the term's deadline is said %v", err, over)
					}
				}
			})
		})
	}
}

// A renewal that the API server takes so long to answer that the Lease may run out before
// an elector that relies on it stops is none, and the next one is; also where the Lease
// was changed by others, and is written again.
func TestRenewalThatTakesLongIsNotReliedOn(t *testing.T) {
	for name, before := range map[string]func(*testing.T, coordinationv1client.LeasesGetter){
		"as it was left": func(*testing.T, coordinationv1client.LeasesGetter) {},
		"labelled":       label,
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, tree *zookeepertest.Tree) {
				api := &way{LeasesGetter: leases()}
				l := lockOf(t, join(t, tree, newHistory(), "a"))
				lock := leaderelection.NewBridge(l, api)
				if _, _, err := lock.Get(t.Context()); err != nil {
					t.Fatal(err)
				}
				if err := lock.Create(t.Context(), recordOf(l)); err != nil {
					t.Fatal(err)
				}
				// Of 15 s an elector goes on for 2 s and 10 s, and its work for another 2 s.
				for _, c := range []struct {
					slow time.Duration
					want error
				}{{time.Second + 1, leaderelection.ErrPastDeadline}, {time.Second, nil}} {
					before(t, api.LeasesGetter)
					api.slow.Store(int64(c.slow))
					if err := lock.Update(t.Context(), recordOf(l)); !errors.Is(err, c.want) {
						t.Errorf("renewal that took %v: got %v, want %v", c.slow, err, c.want)
					}
				}
				if l.Term() == nil {
					t.Error("the term is over")
				}
			})
		})
	}
}

// label the Lease anew, as somebody may do beside its holder.
func label(t *testing.T, api coordinationv1client.LeasesGetter) {
	t.Helper()
	l, err := api.Leases("ns").Get(t.Context(), "x", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	l.Labels = map[string]string{"seen-in": l.ResourceVersion}
	if _, err := api.Leases("ns").Update(t.Context(), l, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
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

// A candidate that gets the Lease and not the lock leaves the tombstone in it, whether it
// was told of the Lease or not: a leader by ZooKeeper alone relies on it.
func TestTombstoneIsLeftBesideALeader(t *testing.T) {
	for name, c := range map[string]struct {
		forgets bool
		want    error
	}{"answered": {want: leaderelection.ErrNotHolder}, "answer lost": {forgets: true, want: errAnswerLost}} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, tree *zookeepertest.Tree) {
				m := &migration{leases: leases()}
				la, lb := lockOf(t, join(t, tree, newHistory(), "a")), lockOf(t, join(t, tree, newHistory(), "b"))
				if err := leaderelection.NewSealed(la, m.leases).Create(t.Context(), recordOf(la)); err != nil {
					t.Fatal(err)
				}
				api := &way{LeasesGetter: m.leases}
				lock := leaderelection.NewBridge(lb, api)
				if _, _, err := lock.Get(t.Context()); err != nil {
					t.Fatal(err)
				}
				api.forgets.Store(c.forgets)
				if err := lock.Update(t.Context(), recordOf(lb)); !errors.Is(err, c.want) {
					t.Errorf("acquire beside a leader: got %v, want %v", err, c.want)
				}
				if got := m.holder(t); got != leaderelection.Tombstone {
					t.Errorf("Lease is held by %q, want %q", got, leaderelection.Tombstone)
				}
			})
		})
	}
}

// An elector that has stopped, maybe for the Lease alone, does not keep the lock.
func TestStoppedElectorHoldsNoLock(t *testing.T) {
	bubble(t, func(t *testing.T, tree *zookeepertest.Tree) {
		_, lock := leaderByBoth(t, tree)
		lock.RecordEvent("stopped leading")
		await(t, stopTime+time.Second, "no owner", func() bool { return len(nodes(tree, "owner")) == 0 })
	})
}

// counted is a Lease that nobody holds, after seven transitions.
func counted(t *testing.T) coordinationv1client.LeasesGetter {
	t.Helper()
	api, transitions := leases(), int32(7)
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "x"}, Spec: coordinationv1.LeaseSpec{LeaseTransitions: &transitions}}
	if _, err := api.Leases("ns").Create(t.Context(), lease, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	return api
}

func transitionsOf(t *testing.T, api coordinationv1client.LeasesGetter) int32 {
	t.Helper()
	l, err := api.Leases("ns").Get(t.Context(), "x", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return *l.Spec.LeaseTransitions
}

// What is counted in the Lease goes on to be counted beside it, where the election was in
// ZooKeeper before, and where it was not.
func TestTransitionsGoOnFromTheLease(t *testing.T) {
	for name, with := range locks {
		if name == "no Lease" {
			continue
		}
		for _, elected := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/elected=%v", name, elected), func(t *testing.T) {
				bubble(t, func(t *testing.T, tree *zookeepertest.Tree) {
					p, api := join(t, tree, newHistory(), "a"), counted(t)
					if before := lockOf(t, p); elected {
						acquire(t, before)
						if err := release(t.Context(), before); err != nil {
							t.Fatal(err)
						}
					}
					l := lockOf(t, p)
					lock, write := with(l, api), resourcelock.Interface.Update
					r, _, err := lock.Get(t.Context())
					if apierrors.IsNotFound(err) {
						write, r, err = resourcelock.Interface.Create, &resourcelock.LeaderElectionRecord{}, nil
					}
					if err != nil {
						t.Fatal(err)
					}
					next := recordOf(l)
					next.LeaderTransitions = r.LeaderTransitions // as an elector does that found no holder
					if err := write(lock, t.Context(), next); err != nil {
						t.Fatal(err)
					}
					if got, _, err := l.Get(t.Context()); err != nil || got.LeaderTransitions != 7 {
						t.Errorf("record: got %+v, %v, want 7 transitions", got, err)
					}
					if got := transitionsOf(t, api); got != 7 {
						t.Errorf("transitions of the Lease: got %d, want 7", got)
					}
				})
			})
		}
	}
}

// Nor is the count lost with a candidate that gets the Lease and not the lock.
func TestTransitionsStayWithoutTheLock(t *testing.T) {
	bubble(t, func(t *testing.T, tree *zookeepertest.Tree) {
		api, leader, l := counted(t), lockOf(t, join(t, tree, newHistory(), "a")), lockOf(t, join(t, tree, newHistory(), "b"))
		acquire(t, leader)
		lock := leaderelection.NewBridge(l, api)
		if _, _, err := lock.Get(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := lock.Update(t.Context(), recordOf(l)); !errors.Is(err, leaderelection.ErrNotHolder) {
			t.Errorf("acquire beside a leader: got %v, want %v", err, leaderelection.ErrNotHolder)
		}
		if got := transitionsOf(t, api); got != 7 {
			t.Errorf("transitions of the Lease: got %d, want 7", got)
		}
	})
}
