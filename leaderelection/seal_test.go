package leaderelection_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/quorate/quorate/leaderelection"
	"github.com/quorate/quorate/leaderelection/zookeepertest"
)

// sealed is an election by ZooKeeper with a Lease beside it: a leader, and a standby
// that waits.
func sealed(t *testing.T, do func(t *testing.T, m *migration, leader, standby *replica)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m := &migration{tree: zookeepertest.NewTree(timeout), leases: leases(), h: newHistory()}
		leader := m.start(t, zkOnly)
		await(t, time.Minute, "a leader", func() bool { return m.h.leader() != "" })
		standby := m.start(t, zkOnly)
		pass(time.Minute + time.Second) // not just when the leader writes
		do(t, m, leader, standby)
		leader.stop()
		standby.stop()
		m.h.check(t)
	})
}

// write what the Lease says, as somebody else does.
func (m *migration) write(t *testing.T, change func(*coordinationv1.LeaseSpec)) {
	t.Helper()
	l, err := m.leases.Leases("ns").Get(t.Context(), "x", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	change(&l.Spec)
	if _, err := m.leases.Leases("ns").Update(t.Context(), l, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// The flag swap hands over as the lock does: by watch, in no time.
func TestSealedLockHandsOverByWatch(t *testing.T) {
	sealed(t, func(t *testing.T, m *migration, leader, standby *replica) {
		leader.stop()
		synctest.Wait()
		if got := m.h.leader(); got != standby.name {
			t.Errorf("leader when the former one has released: got %q, want %q", got, standby.name)
		}
	})
}

// A candidate that dies is followed by its session's end, and nobody polls.
func TestSealedLockIsTakenOverByWatch(t *testing.T) {
	sealed(t, func(t *testing.T, m *migration, leader, standby *replica) {
		leader.kill()
		await(t, timeout+tick*3/2+10*time.Millisecond, "a successor", func() bool { return m.h.leader() == standby.name })
	})
}

// At rest a standby asks the API server nothing, and the leader writes the tombstone as
// often as electors need it that judge a Lease by their own lease duration.
func TestSealedLockSparesTheAPIServer(t *testing.T) {
	sealed(t, func(t *testing.T, _ *migration, leader, standby *replica) {
		before, beside := leader.api.requests.Load(), standby.api.requests.Load()
		pass(10 * time.Minute)
		if got := leader.api.requests.Load() - before; got < 40 || got > 60 {
			t.Errorf("requests of the leader in ten minutes: got %d, want one in 10 to 15 s", got)
		}
		if got := standby.api.requests.Load() - beside; got != 0 {
			t.Errorf("requests of the standby in ten minutes: got %d, want none", got)
		}
	})
}

// Who has seen the tombstone goes on without the API server; who has not must not lead.
func TestSealedLockWithoutTheAPIServer(t *testing.T) {
	sealed(t, func(t *testing.T, m *migration, leader, standby *replica) {
		leader.api.cut.Store(true)
		standby.api.cut.Store(true)
		pass(10 * time.Minute)
		if got := m.h.leader(); got != leader.name {
			t.Fatalf("leader without the API server: got %q, want %q as before", got, leader.name)
		}
		leader.stop()
		synctest.Wait()
		if got := m.h.leader(); got != standby.name {
			t.Errorf("leader when the former one has released: got %q, want %q", got, standby.name)
		}
		m.cut = true
		newcomer := m.start(t, zkOnly)
		pass(time.Minute)
		standby.stop()
		pass(time.Minute)
		if got := m.h.leader(); got != "" {
			t.Errorf("%s leads, though it never saw the tombstone", got)
		}
		newcomer.stop()
	})
}

// A tombstone that was blanked, as an old replica's release may do, is written again.
func TestTombstoneIsWrittenAgain(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, m *migration){
		"blanked": func(t *testing.T, m *migration) {
			m.write(t, func(spec *coordinationv1.LeaseSpec) { spec.HolderIdentity = nil })
		},
		"deleted": func(t *testing.T, m *migration) {
			if err := m.leases.Leases("ns").Delete(t.Context(), "x", metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			sealed(t, func(t *testing.T, m *migration, _, _ *replica) {
				change(t, m)
				await(t, 15*time.Second, "the tombstone", func() bool { return m.holder(t) == leaderelection.Tombstone })
			})
		})
	}
}

// Of a leader by the Lease alone and one by ZooKeeper alone, which somebody brought
// about by taking the tombstone away, the one that can know of both steps down.
func TestLeaderStepsDownForTheLeasesHolder(t *testing.T) {
	sealed(t, func(t *testing.T, m *migration, leader, standby *replica) {
		m.unseal(t)
		forgotten := m.start(t, leaseOnly)
		await(t, 10*time.Second, "the Lease's holder", func() bool { return strings.HasPrefix(m.holder(t), leaseOnly) })
		await(t, 40*time.Second, "one leader", func() bool { return m.h.leads(forgotten.name) && !m.h.leads(leader.name) })
		pass(10 * time.Minute)
		if m.h.leads(leader.name) || m.h.leads(standby.name) {
			t.Error("somebody leads by ZooKeeper beside the Lease's holder")
		}
		m.h.forget() // what taking the tombstone away has brought about
		forgotten.stop()
		await(t, time.Minute, "a leader by ZooKeeper", func() bool { return m.h.leader() != "" })
		if got := m.holder(t); got != leaderelection.Tombstone {
			t.Errorf("Lease is held by %q, want %q", got, leaderelection.Tombstone)
		}
	})
}

// An elector that has lost the lock must stop its work, and not wait for the API server
// before it is told so.
func TestSealedLockAsksNothingAfterALoss(t *testing.T) {
	bubble(t, func(t *testing.T, tree *zookeepertest.Tree) {
		l, api := lockOf(t, join(t, tree, newHistory(), "a")), &way{LeasesGetter: leases()}
		lock := leaderelection.NewSealed(l, api)
		if _, _, err := lock.Get(t.Context()); !apierrors.IsNotFound(err) {
			t.Fatal(err)
		}
		if err := lock.Create(t.Context(), recordOf(l)); err != nil {
			t.Fatal(err)
		}
		remove(t, tree, election1+"/owner")
		<-l.Lost()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		before := api.requests.Load()
		_, _, err := lock.Get(ctx)
		for _, err := range []error{err, lock.Update(ctx, recordOf(l)), lock.Create(ctx, recordOf(l))} {
			if !errors.Is(err, leaderelection.ErrTermOver) {
				t.Errorf("call after the loss: %v, want %v", err, leaderelection.ErrTermOver)
			}
		}
		if got := api.requests.Load() - before; got != 0 {
			t.Errorf("requests after the loss: got %d, want none", got)
		}
	})
}
