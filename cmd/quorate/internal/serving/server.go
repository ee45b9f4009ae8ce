package serving

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/klog/v2"
)

// Server is one listener and what answers on it.
type Server struct {
	// Name in logs and errors.
	Name string
	// Listener that is served, and closed.
	Listener net.Listener
	// Handler of the requests.
	Handler http.Handler
	// TLS, or nil for plain text.
	TLS *tls.Config
	// Last servers end after all others: health, so that kubelets get their answer, and
	// metrics.
	Last bool
}

// Listen on an address; an error names the server.
func Listen(ctx context.Context, name, address string) (net.Listener, error) {
	var c net.ListenConfig
	l, err := c.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("serve %s: %w", name, err)
	}
	return l, nil
}

// Drain says how serving ends.
type Drain struct {
	// Ready is dropped first.
	Ready *Readiness
	// Delay until listeners are closed.
	Delay time.Duration
	// Timeout for the requests that are then still running.
	Timeout time.Duration
}

// Run serves until ctx ends, or one server fails, and then drains. It returns when
// every server has ended.
func Run(ctx context.Context, d Drain, servers ...*Server) error {
	log := klog.FromContext(ctx)
	failed := make(chan error, len(servers))
	var running sync.WaitGroup
	https := make([]*http.Server, len(servers))
	var draining atomic.Bool
	for i, s := range servers {
		https[i] = &http.Server{
			Handler: partingOnce(&draining, s.Handler), TLSConfig: s.TLS, Protocols: protocols(),
			ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 90 * time.Second, MaxHeaderBytes: 1 << 16,
		}
		running.Go(func() {
			if err := serve(https[i], s); !errors.Is(err, http.ErrServerClosed) {
				failed <- fmt.Errorf("serve %s: %w", s.Name, err)
			}
		})
		log.Info("Serving", "server", s.Name, "address", s.Listener.Addr().String(), "tls", s.TLS != nil)
	}
	var err error
	select {
	case <-ctx.Done():
		draining.Store(true)
		d.wait(ctx, servers)
	case err = <-failed:
	}
	if d.Ready != nil {
		d.Ready.Drain()
	}
	for _, last := range []bool{false, true} {
		err = errors.Join(err, d.shutDown(ctx, servers, https, last))
	}
	running.Wait()
	return err
}

// protocols are HTTP/1.1 alone: API servers speak nothing else to a Service, so that
// their connections are spread over its endpoints (kubernetes#75791), but would speak
// HTTP/2 to a URL on localhost, which is how tests and single machines call us.
func protocols() *http.Protocols {
	var p http.Protocols
	p.SetHTTP1(true)
	return &p
}

func serve(h *http.Server, s *Server) error {
	if s.TLS != nil {
		return h.ServeTLS(s.Listener, "", "")
	}
	return h.Serve(s.Listener)
}

// partingOnce draining, every answer asks the client to close its connection. Idle
// connections are left alone: closing one (as SetKeepAlivesEnabled does) loses the
// request that is being sent through it.
func partingOnce(draining *atomic.Bool, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if draining.Load() {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}

// wait drops readiness and waits until nobody is sent here any more.
func (d Drain) wait(ctx context.Context, servers []*Server) {
	if d.Ready != nil {
		d.Ready.Drain()
	}
	delay := d.Delay
	if !slices.ContainsFunc(servers, func(s *Server) bool { return !s.Last }) {
		delay = 0 // nobody is sent here
	}
	klog.FromContext(ctx).Info("Shutting down: not ready any more, still serving", "delay", delay)
	timer := time.NewTimer(delay)
	defer timer.Stop()
	<-timer.C
}

func (d Drain) shutDown(ctx context.Context, servers []*Server, https []*http.Server, last bool) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), d.Timeout)
	defer cancel()
	errs := make([]error, len(https))
	var ending sync.WaitGroup
	for i, h := range https {
		if servers[i].Last != last {
			continue
		}
		ending.Go(func() {
			if err := h.Shutdown(ctx); err != nil {
				_ = h.Close()
				errs[i] = fmt.Errorf("end %s: requests were cut off: %w", servers[i].Name, err)
			}
		})
	}
	ending.Wait()
	return errors.Join(errs...)
}
