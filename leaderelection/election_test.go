package leaderelection_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	clientgo "k8s.io/client-go/tools/leaderelection"
	"k8s.io/klog/v2/ktesting"

	"github.com/quorate/quorate/leaderelection"
	"github.com/quorate/quorate/leaderelection/zookeepertest"
)

const (
	timeout = 30 * time.Second
	tick    = 2 * time.Second
)

// candidate is a process in an election: its own session, and what it did when.
type candidate struct {
	name    string
	clients chan *zookeepertest.Client
	session *leaderelection.Session
	history *history
}

// history of who led, on the one clock of the test.
type history struct {
	mu      sync.Mutex
	leading map[string]int64 // by candidate: token
	terms   []string
	tokens  []int64
	faults  []string
}

func (h *history) start(name string, token int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.leading) > 0 {
		h.faults = append(h.faults, fmt.Sprintf("%s began to lead beside %v", name, h.leading))
	}
	if n := len(h.tokens); n > 0 && h.tokens[n-1] >= token {
		h.faults = append(h.faults, fmt.Sprintf("token %d of %s does not exceed %d", token, name, h.tokens[n-1]))
	}
	h.leading[name] = token
	h.terms = append(h.terms, name)
	h.tokens = append(h.tokens, token)
}

func (h *history) stop(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.leading, name)
}

func (h *history) leaders() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []string
	for n := range h.leading {
		out = append(out, n)
	}
	slices.Sort(out)
	return out
}

func (h *history) check(t *testing.T) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, f := range h.faults {
		t.Error(f)
	}
}

func newHistory() *history { return &history{leading: map[string]int64{}} }

func join(t *testing.T, tree *zookeepertest.Tree, h *history, name string) *candidate {
	t.Helper()
	c := &candidate{name: name, clients: make(chan *zookeepertest.Client, 100), history: h}
	_, ctx := ktesting.NewTestContext(t)
	s, err := leaderelection.Dial(ctx, leaderelection.SessionConfig{
		Timeout: timeout, Tick: tick,
		Open: func(context.Context) (leaderelection.Conn, error) {
			client := tree.Open()
			c.clients <- client
			return client, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	c.session = s
	t.Cleanup(func() {
		if err := s.Close(context.WithoutCancel(ctx)); err != nil {
			t.Error(err)
		}
	})
	return c
}

func (c *candidate) config() leaderelection.Config {
	return leaderelection.Config{Session: c.session, Namespace: "ns", Name: "x", Identity: c.name}
}

// client of the current session.
func (c *candidate) client() *zookeepertest.Client {
	var last *zookeepertest.Client
	for {
		select {
		case cl := <-c.clients:
			last = cl
			continue
		default:
		}
		c.clients <- last
		return last
	}
}

// bare runs client-go's own elector until ctx ends or it has led once.
func (c *candidate) bare(ctx context.Context, t *testing.T, wg *sync.WaitGroup) *leaderelection.Lock {
	t.Helper()
	l, err := leaderelection.New(c.config())
	if err != nil {
		t.Fatal(err)
	}
	wg.Go(func() {
		c.runBare(ctx, t, l)
	})
	return l
}

func (c *candidate) runBare(ctx context.Context, t *testing.T, l *leaderelection.Lock) {
	var working sync.WaitGroup
	e, err := clientgo.NewLeaderElector(clientgo.LeaderElectionConfig{
		Lock: l, LeaseDuration: 15 * time.Second, RenewDeadline: 10 * time.Second, RetryPeriod: 2 * time.Second,
		ReleaseOnCancel: true,
		Callbacks: clientgo.LeaderCallbacks{
			OnStartedLeading: func(ctx context.Context) {
				working.Add(1)
				defer working.Done()
				term := l.Term()
				if term == nil {
					return
				}
				c.history.start(c.name, term.Token())
				<-ctx.Done()
				c.history.stop(c.name)
			},
			OnStoppedLeading: func() {},
		},
	})
	if err != nil {
		t.Error(err)
		return
	}
	e.Run(ctx)
	working.Wait()
}

// pass time, on the bubble's clock.
func pass(d time.Duration) { <-time.After(d) }

func await(t *testing.T, d time.Duration, what string, ok func() bool) time.Duration {
	t.Helper()
	begin := time.Now()
	for !ok() {
		if time.Since(begin) > d {
			t.Fatalf("%s: not within %v", what, d)
		}
		pass(time.Millisecond)
	}
	return time.Since(begin)
}

func TestBareElectorsTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tree := zookeepertest.NewTree(timeout)
		h := newHistory()
		var wg sync.WaitGroup
		ctx := t.Context()
		cancels := map[string]context.CancelFunc{}
		for _, n := range []string{"a", "b", "c"} {
			cctx, cancel := context.WithCancel(ctx)
			cancels[n] = cancel
			join(t, tree, h, n).bare(cctx, t, &wg)
		}
		await(t, time.Minute, "a leader", func() bool { return len(h.leaders()) == 1 })
		pass(2 * time.Minute)
		first := h.leaders()[0]
		t.Log(first, tree.Paths(), tree.Writes(), tree.Reads())
		cancels[first]()
		took := await(t, time.Minute, "a successor", func() bool { l := h.leaders(); return len(l) == 1 && l[0] != first })
		t.Log("graceful hand-over", took)
		for _, c := range cancels {
			c()
		}
		wg.Wait()
		h.check(t)
	})
}
