package zookeeper_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quorate/quorate/leaderelection/zookeeper"
)

const patience = 60 * time.Second

func dial(t *testing.T, cfg zookeeper.Config) *zookeeper.Client {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := zookeeper.Dial(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
		defer cancel()
		if err := c.Close(ctx); err != nil {
			t.Errorf("a goroutine is left: %v", err)
		}
	})
	return c
}

func ended(t *testing.T, c *zookeeper.Client) error {
	t.Helper()
	select {
	case <-c.Ended():
	case <-time.After(patience):
		t.Fatal("session goes on")
	}
	return c.Err()
}

func connections(t *testing.T, c *zookeeper.Client, n uint64) {
	t.Helper()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for begin := time.Now(); c.Connection() < n; <-ticker.C {
		if time.Since(begin) > patience {
			t.Fatalf("%d connections, want %d; session: %v", c.Connection(), n, c.Err())
		}
	}
}

// P1: go-zookeeper hangs for ever when a write fails while it sends credentials
// again. Here the server hangs up on just that, again and again.
func TestCredentialsSentAgainDoNotHang(t *testing.T) {
	s := serve(t, 10*time.Second)
	var refuse atomic.Int32
	s.answer = func(_ *server, op int32, _ []byte) (int32, bool) {
		return 0, op != 100 || refuse.Add(-1) < 0 // setAuth
	}
	c := dial(t, zookeeper.Config{Servers: s.Addr().String(), Auth: &zookeeper.Auth{Scheme: "digest", Credential: []byte("a:b")}})
	refuse.Store(3)
	s.disconnect()
	connections(t, c, 4)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		if _, _, err := c.Get(ctx, "/x"); err == nil {
			break
		} else if ctx.Err() != nil || errors.Is(err, zookeeper.ErrEnded) {
			t.Fatalf("no call is answered after credentials were sent again: %v", err)
		}
	}
}

// P1 at its root: the client library must never learn of a failed write. A failing
// connection is told by its reading side.
func TestFailedWriteEndsTheConnectionOnly(t *testing.T) {
	s := serve(t, 10*time.Second)
	var broken atomic.Bool
	c := dial(t, zookeeper.Config{Servers: s.Addr().String(), Auth: &zookeeper.Auth{Scheme: "digest", Credential: []byte("a:b")},
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
			return &brittle{Conn: conn, broken: &broken}, err
		}})
	before := c.Connection()
	for range 3 {
		broken.Store(true)
		_, _, err := c.Get(t.Context(), "/x")
		if !errors.Is(err, zookeeper.ErrUnsure) && !errors.Is(err, zookeeper.ErrNoServer) {
			t.Errorf("call whose sending failed: %v, want %v", err, zookeeper.ErrUnsure)
		}
		broken.Store(false)
	}
	connections(t, c, before+1)
}

type brittle struct {
	net.Conn
	broken *atomic.Bool
}

func (b *brittle) Write(p []byte) (int, error) {
	if b.broken.Load() {
		return 0, errors.New("broken pipe")
	}
	return b.Conn.Write(p)
}

// P11: names are resolved again, and one that does not resolve hinders nobody.
func TestNamesAreResolvedAgain(t *testing.T) {
	before, after := serve(t, 30*time.Second), serve(t, 30*time.Second)
	var moved atomic.Bool
	port := func(s *server) string { return fmt.Sprint(s.Addr().(*net.TCPAddr).Port) }
	c := dial(t, zookeeper.Config{
		Servers: "zk.test:1," + "dead.test:2", Timeout: 30 * time.Second,
		Lookup: func(_ context.Context, host string) ([]string, error) {
			if host != "zk.test" {
				return nil, errors.New("no such host")
			}
			if moved.Load() {
				return []string{"127.0.0.2"}, nil
			}
			return []string{"127.0.0.1"}, nil
		},
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			to := "127.0.0.1:" + port(before)
			if strings.HasPrefix(address, "127.0.0.2:") {
				to = "127.0.0.1:" + port(after)
			}
			return (&net.Dialer{}).DialContext(ctx, network, to)
		},
	})
	moved.Store(true)
	before.Close()
	before.disconnect()
	connections(t, c, 2)
	if after.accepted.Load() == 0 {
		t.Error("the name's new address was not asked")
	}
}

// P15: a session keeps two small buffers, not three megabytes.
func TestSessionIsSmall(t *testing.T) {
	s := serve(t, 30*time.Second)
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	const n = 20
	for range n {
		dial(t, zookeeper.Config{Servers: s.Addr().String(), Timeout: 30 * time.Second})
	}
	if per := (heap() - before) / n; per > 512<<10 {
		t.Errorf("a session keeps %d KiB", per>>10)
	}
}

func TestParseServers(t *testing.T) {
	for in, want := range map[string]string{
		"a":                    "[a:2181] ",
		"a:1,b:2/x/y":          "[a:1 b:2] /x/y",
		" a:1 , b ":            "[a:1 b:2181] ",
		"[::1]:5/":             "[[::1]:5] ",
		"::1":                  "[[::1]:2181] ",
		"a:1/x//y":             `chroot "/x//y" has an empty part`,
		"":                     "empty server name",
		"a:0,b:99999,c:x,:5,d": "server \"a:0\": want host:port\nserver \"b:99999\": want host:port\nserver \"c:x\": want host:port\nserver \":5\": want host:port",
	} {
		servers, chroot, err := zookeeper.ParseServers(in)
		got := fmt.Sprint(servers, " ", chroot)
		if err != nil {
			got = err.Error()
		}
		if got = strings.ReplaceAll(got, "]  ", "] "); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

// nobody's address: it is taken, by a connection to elsewhere, and nobody listens there.
func nobody(t *testing.T) net.Addr {
	t.Helper()
	s := serve(t, time.Second)
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.LocalAddr()
}

// Nobody there: the error says who was asked and what came of it.
func TestUnreachable(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	_, err := zookeeper.Dial(ctx, zookeeper.Config{Servers: nobody(t).String()})
	if !errors.Is(err, zookeeper.ErrNoServer) || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("got %v", err)
	}
}
