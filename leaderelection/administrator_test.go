package leaderelection_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"github.com/quorate/quorate/leaderelection"
	"github.com/quorate/quorate/leaderelection/zookeeper"
	"github.com/quorate/quorate/leaderelection/zookeepertest"
)

func remove(t *testing.T, tree *zookeepertest.Tree, node string) {
	t.Helper()
	if _, err := tree.Do(&zookeeper.Delete{Path: node, Version: zookeeper.AnyVersion}); err != nil {
		t.Fatal(err)
	}
}

// A leader whose claim is deleted can't prove by its writes that it leads. It stops, and
// the lock is free when it has.
func TestClaimIsDeleted(t *testing.T) {
	bubble(t, func(t *testing.T, tree *zookeepertest.Tree) {
		l := lockOf(t, join(t, tree, newHistory(), "a"))
		acquire(t, l)
		term := l.Term()
		remove(t, tree, nodes(tree, "claim-")[0])
		<-term.Lost()
		if !errors.Is(term.Err(), leaderelection.ErrOwnerGone) {
			t.Errorf("lost for %v, want %v", term.Err(), leaderelection.ErrOwnerGone)
		}
		l.RecordEvent("stopped leading")
		await(t, stopTime+time.Second, "a free lock", func() bool { return len(nodes(tree, "owner"))+len(nodes(tree, "claim-")) == 0 })
		acquire(t, lockOf(t, join(t, tree, newHistory(), "b")))
	})
}

// An owner that was deleted and made anew is another, whatever session made it: the term
// is lost, and what is given back is not that one's.
func TestOwnerIsReplacedWithinTheSession(t *testing.T) {
	bubble(t, func(t *testing.T, tree *zookeepertest.Tree) {
		p := join(t, tree, newHistory(), "a")
		l := lockOf(t, p)
		acquire(t, l)
		term, owner := l.Term(), election1+"/owner"
		results, err := p.client().Multi(t.Context(),
			&zookeeper.Set{Path: election1, Version: zookeeper.AnyVersion},
			&zookeeper.Delete{Path: owner, Version: zookeeper.AnyVersion},
			&zookeeper.Create{Path: owner, Ephemeral: true})
		if err != nil {
			t.Fatal(err)
		}
		await(t, time.Second, "the end of the term", func() bool { return term.Err() != nil })
		if !errors.Is(term.Err(), leaderelection.ErrOwnerGone) {
			t.Errorf("lost for %v, want %v", term.Err(), leaderelection.ErrOwnerGone)
		}
		l.RecordEvent("stopped leading")
		pass(stopTime + time.Second)
		if _, now, err := tree.Get(owner); err != nil || now.Czxid != results[0].Stat.Mzxid {
			t.Errorf("owner: got %+v, %v, want that of zxid %d", now, err, results[0].Stat.Mzxid)
		}
		if got := nodes(tree, "claim-"); len(got) != 0 {
			t.Errorf("claims left: %v", got)
		}
	})
}

// A term that lost its claim is given back under another. An administrator may delete the
// record meanwhile, and who acquires the next one has it at the same version: the term's
// fence must not let writes pass then, and what is given back must not be the other's.
func TestClaimIsMadeAgainBesideAnother(t *testing.T) {
	for name, fault := range map[string]zookeepertest.Fault{"no answer": zookeepertest.Hang, "answer lost": zookeepertest.LostBefore} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, tree *zookeepertest.Tree) {
				a, lb := join(t, tree, newHistory(), "a"), lockOf(t, join(t, tree, newHistory(), "b"))
				la := lockOf(t, a)
				acquire(t, la)
				fence := la.Term().Fence()
				remove(t, tree, nodes(tree, "claim-")[0])
				<-la.Lost()
				claims := holdUp(a, fault)
				la.RecordEvent("stopped leading")
				<-claims
				for _, p := range slices.Backward(nodes(tree, "")) {
					remove(t, tree, p)
				}
				remove(t, tree, election1)
				token := acquire(t, lb)
				await(t, time.Second, "two claims", func() bool { return len(nodes(tree, "claim-")) == 2 })
				if _, err := tree.Do(append(fence, &zookeeper.Create{Path: "/late"})...); err == nil {
					t.Error("the former leader wrote under its fence while another leads")
				}
				pass(time.Second)
				if _, owner, err := tree.Get(election1 + "/owner"); err != nil || owner.Czxid != token {
					t.Errorf("owner: got %+v, %v, want that of token %d", owner, err, token)
				}
			})
		})
	}
}

// holdUp the making of a claim, which is told, for one repetition, and the read after it.
func holdUp(p *process, read zookeepertest.Fault) <-chan struct{} {
	claims, tries, done := make(chan struct{}, 1), 0, false
	p.client().Inject(func(ops []zookeeper.Op) zookeepertest.Fault {
		switch {
		case len(ops) == 1 && makes(ops[0], "/claim-"):
			if tries++; tries == 1 {
				claims <- struct{}{}
				return zookeepertest.LostBefore
			}
		case ops == nil && tries > 1 && !done:
			done = true
			return read
		}
		return zookeepertest.None
	})
	return claims
}

func makes(op zookeeper.Op, node string) bool {
	c, ok := op.(*zookeeper.Create)
	return ok && strings.Contains(c.Path, node)
}

func deletesOwner(op zookeeper.Op) bool {
	d, ok := op.(*zookeeper.Delete)
	return ok && d.Path == election1+"/owner"
}

// sessions' nodes in the tree.
func sessions(tree *zookeepertest.Tree) (out []string) {
	for _, p := range tree.Paths() {
		if strings.HasPrefix(p, "/quorate/sessions/") {
			out = append(out, p)
		}
	}
	return out
}

// The node in which a session's proofs are written is made again: its loss costs nobody
// the lead.
func TestSessionNodeIsDeleted(t *testing.T) {
	bubble(t, func(t *testing.T, tree *zookeepertest.Tree) {
		l := lockOf(t, join(t, tree, newHistory(), "a"))
		acquire(t, l)
		before := sessions(tree)
		remove(t, tree, before[0])
		for range 30 {
			pass(2 * time.Second)
			if err := l.Update(t.Context(), recordOf(l)); err != nil {
				t.Fatalf("renewal: %v", err)
			}
		}
		if got := sessions(tree); len(got) != 1 || got[0] != before[0] {
			t.Errorf("sessions' nodes: got %v, want %v", got, before)
		}
	})
}

// An acquire fails while its session's node is not there: so fails one that was made under
// one session, and lands under the next (P3).
func TestAcquireWithoutTheSessionsNode(t *testing.T) {
	bubble(t, func(t *testing.T, tree *zookeepertest.Tree) {
		l := lockOf(t, join(t, tree, newHistory(), "a"))
		if _, _, err := l.Get(t.Context()); !apierrors.IsNotFound(err) {
			t.Fatal(err)
		}
		pass(time.Millisecond) // the session's first proof is made: the next would make the node again
		remove(t, tree, sessions(tree)[0])
		if err := tryAcquire(t.Context(), l); err == nil || len(nodes(tree, "owner")) != 0 {
			t.Errorf("acquire without the session's node: error %v, owners %v", err, nodes(tree, "owner"))
		}
		await(t, timeout, "the session's node", func() bool { return len(sessions(tree)) == 1 })
		acquire(t, l)
	})
}

// A place in the queue that an administrator deletes costs its candidate no more than the
// place.
func TestQueueNodeIsDeleted(t *testing.T) {
	bubble(t, func(t *testing.T, tree *zookeepertest.Tree) {
		la, lb := lockOf(t, join(t, tree, newHistory(), "a")), lockOf(t, join(t, tree, newHistory(), "b"))
		acquire(t, la)
		if _, _, err := lb.Get(t.Context()); err != nil { // is told who leads
			t.Fatal(err)
		}
		free := make(chan error, 1)
		go func() {
			_, _, err := lb.Get(t.Context())
			free <- err
		}()
		await(t, time.Second, "a place in the queue", func() bool { return len(nodes(tree, "queue-")) == 1 })
		if err := release(t.Context(), la); err != nil {
			t.Fatal(err)
		}
		if err := <-free; err != nil {
			t.Fatal(err)
		}
		remove(t, tree, nodes(tree, "queue-")[0])
		if err := lb.Update(t.Context(), recordOf(lb)); err != nil {
			t.Errorf("acquire of who has lost the place: %v", err)
		}
	})
}

// A request to resign whose answer is lost is made again, and found if it was made.
func TestResignOfUnknownOutcome(t *testing.T) {
	for name, fault := range map[string]zookeepertest.Fault{"before": zookeepertest.LostBefore, "after": zookeepertest.LostAfter} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, tree *zookeepertest.Tree) {
				l, asker := lockOf(t, join(t, tree, newHistory(), "a")), join(t, tree, newHistory(), "b")
				acquire(t, l)
				asks := 0
				asker.client().Inject(func(ops []zookeeper.Op) zookeepertest.Fault {
					if len(ops) == 1 && makes(ops[0], "/resign") {
						if asks++; asks <= 2 {
							return fault
						}
					}
					return zookeepertest.None
				})
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				resigned := make(chan error, 1)
				go func() { resigned <- asker.session.Resign(ctx, "ns", "x") }()
				await(t, time.Second, "the end of the term", func() bool { return l.Term() == nil })
				l.RecordEvent("stopped leading")
				if err := <-resigned; err != nil {
					t.Errorf("resign: %v", err)
				}
				if got := nodes(tree, "resign"); len(got) != 0 {
					t.Errorf("requests that are left: %v", got)
				}
			})
		})
	}
}

// losesFirstRequest is a client whose first request to resign is lost.
func losesFirstRequest(c *zookeepertest.Client) *zookeepertest.Client {
	lost := false
	c.Inject(func(ops []zookeeper.Op) zookeepertest.Fault {
		if lost || len(ops) != 1 || !makes(ops[0], "/resign") {
			return zookeepertest.None
		}
		lost = true
		return zookeepertest.LostBefore
	})
	return c
}

// A request of another that is found where one's own was lost may be taken back before it
// is read: the leader has resigned then.
func TestResignBesideAnother(t *testing.T) {
	bubble(t, func(t *testing.T, tree *zookeepertest.Tree) {
		l, other := lockOf(t, join(t, tree, newHistory(), "a")), join(t, tree, newHistory(), "b")
		acquire(t, l)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		resigned, asks := make(chan error, 1), 0
		conn := &meddled{Conn: losesFirstRequest(tree.Open()), before: func(ops []zookeeper.Op) {
			switch {
			case len(ops) == 1 && makes(ops[0], "/resign"):
				if asks++; asks == 1 {
					go func() { resigned <- other.session.Resign(ctx, "ns", "x") }()
					await(t, time.Second, "another's request", func() bool { return len(nodes(tree, "resign")) == 1 })
				}
			case ops == nil && asks == 2:
				l.RecordEvent("stopped leading")
				if err := <-resigned; err != nil {
					t.Errorf("resign of the other: %v", err)
				}
			}
		}}
		s := dial(t, func() leaderelection.Conn { return conn })
		if err := s.Resign(ctx, "ns", "x"); err != nil || l.Term() != nil {
			t.Errorf("resign: %v, term %+v", err, l.Term())
		}
		if got := nodes(tree, "resign"); len(got) != 0 {
			t.Errorf("requests that are left: %v", got)
		}
	})
}

// A request to an earlier term is not taken for one's own that was lost: nobody would
// resign on it.
func TestResignBesideARequestToAnotherTerm(t *testing.T) {
	bubble(t, func(t *testing.T, tree *zookeepertest.Tree) {
		l, asker := lockOf(t, join(t, tree, newHistory(), "a")), join(t, tree, newHistory(), "b")
		token := acquire(t, l)
		if _, err := tree.Do(&zookeeper.Create{Path: election1 + "/resign", Data: fmt.Append(nil, token-1)}); err != nil {
			t.Fatal(err)
		}
		losesFirstRequest(asker.client())
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := asker.session.Resign(ctx, "ns", "x"); !errors.Is(err, zookeeper.ErrNodeExists) {
			t.Errorf("resign: %v, want %v", err, zookeeper.ErrNodeExists)
		}
		if got := nodes(tree, "resign"); len(got) != 1 || l.Term() == nil {
			t.Errorf("requests: got %v, want the other's; term %+v", got, l.Term())
		}
	})
}

// meddled is a connection before whose calls somebody else acts; ops are those of a write,
// and nil for a read.
type meddled struct {
	leaderelection.Conn
	before func(ops []zookeeper.Op)
}

func (c *meddled) Get(ctx context.Context, path string) ([]byte, zookeeper.Stat, error) {
	c.before(nil)
	return c.Conn.Get(ctx, path)
}

func (c *meddled) Multi(ctx context.Context, ops ...zookeeper.Op) ([]zookeeper.Result, error) {
	c.before(ops)
	return c.Conn.Multi(ctx, ops...)
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

// forbidden is a session that may only look.
type forbidden struct{ *zookeepertest.Client }

func (f forbidden) Multi(ctx context.Context, ops ...zookeeper.Op) ([]zookeeper.Result, error) {
	if makes(ops[0], "/resign") {
		return nil, fmt.Errorf("write: %w", zookeeper.ErrNoAuth)
	}
	return f.Client.Multi(ctx, ops...)
}

// Who may not ask a leader to resign is told so, and does not wait for it.
func TestResignWithoutPermission(t *testing.T) {
	bubble(t, func(t *testing.T, tree *zookeepertest.Tree) {
		l := lockOf(t, join(t, tree, newHistory(), "a"))
		acquire(t, l)
		s := dial(t, func() leaderelection.Conn { return forbidden{tree.Open()} })
		begin := time.Now()
		if err := s.Resign(t.Context(), "ns", "x"); !errors.Is(err, zookeeper.ErrNoAuth) {
			t.Errorf("resign: %v, want %v", err, zookeeper.ErrNoAuth)
		}
		if took := time.Since(begin); took > 0 {
			t.Errorf("the refusal took %v", took)
		}
		if l.Term() == nil {
			t.Error("the leader has resigned all the same")
		}
	})
}
