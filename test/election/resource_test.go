package election

import (
	"bufio"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"testing"
)

// resource is what leaders act on: it lets everybody in, and remembers everything.
type resource struct {
	listener net.Listener
	serving  sync.WaitGroup

	mu   sync.Mutex // guards below
	acts []act
	open []net.Conn
}

func openResource(t *testing.T) *resource {
	t.Helper()
	r := &resource{listener: must(net.Listen("unix", filepath.Join(t.TempDir(), "resource")))(t)} //nolint:noctx // binds, waits for nobody
	r.serving.Go(r.accept)
	t.Cleanup(r.close)
	return r
}

func (r *resource) accept() {
	for {
		conn, err := r.listener.Accept()
		if err != nil {
			return
		}
		r.mu.Lock()
		r.open = append(r.open, conn)
		visit := len(r.open)
		r.mu.Unlock()
		r.serving.Go(func() { r.serve(conn, visit) })
	}
}

func (r *resource) serve(conn net.Conn, visit int) {
	defer conn.Close()
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		a := act{Visit: visit}
		if _, err := fmt.Sscan(lines.Text(), &a.Token, &a.Checked); err != nil {
			return
		}
		r.take(a)
		if _, err := fmt.Fprintln(conn); err != nil {
			return
		}
	}
}

func (r *resource) take(a act) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a.At = monotonic()
	r.acts = append(r.acts, a)
}

// history is all acts from the nth on.
func (r *resource) history(n int) []act {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]act(nil), r.acts[n:]...)
}

// find the first act from the nth on that is as asked for, or tell from where to look on.
func (r *resource) find(n int, is func(act) bool) (found act, ok bool, next int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if i := slices.IndexFunc(r.acts[n:], is); i >= 0 {
		return r.acts[n+i], true, n + i
	}
	return act{}, false, len(r.acts)
}

func (r *resource) length() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.acts)
}

func (r *resource) close() {
	_ = r.listener.Close()
	r.mu.Lock()
	for _, conn := range r.open {
		_ = conn.Close()
	}
	r.mu.Unlock()
	r.serving.Wait()
}
