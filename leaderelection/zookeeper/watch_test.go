package zookeeper_test

import (
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quorate/quorate/leaderelection/zookeeper"
)

// P10: go-zookeeper keeps a channel for every call that watches, and cannot take one
// back: whoever looks again and again at a node that does not change piles them up.
// Here the server is asked for one, and all get the same.
func TestWatchesDoNotPileUp(t *testing.T) {
	s := serve(t, 30*time.Second)
	const exists = 3
	var armed atomic.Int32
	s.answer = func(_ *server, op int32, body []byte) (int32, bool) {
		if op == exists && body[len(body)-1] == 1 {
			armed.Add(1)
		}
		return 0, true
	}
	c := dial(t, zookeeper.Config{Servers: s.Addr().String(), Timeout: 30 * time.Second})
	watch := func() <-chan struct{} {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		_, _, changed, err := c.Watch(ctx, "/x")
		if err != nil {
			t.Fatal(err)
		}
		return changed
	}
	first := watch()
	for range 100 {
		if watch() != first {
			t.Fatal("another watch of the same node")
		}
	}
	if got := armed.Load(); got != 1 {
		t.Errorf("watches at the server: got %d, want 1", got)
	}
}

// P10: go-zookeeper says nothing to watches when a connection breaks, and what
// happened meanwhile may never be told. Here all of them count as fired on the next.
func TestWatchesEndWithTheirConnection(t *testing.T) {
	s := serve(t, 30*time.Second)
	// It arms them again by what it has noted, while it may note something newer: so
	// says the race detector, which does not see that the server is in between.
	s.zxid = 0
	c := dial(t, zookeeper.Config{Servers: s.Addr().String(), Timeout: 30 * time.Second})
	_, _, changed, err := c.Watch(t.Context(), "/x")
	if err != nil {
		t.Fatal(err)
	}
	s.disconnect()
	select {
	case <-changed:
	case <-time.After(patience):
		t.Error("nothing was told of a node whose watch was interrupted")
	}
}

// A server without a quorum, if it is let, serves reads to clients that can do with
// them, and hangs up on others. They are told so.
func TestReadOnlyServer(t *testing.T) {
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			head := make([]byte, 4)
			if _, err := io.ReadFull(conn, head); err == nil && string(head) == "srvr" {
				_, _ = io.WriteString(conn, "Zookeeper version: 3.8.0\nMode: read-only\nNode count: 5\n")
			}
			_ = conn.Close()
		}
	}()
	defer func() {
		_ = l.Close()
		<-served
	}()
	for begin := time.Now(); !errors.Is(err, zookeeper.ErrReadOnly); { // what it did last is told, or that it did nothing for long
		if time.Since(begin) > patience {
			t.Fatalf("read-only server: got %v, want %v", err, zookeeper.ErrReadOnly)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		_, err = zookeeper.Dial(ctx, zookeeper.Config{Servers: l.Addr().String(), Timeout: time.Second})
		cancel()
	}
}
