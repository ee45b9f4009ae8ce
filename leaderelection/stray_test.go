package leaderelection_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"github.com/quorate/quorate/leaderelection"
	"github.com/quorate/quorate/leaderelection/zookeeper"
	"github.com/quorate/quorate/leaderelection/zookeepertest"
)

func deletesOwner(op zookeeper.Op) bool {
	d, ok := op.(*zookeeper.Delete)
	return ok && d.Path == election1+"/owner"
}

// An administrator may delete a record with all that is in it, and who acquires the next
// one may have it at the same version: the removal of a stray owner, which was seen before,
// does not take that one's.
func TestStrayOwnersRemovalSparesAnother(t *testing.T) {
	for name, moment := range map[string]func(op zookeeper.Op) bool{
		"before it is claimed": func(op zookeeper.Op) bool { return makes(op, "/claim-") },
		"before it is removed": deletesOwner,
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, tree *zookeepertest.Tree) { removeStrayBeside(t, tree, moment) })
		})
	}
}

// removeStrayBeside who acquires a record that is made anew at a moment of the removal.
func removeStrayBeside(t *testing.T, tree *zookeepertest.Tree, moment func(op zookeeper.Op) bool) {
	t.Helper()
	other := lockOf(t, join(t, tree, newHistory(), "b"))
	first := lockOf(t, join(t, tree, newHistory(), "c"))
	acquire(t, first)
	if err := release(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	if _, err := tree.Do(&zookeeper.Set{Path: election1, Version: 2}); err != nil {
		t.Fatal(err)
	}
	var token int64
	conn := &meddled{Conn: tree.Open(), before: func(ops []zookeeper.Op) {
		if !slices.ContainsFunc(ops, moment) || token != 0 {
			return
		}
		for _, p := range slices.Backward(nodes(tree, "")) {
			remove(t, tree, p)
		}
		remove(t, tree, election1)
		acquire(t, other)
		if err := release(t.Context(), other); err != nil {
			t.Error(err)
		}
		other.RecordEvent("stopped leading")
		token = acquire(t, other) // the record is at version 3 again
	}}
	l := lockOf(t, &process{name: "a", session: dial(t, func() leaderelection.Conn { return conn })})
	if _, err := conn.Multi(t.Context(), &zookeeper.Create{Path: election1 + "/owner", Ephemeral: true}); err != nil {
		t.Fatal(err)
	}
	if r, _, err := l.Get(t.Context()); err != nil || r.HolderIdentity != other.Identity() {
		t.Errorf("Get: got %+v, %v, want the holder %s", r, err, other.Identity())
	}
	if _, owner, err := tree.Get(election1 + "/owner"); err != nil || owner.Czxid != token {
		t.Errorf("owner: got %+v, %v, want that of token %d", owner, err, token)
	}
	if got := nodes(tree, "claim-"); len(got) != 1 {
		t.Errorf("claims left: %v", got)
	}
}

// An owner that this session has and nobody knows of is in nobody's way: neither in a
// Lock's, nor in that of a candidate that holds the Lease beside it, and polls.
func TestStrayOwnerIsRemoved(t *testing.T) {
	for name, as := range map[string]func(*leaderelection.Lock) resourcelock.Interface{
		"lock":   func(l *leaderelection.Lock) resourcelock.Interface { return l },
		"bridge": func(l *leaderelection.Lock) resourcelock.Interface { return leaderelection.NewBridge(l, leases()) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, tree *zookeepertest.Tree) {
				p := join(t, tree, newHistory(), "a")
				before := lockOf(t, p)
				acquire(t, before)
				if err := release(t.Context(), before); err != nil {
					t.Fatal(err)
				}
				if _, err := p.client().Multi(t.Context(), &zookeeper.Create{Path: election1 + "/owner", Ephemeral: true}); err != nil {
					t.Fatal(err)
				}
				r, _, err := as(lockOf(t, p)).Get(t.Context())
				if err != nil || r.HolderIdentity != "" {
					t.Errorf("Get beside a stray owner: got %+v, %v, want a free lock", r, err)
				}
				if got := nodes(tree, "owner"); len(got) != 0 {
					t.Errorf("owners: got %v, want none", got)
				}
			})
		})
	}
}

// Of the removal of a stray owner no claim is left, whichever of its calls fails. One
// that is lost is made again, of one that hangs the claim goes when its caller has.
func TestStrayOwnersRemovalLeavesNoClaim(t *testing.T) {
	calls := map[string]func(ops []zookeeper.Op) bool{
		"claim":   func(ops []zookeeper.Op) bool { return len(ops) == 1 && makes(ops[0], "/claim-") },
		"look":    func(ops []zookeeper.Op) bool { return ops == nil },
		"removal": func(ops []zookeeper.Op) bool { return slices.ContainsFunc(ops, deletesOwner) },
	}
	faults := map[string]zookeepertest.Fault{
		"lost": zookeepertest.LostBefore, "answer lost": zookeepertest.LostAfter,
		"hangs": zookeepertest.Hang, "answer hangs": zookeepertest.HangAfter,
	}
	for call, is := range calls {
		for name, fault := range faults {
			t.Run(call+" "+name, func(t *testing.T) {
				bubble(t, func(t *testing.T, tree *zookeepertest.Tree) {
					removeStrayDespite(t, tree, fault, is)
				})
			})
		}
	}
}

// removeStrayDespite a fault of one call, after the claim or of the claim itself.
func removeStrayDespite(t *testing.T, tree *zookeepertest.Tree, fault zookeepertest.Fault, is func(ops []zookeeper.Op) bool) {
	t.Helper()
	p := join(t, tree, newHistory(), "a")
	l := lockOf(t, p)
	acquire(t, l)
	if err := release(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	l.RecordEvent("stopped leading")
	if _, err := p.client().Multi(t.Context(), &zookeeper.Create{Path: election1 + "/owner", Ephemeral: true}); err != nil {
		t.Fatal(err)
	}
	claimed, done := false, false
	p.client().Inject(func(ops []zookeeper.Op) zookeepertest.Fault {
		claimed = claimed || len(ops) == 1 && makes(ops[0], "/claim-")
		if done || !claimed || !is(ops) {
			return zookeepertest.None
		}
		done = true
		return fault
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, _, err := l.Get(ctx); (err != nil) != (fault == zookeepertest.Hang || fault == zookeepertest.HangAfter) {
		t.Errorf("Get within a second: %v, want an error only of a call that hangs", err)
	}
	if r, _, err := l.Get(t.Context()); err != nil || r.HolderIdentity != "" || !done {
		t.Errorf("Get: got %+v, %v, fault made: %v, want a free lock", r, err, done)
	}
	await(t, time.Second, "no node that is left", func() bool { return len(nodes(tree, "owner"))+len(nodes(tree, "claim-")) == 0 })
}
