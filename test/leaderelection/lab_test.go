package leaderelection

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	lock "github.com/quorate/quorate/leaderelection"
	"github.com/quorate/quorate/test/lab"
)

const (
	tick    = 500 * time.Millisecond
	timeout = 6 * time.Second
	// interval of proofs, as long as the timeout allows: all that the leader of ZooKeeper
	// may not have been told of lies in it.
	interval = 1200 * time.Millisecond
	stopTime = time.Second
	patience = 90 * time.Second
)

func TestMain(m *testing.M) {
	flag.Parse()
	// They wait for most of their time: more fit than there may be processors.
	if err := flag.Set("test.parallel", "4"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if err := errors.Join(ensembles.close(), planes.close()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// together lets a test run beside others, in the short form: in the long one it has
// the machine for itself.
func together(t *testing.T) {
	if !chaos() {
		t.Parallel()
	}
}

// shared is what tests use together, and none of them hurts. The first starts it.
type shared[T interface {
	comparable
	Close() error
}] struct {
	start func(context.Context) (T, error)
	once  sync.Once
	it    T
	err   error
}

var (
	ensembles = shared[*lab.Ensemble]{start: func(ctx context.Context) (*lab.Ensemble, error) {
		return lab.StartZooKeeper(ctx, lab.ZooKeeperConfig{TickTime: tick})
	}}
	planes = shared[*lab.ControlPlane]{start: func(ctx context.Context) (*lab.ControlPlane, error) {
		return lab.StartControlPlane(ctx, lab.ControlPlaneConfig{})
	}}
)

func (s *shared[T]) get(t *testing.T) T {
	t.Helper()
	s.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*patience) // it outlives the test
		defer cancel()
		s.it, s.err = s.start(ctx)
	})
	if s.err != nil {
		t.Fatal(s.err)
	}
	return s.it
}

func (s *shared[T]) close() error {
	var none T
	if s.it == none {
		return nil
	}
	return s.it.Close()
}

// ensemble of real servers that may be hurt, ended with the test.
func ensemble(t *testing.T, cfg lab.ZooKeeperConfig) *lab.Ensemble {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cfg.TickTime = tick
	e, err := lab.StartZooKeeper(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// follower of an ensemble, and the servers that are not it.
func follower(t *testing.T, e *lab.Ensemble) (f *lab.Server, others string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	leader, err := e.Leader(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range e.Servers() {
		switch {
		case s != leader && f == nil:
			f = s
		case others == "":
			others = s.Addr()
		default:
			others += "," + s.Addr()
		}
	}
	return f, others
}

// history of who acted when, on the machine's one monotonic clock.
type history struct {
	mu      sync.Mutex // guards below
	acting  map[string]int64
	highest int64
	faults  []string
}

func newHistory() *history { return &history{acting: map[string]int64{}} }

func (h *history) start(name string, token int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.acting) > 0 {
		h.faults = append(h.faults, fmt.Sprintf("%s (token %d) acts beside %v", name, token, h.acting))
	}
	if token <= h.highest {
		h.faults = append(h.faults, fmt.Sprintf("%s has token %d after %d", name, token, h.highest))
	}
	h.acting[name], h.highest = token, max(token, h.highest)
}

func (h *history) stop(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.acting, name)
}

func (h *history) leader() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	for n := range h.acting {
		return n
	}
	return ""
}

// check that nothing was wrong, and count what was.
func (h *history) check(t *testing.T) int {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, f := range h.faults {
		t.Error(f)
	}
	return len(h.faults)
}

// process runs for an election again and again, by Run, until leave.
type process struct {
	name    string
	session *lock.Session
	history *history
	leave   context.CancelFunc
	terms   chan *lock.Term
}

func join(t *testing.T, h *history, name, servers string) *process {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var s *lock.Session
	err := errors.New("not tried")
	for err != nil { // a session is to be opened within its timeout, which is short
		if s, err = lock.Dial(ctx, lock.SessionConfig{Servers: servers, Timeout: timeout, Tick: tick, RenewInterval: interval}); err != nil && ctx.Err() != nil {
			t.Fatal(err)
		}
	}
	p := &process{name: name, session: s, history: h, terms: make(chan *lock.Term, 100)}
	running, leave := context.WithCancel(t.Context())
	p.leave = leave
	var wg sync.WaitGroup
	wg.Go(func() {
		for running.Err() == nil {
			if err := p.run(running); err != nil && errors.Is(err, lock.ErrBudget) {
				t.Error(err)
				return
			}
		}
	})
	t.Cleanup(func() {
		leave()
		wg.Wait()
		if err := s.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return p
}

func (p *process) run(ctx context.Context) error {
	cfg := lock.Config{
		Session: p.session, Namespace: "lab", Name: "x", Identity: p.name, StopTime: stopTime,
		LeaseDuration: 3 * time.Second, RenewDeadline: 2 * time.Second, RetryPeriod: 500 * time.Millisecond,
	}
	return lock.Run(ctx, cfg, lock.Callbacks{OnStartedLeading: func(ctx context.Context) {
		term := lock.TermFrom(ctx)
		p.terms <- term
		p.history.start(p.name, term.Token())
		<-ctx.Done()
		// The work takes most of the time that it is allowed to.
		<-time.After(stopTime * 3 / 4)
		p.history.stop(p.name)
	}})
}

// await a condition of real parts.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	begin := time.Now()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for !ok() {
		if time.Since(begin) > patience {
			t.Fatalf("%s: not within %v", what, patience)
		}
		<-ticker.C
	}
}

func awaitLeader(t *testing.T, h *history, name string) {
	t.Helper()
	await(t, name+" leads", func() bool { return h.leader() == name })
}

func rounds() int {
	if chaos() {
		return 20
	}
	return 1
}

// idle for a while: nothing is awaited, time has to pass.
func idle(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
	}
}
