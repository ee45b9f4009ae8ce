package leaderelection_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	clientgo "k8s.io/client-go/tools/leaderelection"
	"k8s.io/klog/v2"

	"github.com/quorate/quorate/leaderelection"
	"github.com/quorate/quorate/leaderelection/zookeepertest"
)

const (
	timeout  = 30 * time.Second
	tick     = 2 * time.Second
	stopTime = 2 * time.Second
)

// history of who led, on the one clock of the test.
type history struct {
	mu      sync.Mutex // guards below
	leading map[string]int64
	terms   []string
	tokens  []int64
	faults  []string
}

func newHistory() *history { return &history{leading: map[string]int64{}} }

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
	h.terms, h.tokens = append(h.terms, name), append(h.tokens, token)
}

func (h *history) stop(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.leading, name)
}

func (h *history) leader() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	for n := range h.leading {
		return n
	}
	return ""
}

func (h *history) leads(name string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, ok := h.leading[name]
	return ok
}

// forget what was found fault with so far, where the test has brought it about.
func (h *history) forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.faults = nil
}

func (h *history) order() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.terms)
}

func (h *history) violations() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.faults)
}

func (h *history) check(t *testing.T) {
	t.Helper()
	for _, f := range h.violations() {
		t.Error(f)
	}
}

// process takes part in an election: its own session, and what it does while it
// leads.
type process struct {
	name    string
	session *leaderelection.Session
	history *history
	slow    time.Duration // that its work takes to stop

	mu      sync.Mutex // guards below
	clients []*zookeepertest.Client
}

func join(t *testing.T, tree *zookeepertest.Tree, h *history, name string) *process {
	t.Helper()
	p := &process{name: name, history: h, slow: stopTime - time.Millisecond}
	p.session = dial(t, func() leaderelection.Conn {
		c := tree.Open()
		p.mu.Lock()
		defer p.mu.Unlock()
		p.clients = append(p.clients, c)
		return c
	})
	return p
}

// dial a Session, which ends with the test.
func dial(t *testing.T, open func() leaderelection.Conn) *leaderelection.Session {
	t.Helper()
	// Its logs would be written while the bubble ends.
	ctx := klog.NewContext(t.Context(), klog.Logger{})
	s, err := leaderelection.Dial(ctx, leaderelection.SessionConfig{
		Timeout: timeout, Tick: tick,
		Open: func(context.Context) (leaderelection.Conn, error) { return open(), nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(context.WithoutCancel(ctx)); err != nil {
			t.Error(err)
		}
	})
	return s
}

// client of the newest session.
func (p *process) client() *zookeepertest.Client {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.clients[len(p.clients)-1]
}

func (p *process) config() leaderelection.Config {
	return leaderelection.Config{Session: p.session, Namespace: "ns", Name: "x", Identity: p.name, StopTime: stopTime}
}

// work until ctx ends, and a while longer.
func (p *process) work(ctx context.Context, token int64) {
	p.history.start(p.name, token)
	<-ctx.Done()
	pass(p.slow)
	p.history.stop(p.name)
}

// bare is one run of client-go's own elector, unmodified.
func (p *process) bare(ctx context.Context, l *leaderelection.Lock) error {
	var working sync.WaitGroup
	working.Add(1)
	led := false
	e, err := clientgo.NewLeaderElector(clientgo.LeaderElectionConfig{
		Lock: l, LeaseDuration: 15 * time.Second, RenewDeadline: 10 * time.Second, RetryPeriod: 2 * time.Second,
		ReleaseOnCancel: true,
		Callbacks: clientgo.LeaderCallbacks{
			OnStartedLeading: func(ctx context.Context) {
				defer working.Done()
				if term := l.Term(); term != nil {
					p.work(ctx, term.Token())
				}
			},
			OnStoppedLeading: func() { led = l.Led() },
		},
	})
	if err != nil {
		return err
	}
	e.Run(ctx)
	if led {
		working.Wait()
	}
	return nil
}

// again and again until ctx ends.
func (p *process) bareAgain(ctx context.Context, t *testing.T, wg *sync.WaitGroup) {
	t.Helper()
	wg.Go(func() {
		for ctx.Err() == nil {
			// As a process that starts again does: another lock, in the same session.
			l, err := leaderelection.New(p.config())
			if err != nil {
				pass(time.Second)
				continue
			}
			if err := p.bare(ctx, l); err != nil {
				t.Error(err)
			}
		}
	})
}

// run is one Run.
func (p *process) run(ctx context.Context) error {
	return leaderelection.Run(ctx, p.config(), leaderelection.Callbacks{
		OnStartedLeading: func(ctx context.Context) { p.work(ctx, leaderelection.TermFrom(ctx).Token()) },
	})
}

func (p *process) runAgain(ctx context.Context, wg *sync.WaitGroup) {
	wg.Go(func() {
		for ctx.Err() == nil {
			if err := p.run(ctx); errors.Is(err, leaderelection.ErrBudget) {
				pass(time.Second)
			}
		}
	})
}

// pass time, on the bubble's clock.
func pass(d time.Duration) { <-time.After(d) }

// await a condition, and return how long it took.
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
