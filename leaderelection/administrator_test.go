package leaderelection_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"k8s.io/klog/v2"

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

// The node in which a session's proofs are written is made again: its loss costs nobody
// the lead.
func TestSessionNodeIsDeleted(t *testing.T) {
	bubble(t, func(t *testing.T, tree *zookeepertest.Tree) {
		l := lockOf(t, join(t, tree, newHistory(), "a"))
		acquire(t, l)
		session := func() (out []string) {
			for _, p := range tree.Paths() {
				if strings.HasPrefix(p, "/quorate/sessions/") {
					out = append(out, p)
				}
			}
			return out
		}
		before := session()
		remove(t, tree, before[0])
		for range 30 {
			pass(2 * time.Second)
			if err := l.Update(t.Context(), recordOf(l)); err != nil {
				t.Fatalf("renewal: %v", err)
			}
		}
		if got := session(); len(got) != 1 || got[0] != before[0] {
			t.Errorf("sessions' nodes: got %v, want %v", got, before)
		}
	})
}

// forbidden is a session that may only look.
type forbidden struct{ *zookeepertest.Client }

func (f forbidden) Multi(ctx context.Context, ops ...zookeeper.Op) ([]zookeeper.Result, error) {
	if c, ok := ops[0].(*zookeeper.Create); ok && strings.HasSuffix(c.Path, "/resign") {
		return nil, fmt.Errorf("write %s: %w", c.Path, zookeeper.ErrNoAuth)
	}
	return f.Client.Multi(ctx, ops...)
}

// Who may not ask a leader to resign is told so, and does not wait for it.
func TestResignWithoutPermission(t *testing.T) {
	bubble(t, func(t *testing.T, tree *zookeepertest.Tree) {
		l := lockOf(t, join(t, tree, newHistory(), "a"))
		acquire(t, l)
		ctx := klog.NewContext(t.Context(), klog.Logger{})
		s, err := leaderelection.Dial(ctx, leaderelection.SessionConfig{
			Timeout: timeout, Open: func(context.Context) (leaderelection.Conn, error) { return forbidden{tree.Open()}, nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close(context.WithoutCancel(ctx))
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
