package leaderelection_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/quorate/quorate/leaderelection"
	"github.com/quorate/quorate/leaderelection/zookeeper"
	"github.com/quorate/quorate/leaderelection/zookeepertest"
)

// oneByOne is a connection on which each call takes its time, in the order in which
// they were made.
type oneByOne struct {
	*zookeepertest.Client
	turn chan struct{}
}

func (c oneByOne) wait() {
	c.turn <- struct{}{}
	pass(20 * time.Millisecond)
	<-c.turn
}

func (c oneByOne) Get(ctx context.Context, path string) ([]byte, zookeeper.Stat, error) {
	c.wait()
	return c.Client.Get(ctx, path)
}

func (c oneByOne) Watch(ctx context.Context, path string) (zookeeper.Stat, bool, <-chan struct{}, error) {
	c.wait()
	return c.Client.Watch(ctx, path)
}

func (c oneByOne) Children(ctx context.Context, path string) ([]string, error) {
	c.wait()
	return c.Client.Children(ctx, path)
}

func (c oneByOne) Multi(ctx context.Context, ops ...zookeeper.Op) ([]zookeeper.Result, error) {
	c.wait()
	return c.Client.Multi(ctx, ops...)
}

// A session is proven in time however much its locks ask at once: none of those that
// are won is lost, and none waits for ever.
func TestProofsDoNotWaitBehindOtherCalls(t *testing.T) {
	const locks = 1500 // a call of each takes as long as the session lasts
	bubble(t, func(t *testing.T, tree *zookeepertest.Tree) {
		s := dial(t, func() leaderelection.Conn { return oneByOne{tree.Open(), make(chan struct{}, 1)} })
		var all errgroup.Group
		for i := range locks {
			l, err := leaderelection.New(leaderelection.Config{
				Session: s, Namespace: "ns", Name: fmt.Sprint("x", i), Identity: "a",
				LeaseDuration: 15 * time.Second, RenewDeadline: 10 * time.Second, RetryPeriod: 2 * time.Second, StopTime: stopTime,
			})
			if err != nil {
				t.Fatal(err)
			}
			all.Go(func() error {
				if err := tryAcquire(t.Context(), l); err != nil {
					return fmt.Errorf("acquire %s: %w", l.Describe(), err)
				}
				if l.Term() == nil {
					return fmt.Errorf("%s was lost at once", l.Describe())
				}
				return nil
			})
		}
		if err := all.Wait(); err != nil {
			t.Error(err)
		}
		if err := s.Check(); err != nil {
			t.Error(err)
		}
	})
}
