package leaderelection

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/klog/v2"

	"github.com/quorate/quorate/leaderelection/zookeepertest"
)

// lockInBubble is a lock, and its session's life.
func lockInBubble(t *testing.T, do func(t *testing.T, l *Lock, li *life)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, tree := klog.NewContext(t.Context(), klog.Logger{}), zookeepertest.NewTree(30*time.Second)
		s, err := Dial(ctx, SessionConfig{Open: func(context.Context) (Conn, error) { return tree.Open(), nil }})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close(context.WithoutCancel(ctx))
		l, err := New(Config{Session: s, Namespace: "ns", Name: "x", Identity: "a"})
		if err != nil {
			t.Fatal(err)
		}
		li, _, err := s.current()
		if err != nil {
			t.Fatal(err)
		}
		do(t, l, li)
	})
}

// A keeper whose time is over just when a call goes on with the place leaves it to the
// call: a place that was half given up would stand before its owner's next one.
func TestKeeperLeavesNothingThatIsTakenOver(t *testing.T) {
	lockInBubble(t, func(t *testing.T, l *Lock, li *life) {
		p := l.enter(li)
		p.node = l.layout.child("queue-" + p.guid + "-0000000000")
		keeping, takeOver := context.WithCancel(t.Context())
		takeOver()
		l.leave(keeping, p)
		if l.enter(li) != p {
			t.Error("the place was given up while its node stays")
		}
	})
}

// counted is a context that counts those that would be cancelled with it.
type counted struct {
	context.Context
	children atomic.Int32
}

// Value hides what it is made of.
func (c *counted) Value(any) any { return nil }

// AfterFunc is what package context asks of a foreign context.
func (c *counted) AfterFunc(func()) func() bool {
	c.children.Add(1)
	return func() bool { c.children.Add(-1); return true }
}

// A keeper that has ended leaves nothing behind in its session, which may live for ever.
func TestKeeperLeavesNothingInTheSession(t *testing.T) {
	lockInBubble(t, func(t *testing.T, l *Lock, li *life) {
		session := &counted{Context: li.ctx}
		l.place = &place{life: &life{Conn: li.Conn, ctx: session}, guid: "g", node: l.layout.child("queue-g-0000000000")}
		l.keepForTaking()
		if session.children.Load() == 0 {
			t.Fatal("the keeper does not end with its session")
		}
		<-time.After(2 * takeTime)
		if got := session.children.Load(); got != 0 {
			t.Errorf("contexts that are left: %d, want none", got)
		}
	})
}
