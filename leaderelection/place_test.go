package leaderelection

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/klog/v2"

	"github.com/quorate/quorate/leaderelection/zookeepertest"
)

// A keeper whose time is over just when a call goes on with the place leaves it to the
// call: a place that was half given up would stand before its owner's next one.
func TestKeeperLeavesNothingThatIsTakenOver(t *testing.T) {
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
		p := l.enter(li)
		p.node = l.layout.child("queue-" + p.guid + "-0000000000")
		keeping, takeOver := context.WithCancel(ctx)
		takeOver()
		l.leave(keeping, p)
		if l.enter(li) != p {
			t.Error("the place was given up while its node stays")
		}
	})
}
