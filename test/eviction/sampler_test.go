package eviction

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/quorate/quorate/test/lab"
)

const (
	// every is how often each server is asked.
	every = 10 * time.Millisecond
	// election is for how long a server that does not serve still counts: it may take
	// part in one.
	election = 20 * time.Second
)

// sampler asks every server how it is, all the time, and keeps the fewest that
// counted at once.
type sampler struct {
	cancel context.CancelFunc
	wait   sync.WaitGroup

	mu      sync.Mutex // guards below
	servers []sampled
	armed   bool
	fewest  int
	story   []string
	samples int
	began   time.Time
	idle    time.Duration // the longest that a server which counted did not serve
}

type sampled struct {
	counts  bool
	paused  bool      // by the test: it can't answer, and does not count
	since   time.Time // when it was paused
	serving time.Time
}

// sample begins to ask the servers, which all serve.
func sample(t testing.TB, servers []*lab.Server) *sampler {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	s := &sampler{cancel: cancel, servers: make([]sampled, len(servers)), fewest: len(servers), began: time.Now()}
	for i, server := range servers {
		s.wait.Go(func() {
			tick := time.NewTicker(every)
			defer tick.Stop()
			for ctx.Err() == nil {
				asked := time.Now()
				s.note(i, server.ID(), asked, ask(ctx, server.Addr()))
				select {
				case <-tick.C:
				case <-ctx.Done():
				}
			}
		})
	}
	t.Cleanup(s.stop)
	err := lab.Await(t.Context(), time.Minute, "every server to be sampled", func(context.Context) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if n := s.count(); n < len(servers) {
			return fmt.Errorf("%d of %d serve", n, len(servers))
		}
		s.armed = true
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *sampler) stop() {
	s.cancel()
	s.wait.Wait()
}

type state int

const (
	slow    state = iota // no answer in time: says nothing
	serving              // leads or follows
	looking              // answers that it does not serve
	closed               // nobody listens
)

// ask is srvr, which every server answers.
func ask(ctx context.Context, address string) state {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return closed
	case err != nil:
		return slow
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	_ = conn.SetDeadline(deadline)
	if _, err := io.WriteString(conn, "srvr"); err != nil {
		return slow
	}
	answer, err := io.ReadAll(conn)
	switch {
	case strings.Contains(string(answer), "Mode: leader"), strings.Contains(string(answer), "Mode: follower"):
		return serving
	case strings.Contains(string(answer), "not currently serving"):
		return looking
	case err == nil && len(answer) == 0:
		return looking
	default:
		return slow
	}
}

// note what a server answered when it was asked then.
func (s *sampler) note(i, id int, asked time.Time, st state) {
	s.mu.Lock()
	defer s.mu.Unlock()
	server, was := &s.servers[i], s.servers[i].counts
	s.samples++
	if was {
		s.idle = max(s.idle, time.Since(server.serving))
	}
	switch st {
	case serving:
		server.counts, server.serving = true, time.Now()
	case looking, slow:
		server.counts = server.counts && time.Since(server.serving) < election
	case closed:
		server.counts = false
	}
	if asked.After(server.since) && (st == serving || st == closed) { // a stopped process can do neither
		server.paused = false
	}
	server.counts = server.counts && !server.paused
	if was == server.counts {
		return
	}
	n := s.count()
	s.story = append(s.story, fmt.Sprintf("%6.2fs server %d counts=%t: %d of %d", time.Since(s.began).Seconds(), id, server.counts, n, len(s.servers)))
	if s.armed {
		s.fewest = min(s.fewest, n)
	}
}

func (s *sampler) count() (n int) {
	for i := range s.servers {
		if s.servers[i].counts {
			n++
		}
	}
	return n
}

// pause tells that a server is stopped by the test.
func (s *sampler) pause(i int, paused bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.servers[i].paused, s.servers[i].since = paused, time.Now()
	s.servers[i].counts = s.servers[i].counts && !paused
}

// least is the fewest servers that ever counted at once, and how that came.
func (s *sampler) least() (fewest, samples int, story string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fewest, s.samples, strings.Join(s.story, "\n")
}

// restart begins to count anew.
func (s *sampler) restart() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fewest, s.samples, s.story, s.began, s.idle = s.count(), 0, nil, time.Now(), 0
}

// idlest is the longest that a server which counted did not serve.
func (s *sampler) idlest() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.idle.Round(10 * time.Millisecond)
}

// all reports whether every server counts.
func (s *sampler) all() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.count(); n < len(s.servers) {
		return fmt.Errorf("%d of %d servers count", n, len(s.servers))
	}
	return nil
}
