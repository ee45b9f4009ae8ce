package zookeeper

import (
	"context"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"
)

// hosts tells go-zookeeper which server is next. Its own provider resolves names
// once, at the start, and fails if one of them fails; this one resolves them anew
// for every round, and leaves out what does not resolve.
type hosts struct {
	names  []string
	lookup func(ctx context.Context, host string) ([]string, error)
	bound  time.Duration
	over   func() bool

	mu    sync.Mutex        // guards below
	round []string          // still to be tried
	hosts map[string]string // that the addresses of this round belong to
	tried int               // since the last success
	at    string            // the server that was last told
	left  string            // the server that was last connected to
}

func (h *hosts) Init([]string) error { return nil }

func (h *hosts) Len() int { return len(h.names) }

// Next is only called by go-zookeeper's one connection goroutine. A new round is a
// retry: requests that were waiting are refused then, and a second passes.
func (h *hosts) Next() (server string, retryStart bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.round) == 0 {
		retryStart = h.tried > 0
		h.round = h.resolve()
	}
	server, h.round = h.round[0], h.round[1:]
	h.at = server
	h.tried++
	return server, retryStart || h.over()
}

// Connected begins a new round, so that a session which loses its server again meets
// each other once before its time is up, and that one last.
func (h *hosts) Connected() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tried, h.round, h.left = 0, nil, h.at
}

// resolve returns every address once, in random order but for the server that was left,
// and a name itself where none resolves, so that the failure to dial it is told.
func (h *hosts) resolve() []string {
	ctx, cancel := context.WithTimeout(context.Background(), h.bound)
	defer cancel()
	answers := make([][]string, len(h.names))
	var wg sync.WaitGroup
	for i, name := range h.names {
		wg.Go(func() {
			host, port, _ := net.SplitHostPort(name)
			if net.ParseIP(host) != nil {
				answers[i] = []string{name}
				return
			}
			addrs, err := h.lookup(ctx, host)
			if err != nil {
				return
			}
			for _, a := range addrs {
				answers[i] = append(answers[i], net.JoinHostPort(a, port))
			}
		})
	}
	wg.Wait()
	var out []string
	h.hosts = map[string]string{}
	for i, as := range answers {
		for _, a := range as {
			if h.hosts[a] == "" {
				h.hosts[a], _, _ = net.SplitHostPort(h.names[i])
				out = append(out, a)
			}
		}
	}
	if len(out) == 0 {
		return append(out, h.names...)
	}
	rand.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	if i := slices.Index(out, h.left); i >= 0 {
		out = append(slices.Delete(out, i, i+1), h.left)
	}
	return out
}

// nameOf the host that an address belongs to.
func (h *hosts) nameOf(address string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if name := h.hosts[address]; name != "" {
		return name
	}
	host, _, _ := net.SplitHostPort(address)
	return host
}
