package leaderelection

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/klog/v2"

	"github.com/quorate/quorate/leaderelection/zookeeper"
)

// Defaults of a SessionConfig.
const (
	DefaultSessionTimeout = 30 * time.Second
	DefaultTick           = 2 * time.Second
)

// SessionConfig is what a Session needs. Only Servers has no default.
type SessionConfig struct {
	// Servers is a connection string: host:port,host:port/chroot. Names are resolved
	// again when all servers were tried, and one that does not resolve does not hinder
	// the others.
	Servers string
	// Timeout to ask for; the server may grant another (see Session.Timeout).
	// Default 30 s, which the LeaderElector's own defaults need; Run is content with
	// less.
	Timeout time.Duration
	// Tick of the ensemble (tickTime), by which deadlines are shortened. Default 2 s,
	// ZooKeeper's own. Danger: never less than the ensemble's.
	Tick time.Duration
	// RenewInterval between two proofs. Default: Tick, but at most a tenth of Timeout.
	RenewInterval time.Duration
	// Root of all our nodes. Default /quorate.
	Root string
	// TLS, or nil for plain text. With a client certificate the session counts as
	// authenticated.
	TLS *tls.Config
	// Auth of the session, or nil. Without it, and without a client certificate, all
	// nodes are open to whoever reaches ZooKeeper, which is warned about.
	Auth *zookeeper.Auth
	// MaxMessage is the size of the largest request and answer. Default 64 KiB; to list
	// thousands of elections needs more.
	MaxMessage int
	// Registerer of the metrics; nil: not exported.
	Registerer prometheus.Registerer
	// Open replaces the way to ZooKeeper: it opens one session. Default:
	// zookeeper.Dial with what is above.
	Open func(ctx context.Context) (Conn, error)
}

func (c *SessionConfig) complete() error {
	setDefault(&c.Timeout, DefaultSessionTimeout)
	setDefault(&c.Tick, DefaultTick)
	setDefault(&c.RenewInterval, min(c.Tick, c.Timeout/10))
	setDefault(&c.Root, DefaultRoot)
	var errs []error
	if !strings.HasPrefix(c.Root, "/") || path.Clean(c.Root) != c.Root || c.Root == "/" {
		errs = append(errs, fmt.Errorf("root %q is not an absolute path", c.Root))
	}
	if c.Timeout <= c.Tick+c.RenewInterval {
		errs = append(errs, fmt.Errorf("session timeout %v does not exceed a tick %v and a renew interval %v", c.Timeout, c.Tick, c.RenewInterval))
	}
	if c.Open != nil {
		return errors.Join(errs...)
	}
	if _, _, err := zookeeper.ParseServers(c.Servers); err != nil {
		errs = append(errs, err)
	}
	zk := zookeeper.Config{Servers: c.Servers, Timeout: c.Timeout, TLS: c.TLS, Auth: c.Auth, MaxMessage: c.MaxMessage}
	c.Open = func(ctx context.Context) (Conn, error) { return zookeeper.Dial(ctx, zk) }
	return errors.Join(errs...)
}

// whyNot is what may be wrong where a permission is missing. ZooKeeper takes any
// password, and knows none that is wrong.
func (c *SessionConfig) whyNot(err error) string {
	switch {
	case !errors.Is(err, zookeeper.ErrNoAuth):
		return ""
	case c.authenticated():
		return ": is the password right, and does the node above belong to others?"
	}
	return ": it has no credentials"
}

func (c *SessionConfig) authenticated() bool {
	return c.Auth != nil || (c.TLS != nil && (len(c.TLS.Certificates) > 0 || c.TLS.GetClientCertificate != nil))
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// Session is a process's one ZooKeeper session, shared by all its locks. When it
// expires another takes its place; terms never outlive theirs. It is safe for
// concurrent use.
type Session struct {
	cfg     SessionConfig
	log     klog.Logger
	metrics *metrics
	cancel  context.CancelFunc
	done    chan struct{} // run has returned

	mu      sync.Mutex // guards below
	life    *life      // nil between two
	changed chan struct{}
	err     error // why there is no life
}

// Dial opens a session and waits until it is established, its node exists, and
// the server's timeout is known. Its errors say what is wrong: nobody answers,
// only read-only servers answer, credentials lack a permission. The session lives
// until Close, not until ctx ends; ctx carries the logger.
func Dial(ctx context.Context, cfg SessionConfig) (*Session, error) {
	if err := cfg.complete(); err != nil {
		return nil, fmt.Errorf("open session: %w", err)
	}
	m, err := newMetrics(cfg.Registerer)
	if err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	s := &Session{
		cfg: cfg, log: klog.FromContext(ctx), metrics: m, done: make(chan struct{}), changed: make(chan struct{}),
	}
	first, err := s.open(ctx)
	if err != nil {
		return nil, err
	}
	if !cfg.authenticated() {
		s.log.Info("Leader election nodes are open to whoever reaches ZooKeeper: the session has no credentials", "root", cfg.Root)
		m.open.Set(1)
	}
	s.put(first, nil)
	ctx, cancel := context.WithCancel(klog.NewContext(context.Background(), s.log))
	s.cancel = cancel
	m.watch(s)
	go s.run(ctx, first)
	return s, nil
}

// open one life, within the session timeout.
func (s *Session) open(ctx context.Context) (*life, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, s.cfg.Timeout, fmt.Errorf("no session within %v", s.cfg.Timeout))
	defer cancel()
	opened := time.Now()
	conn, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	li, err := newLife(ctx, conn, opened, &s.cfg, s.metrics)
	if err != nil {
		_ = conn.Close(ctx)
		return nil, fmt.Errorf("prepare session: %w%s", err, s.cfg.whyNot(err))
	}
	if granted := conn.Timeout(); granted != s.cfg.Timeout {
		s.log.Info("ZooKeeper grants another session timeout than asked for", "asked", s.cfg.Timeout, "granted", granted)
	}
	return li, nil
}

func (s *Session) connect(ctx context.Context) (Conn, error) {
	conn, err := s.cfg.Open(ctx)
	if err != nil {
		return nil, err
	}
	return impatient{conn}, nil
}

// run keeps one life after the other until ctx ends.
func (s *Session) run(ctx context.Context, li *life) {
	defer close(s.done)
	for {
		li.run(ctx)
		s.put(nil, errors.Join(ErrSessionEnded, li.Err()))
		if ctx.Err() == nil {
			s.log.Info("ZooKeeper session is over", "err", li.Err())
			s.metrics.ended.Inc()
		}
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		if err := li.end(closing, ErrSessionEnded); err != nil {
			s.log.V(2).Info("Session was not closed in time", "err", err)
		}
		cancel()
		if li = s.reopen(ctx); li == nil {
			return
		}
		s.put(li, nil)
	}
}

// reopen until it works or ctx ends.
func (s *Session) reopen(ctx context.Context) *life {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		li, err := s.open(ctx)
		if err == nil {
			return li
		}
		if ctx.Err() == nil {
			s.log.Info("Opening a ZooKeeper session failed, trying again", "err", err)
			s.put(nil, err)
		}
		timer.Reset(min(time.Second, s.cfg.Timeout/10))
	}
}

func (s *Session) put(li *life, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.life, s.err = li, err
	close(s.changed)
	s.changed = make(chan struct{})
}

// current life, or why there is none, and a channel that is closed when that
// changes.
func (s *Session) current() (*life, <-chan struct{}, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.life == nil {
		return nil, s.changed, fmt.Errorf("no ZooKeeper session: %w", s.err)
	}
	return s.life, s.changed, nil
}

// Close ends the session at the server, which deletes all that it owns: call it
// when the work of every term has stopped. It waits for all goroutines, until ctx
// ends.
func (s *Session) Close(ctx context.Context) error {
	s.cancel()
	s.metrics.unwatch()
	select {
	case <-s.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("close session: %w", context.Cause(ctx))
	}
}

// Timeout that the server granted, 0 while there is no session.
func (s *Session) Timeout() time.Duration {
	li, _, err := s.current()
	if err != nil {
		return 0
	}
	return li.Timeout()
}

// Check is a health check: an error while there is no session, or while it has not
// been proven for its whole timeout.
func (s *Session) Check() error {
	li, _, err := s.current()
	if err != nil {
		return err
	}
	if age := li.age(); age > li.Timeout() {
		return fmt.Errorf("%w: the session was last proven %v ago", ErrPastDeadline, age.Round(time.Millisecond))
	}
	return nil
}
