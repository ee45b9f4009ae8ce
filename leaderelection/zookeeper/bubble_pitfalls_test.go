package zookeeper_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr/funcr"
	"k8s.io/klog/v2"

	"github.com/quorate/quorate/leaderelection/zookeeper"
)

// P3: a write that waits when its session expires must not be made under the next.
// go-zookeeper refuses what waits only when it has tried all servers: here there are
// more.
func TestWriteDoesNotCrossSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const timeout, waiting = 30 * time.Second, 20
		servers, all := network{}, []*server{}
		for i := range 5 {
			s := newServer(timeout)
			servers[fmt.Sprintf("10.0.0.%d:2181", i)], all = s.take, append(all, s)
		}
		c := dial(t, servers.config(timeout))
		session := c.SessionID()
		for _, s := range all {
			s.hang.Store(true)
			s.disconnect()
		}
		outcome := make(chan error, waiting)
		for range waiting {
			go func() {
				_, err := c.Multi(t.Context(), &zookeeper.Set{Path: "/x", Version: zookeeper.AnyVersion})
				outcome <- err
			}()
		}
		synctest.Wait() // all of them are queued
		var hung []net.Conn
		for _, s := range all {
			s.expire.Store(true)
			s.hang.Store(false)
			hung = append(hung, s.open()...)
		}
		for _, conn := range hung {
			conn.Close()
		}
		if err := ended(t, c); !errors.Is(err, zookeeper.ErrEnded) {
			t.Error(err)
		}
		for range waiting {
			if err := <-outcome; !errors.Is(err, zookeeper.ErrEnded) && !errors.Is(err, zookeeper.ErrUnsure) {
				t.Errorf("write across the expiry: %v", err)
			}
		}
		if err := c.Close(t.Context()); err != nil { // what could be sent was
			t.Error(err)
		}
		for _, s := range all {
			for _, id := range s.sessions() {
				if id != session {
					t.Errorf("a request came under session %d, of one made under %d", id, session)
				}
			}
		}
	})
}

// P5: go-zookeeper drops session events when its channel of six is full. Here whoever
// is told is busy while there are more than six, and the expiry comes last.
func TestSessionEventsAreNotDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const timeout = 30 * time.Second
		s := newServer(timeout)
		var busy atomic.Bool
		log := funcr.New(func(_, _ string) {
			if busy.CompareAndSwap(true, false) {
				<-time.After(timeout * 2 / 3)
			}
		}, funcr.Options{Verbosity: 4})
		cfg := network{"10.0.0.1:2181": s.take}.config(timeout)
		c, err := zookeeper.Dial(klog.NewContext(t.Context(), log), cfg)
		if err != nil {
			t.Fatal(err)
		}
		busy.Store(true)
		for range 10 {
			s.disconnect()
			<-time.After(timeout / 20) // go-zookeeper tries again each second
		}
		s.expire.Store(true)
		s.disconnect()
		if err := ended(t, c); !strings.Contains(err.Error(), "expired") {
			t.Error(err)
		}
		if err := c.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// P4: cut off from all servers, go-zookeeper never says that the session is over.
func TestSessionEndsByOurOwnClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const timeout = 30 * time.Second
		s := newServer(timeout)
		servers := network{"10.0.0.1:2181": s.take}
		c := dial(t, servers.config(timeout))
		delete(servers, "10.0.0.1:2181")
		s.disconnect()
		begin := time.Now()
		waiting := make(chan error, 1)
		go func() {
			_, _, err := c.Get(t.Context(), "/x")
			waiting <- err
		}()
		if err := ended(t, c); !strings.Contains(err.Error(), "no server was heard") {
			t.Error(err)
		}
		if got := time.Since(begin); got != timeout {
			t.Errorf("session ended %v after the last that it heard, want %v", got, timeout)
		}
		if err := <-waiting; !errors.Is(err, zookeeper.ErrUnsure) && !errors.Is(err, zookeeper.ErrNoServer) {
			t.Errorf("call that waited: %v", err)
		}
		if _, _, err := c.Get(t.Context(), "/x"); !errors.Is(err, zookeeper.ErrEnded) {
			t.Errorf("call after the end: %v, want %v", err, zookeeper.ErrEnded)
		}
	})
}

// P6: calls end when their context does, though the server never answers.
func TestCallsEndWithTheirContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const timeout = 30 * time.Second
		s := newServer(timeout)
		c := dial(t, network{"10.0.0.1:2181": s.take}.config(timeout))
		s.mute.Store(true)
		for name, call := range map[string]func(context.Context) error{
			"get":      func(ctx context.Context) error { _, _, err := c.Get(ctx, "/x"); return err },
			"watch":    func(ctx context.Context) error { _, _, _, err := c.Watch(ctx, "/x"); return err },
			"children": func(ctx context.Context) error { _, err := c.Children(ctx, "/x"); return err },
			"multi": func(ctx context.Context) error {
				_, err := c.Multi(ctx, &zookeeper.Check{Path: "/x", Version: zookeeper.AnyVersion})
				return err
			},
		} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if err := call(ctx); !errors.Is(err, zookeeper.ErrUnsure) || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: %v, want %v", name, err, zookeeper.ErrUnsure)
			}
			cancel()
		}
	})
}

// P7: go-zookeeper's errors do not say whether a write may have landed: a connection
// that broke may have carried it, a refusal is an answer, and without a server nothing
// was sent.
func TestErrorsTellWhetherAWriteMayHaveLanded(t *testing.T) {
	const hangUp, unknown = 1, -7
	for name, c := range map[string]struct {
		answer int32 // of the server: a code, or hangUp
		gone   bool  // the server, before anything is asked
		want   error
	}{
		"answered by hanging up":      {answer: hangUp, want: zookeeper.ErrUnsure},
		"refused for a missing node":  {answer: -101, want: zookeeper.ErrNoNode},
		"refused for another version": {answer: -103, want: zookeeper.ErrBadVersion},
		"answered by another error":   {answer: unknown, want: zookeeper.ErrUnsure},
		"no server to send it to":     {gone: true, want: zookeeper.ErrNoServer},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const timeout = 30 * time.Second
				s := newServer(timeout)
				s.answer = func(*server, int32, []byte) (int32, bool) { return c.answer, c.answer != hangUp }
				servers := network{"10.0.0.1:2181": s.take}
				client := dial(t, servers.config(timeout))
				if c.gone {
					delete(servers, "10.0.0.1:2181")
					s.disconnect()
					synctest.Wait()
				}
				_, _, err := client.Get(t.Context(), "/x")
				if !errors.Is(err, c.want) {
					t.Errorf("got %v, want %v", err, c.want)
				}
				if unsure := errors.Is(err, zookeeper.ErrUnsure); unsure != (c.want == zookeeper.ErrUnsure) { //nolint:errorlint // our own values
					t.Errorf("whether %v is unsure: got %v", err, unsure)
				}
				if c.gone && len(s.sessions()) > 0 {
					t.Error("something was sent")
				}
			})
		})
	}
}

// P12: an ensemble that comes back with less than its client has seen hangs up on it,
// for ever: go-zookeeper goes on trying. Here the session ends by its own clock, and the
// next, which has seen nothing, is let in.
func TestSessionEndsWhereDataWasLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const timeout = 30 * time.Second
		s := newServer(timeout)
		s.zxid = 100
		cfg := network{"10.0.0.1:2181": s.take}.config(timeout)
		c := dial(t, cfg)
		if _, _, err := c.Get(t.Context(), "/x"); err != nil {
			t.Fatal(err)
		}
		s.newest.Store(10)
		lost := time.Now()
		s.disconnect()
		if err := ended(t, c); time.Since(lost) > timeout {
			t.Errorf("session ended %v after the last that it heard, want %v: %v", time.Since(lost), timeout, err)
		}
		next := dial(t, cfg)
		if next.SessionID() == c.SessionID() {
			t.Errorf("session after the end of the first: got %d again", next.SessionID())
		}
	})
}
