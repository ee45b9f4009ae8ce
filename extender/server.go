package extender

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"k8s.io/klog/v2"
)

// ServerConfig is what a Server needs.
type ServerConfig struct {
	// Placer has no default.
	Placer *Placer
	// BindAddress is host:port; loopback, beside the scheduler, needs no TLS.
	BindAddress string
	// TLS is used where a certificate is named.
	TLS TLSFiles
	// MaxBody bounds a question in bytes. Default DefaultMaxBody.
	MaxBody int64
	// Timeout is how long a question may take to arrive, and an answer to leave.
	// Default 30 s.
	Timeout time.Duration
	// Registry gets the metrics and is served at /metrics. Default: one of its own.
	Registry *prometheus.Registry
	// Grace is for how long requests may finish after the end. Default 5 s.
	Grace time.Duration
}

// Server is the HTTP shell.
type Server struct {
	config   ServerConfig
	listener net.Listener
	handler  http.Handler
}

// NewServer makes a server and opens its port. It fails at once where the port is
// taken or a certificate cannot be read.
func NewServer(c ServerConfig) (*Server, error) {
	if c.Registry == nil {
		c.Registry = prometheus.NewRegistry()
	}
	if c.Grace <= 0 {
		c.Grace = 5 * time.Second
	}
	if c.Timeout <= 0 {
		c.Timeout = 30 * time.Second
	}
	h := newHandler(c.Placer, newMetrics(c.Registry, c.Placer), c.MaxBody)
	h.mux.Handle("GET /metrics", promhttp.HandlerFor(c.Registry, promhttp.HandlerOpts{}))
	security, err := c.TLS.config()
	if err != nil {
		return nil, err
	}
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", c.BindAddress)
	if err != nil {
		return nil, fmt.Errorf("listen for the scheduler: %w", err)
	}
	if security != nil {
		listener = tls.NewListener(listener, security)
	}
	return &Server{config: c, listener: listener, handler: h}, nil
}

// Addr is where the server listens.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Run serves until ctx ends, then lets requests finish.
func (s *Server) Run(ctx context.Context) error {
	server := &http.Server{
		Handler: s.handler, BaseContext: func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
		ReadHeaderTimeout: min(5*time.Second, s.config.Timeout), ReadTimeout: s.config.Timeout, WriteTimeout: s.config.Timeout, IdleTimeout: 2 * time.Minute,
	}
	klog.FromContext(ctx).Info("Serving the scheduler", "address", s.Addr().String(), "tls", s.config.TLS.CertFile != "")
	served := make(chan error, 1)
	go func() { served <- server.Serve(s.listener) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve the scheduler: %w", err)
	case <-ctx.Done():
	}
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.config.Grace)
	defer cancel()
	if err := server.Shutdown(ending); err != nil {
		_ = server.Close()
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the scheduler: %w", err)
	}
	return nil
}
