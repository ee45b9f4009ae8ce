package deploy

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// service is what a Service is to an API server: connections go to replicas that are
// ready, each to one of them for as long as it lasts.
type service struct {
	listener net.Listener
	wait     sync.WaitGroup

	mu       sync.Mutex // guards below
	replicas map[string]*replica
	next     int
	conns    map[net.Conn]bool
	closed   bool
}

// replica answers on address, and is asked at health whether it is ready.
type replica struct {
	address, health string
	ready           bool
}

func newService(ctx context.Context) (*service, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &service{listener: l, replicas: map[string]*replica{}, conns: map[net.Conn]bool{}}
	s.wait.Go(func() { s.accept(ctx) })
	s.wait.Go(func() { s.watch(ctx) })
	return s, nil
}

func (s *service) port() int { return s.listener.Addr().(*net.TCPAddr).Port }

func (s *service) add(name string, r *replica) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.replicas[name] = r
}

func (s *service) remove(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.replicas, name)
}

// watch keeps who is ready, as the endpoints controller does.
func (s *service) watch(ctx context.Context) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			return
		}
		var all []*replica
		for _, r := range s.replicas {
			all = append(all, r)
		}
		s.mu.Unlock()
		for _, r := range all {
			ready := isReady(ctx, r.health) == nil
			s.mu.Lock()
			r.ready = ready
			s.mu.Unlock()
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (s *service) pick() (address string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ready []string
	for _, r := range s.replicas {
		if r.ready {
			ready = append(ready, r.address)
		}
	}
	if len(ready) == 0 {
		return "", false
	}
	s.next++
	return ready[s.next%len(ready)], true
}

func (s *service) accept(ctx context.Context) {
	for {
		in, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.wait.Go(func() { s.pipe(ctx, in) })
	}
}

func (s *service) pipe(ctx context.Context, in net.Conn) {
	defer in.Close()
	address, ok := s.pick()
	if !ok {
		return
	}
	out, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return
	}
	defer out.Close()
	s.mu.Lock()
	s.conns[in], s.conns[out] = true, true
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return
	}
	done := make(chan struct{}, 2)
	one := func(to, from net.Conn) {
		_, _ = io.Copy(to, from)
		_ = to.(*net.TCPConn).CloseWrite()
		done <- struct{}{}
	}
	go one(out, in)
	go one(in, out)
	<-done
	<-done
	s.mu.Lock()
	delete(s.conns, in)
	delete(s.conns, out)
	s.mu.Unlock()
}

func (s *service) close() {
	_ = s.listener.Close()
	s.mu.Lock()
	s.closed = true
	for c := range s.conns {
		_ = c.Close()
	}
	s.mu.Unlock()
	s.wait.Wait()
}

func isReady(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}}}
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusOK {
		return &notReady{string(body)}
	}
	return err
}

type notReady struct{ body string }

func (e *notReady) Error() string { return e.body }
