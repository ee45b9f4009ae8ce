package lab

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"
)

// A child that is being started holds what this process had open, closed listeners
// too, until it has become the other program.
func TestLinkIsRestoredWhileChildrenStart(t *testing.T) {
	echo, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(func() {
		cancel()
		echo.Close()
		wait.Wait()
	})
	wait.Go(func() {
		for conn, err := echo.Accept(); err == nil; conn, err = echo.Accept() {
			_, _ = io.WriteString(conn, "x")
			conn.Close()
		}
	})
	link, err := NewLink(t.Context(), "127.0.0.1:0", echo.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer link.Close()
	for range 4 {
		wait.Go(func() {
			for ctx.Err() == nil {
				if p, err := StartProcess(ctx, ProcessConfig{Path: "true"}); err == nil {
					_ = p.Wait(ctx)
				}
			}
		})
	}
	for n := range 300 {
		if err := link.Drop(); err != nil {
			t.Fatalf("drop %d: %v", n, err)
		}
		if err := link.Restore(); err != nil {
			t.Fatalf("restore %d: %v", n, err)
		}
	}
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", link.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got, err := io.ReadAll(conn); err != nil || string(got) != "x" {
		t.Errorf("got %q and %v through the restored link, want x", got, err)
	}
}
