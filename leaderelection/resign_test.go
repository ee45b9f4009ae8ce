package leaderelection_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/quorate/quorate/leaderelection"
	"github.com/quorate/quorate/leaderelection/zookeeper"
	"github.com/quorate/quorate/leaderelection/zookeepertest"
)

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

// Where work stops before a release it does not before a loss, of which it hears from its
// elector: it has the stop time then, and a release is made at once.
func TestLossIsNoReleaseWhereWorkStopsFirst(t *testing.T) {
	bubble(t, func(t *testing.T, tree *zookeepertest.Tree) {
		cfg := join(t, tree, newHistory(), "a").config()
		cfg.StopsFirst = true
		l, err := leaderelection.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		token := acquire(t, l)
		lost := l.Lost()
		if _, err := tree.Do(&zookeeper.Create{Path: election1 + "/resign", Data: fmt.Append(nil, token)}); err != nil {
			t.Fatal(err)
		}
		<-lost
		l.RecordEvent("stopped leading")
		pass(stopTime - time.Millisecond)
		if got := nodes(tree, "owner"); len(got) != 1 {
			t.Error("the owner is gone while the work may go on")
		}
		await(t, time.Second, "a free lock", func() bool { return len(nodes(tree, "owner")) == 0 })
		acquire(t, l)
		begin := time.Now()
		if err := release(t.Context(), l); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took > 0 {
			t.Errorf("the release took %v after the work had stopped", took)
		}
	})
}
