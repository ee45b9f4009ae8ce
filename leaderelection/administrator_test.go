package leaderelection_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

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
				await(t, stopTime+time.Second, "another claim", func() bool { return len(claims) == 1 })
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
