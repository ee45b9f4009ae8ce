package zookeeper_test

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quorate/quorate/leaderelection/zookeeper"
)

// welcome is a connection whose server's first answer is changed on its way.
type welcome struct {
	net.Conn
	change func(head []byte) // as much as is known of it
	at     int
}

const (
	timeoutAt = 8  // in the answer: four bytes, milliseconds
	sessionAt = 12 // eight bytes
)

func (w *welcome) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	head := make([]byte, w.at+n)
	copy(head[w.at:], p[:n])
	w.change(head)
	copy(p, head[w.at:])
	w.at += n
	return n, err
}

// dialTwice opens a session, breaks its connection, and returns the client when it has
// another, whose welcome was changed.
func dialTwice(t *testing.T, s *server, change func(head []byte)) *zookeeper.Client {
	t.Helper()
	var dials atomic.Int32
	c := dial(t, zookeeper.Config{Servers: s.Addr().String(), Timeout: 30 * time.Second,
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
			if err != nil || dials.Add(1) == 1 {
				return conn, err
			}
			return &welcome{Conn: conn, change: change}, nil
		}})
	_, _, changed, err := c.Watch(t.Context(), "/x")
	if err != nil {
		t.Fatal(err)
	}
	s.disconnect()
	select {
	case <-changed: // by the new connection
	case <-time.After(patience):
		t.Fatal("no second connection")
	}
	return c
}

// A server may grant less at a reconnect: whoever counts by the timeout is told.
func TestAnotherTimeoutIsGranted(t *testing.T) {
	s := serve(t, 30*time.Second)
	s.zxid = 0 // as in TestWatchesEndWithTheirConnection
	c := dialTwice(t, s, func(head []byte) {
		if len(head) >= timeoutAt+4 {
			binary.BigEndian.PutUint32(head[timeoutAt:], 7000)
		}
	})
	if got, want := c.Timeout(), 7*time.Second; got != want {
		t.Errorf("timeout: got %v, want %v", got, want)
	}
	if err := c.Err(); err != nil {
		t.Errorf("session: %v", err)
	}
}

// A Client is one session, never two: should a server answer with another, this one is
// over.
func TestAnotherSessionIsRefused(t *testing.T) {
	s := serve(t, 30*time.Second)
	s.zxid = 0 // as in TestWatchesEndWithTheirConnection
	c := dialTwice(t, s, func(head []byte) {
		if len(head) >= sessionAt+8 {
			binary.BigEndian.PutUint64(head[sessionAt:], 4711)
		}
	})
	if err := c.Err(); !errors.Is(err, zookeeper.ErrEnded) {
		t.Errorf("session: %v, want %v", err, zookeeper.ErrEnded)
	}
	if _, _, err := c.Get(t.Context(), "/x"); !errors.Is(err, zookeeper.ErrEnded) {
		t.Errorf("call after another session was granted: %v, want %v", err, zookeeper.ErrEnded)
	}
	if got := c.SessionID(); got == 4711 {
		t.Errorf("session's id: got %d, want the first one's", got)
	}
}
