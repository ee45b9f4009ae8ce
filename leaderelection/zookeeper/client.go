package zookeeper

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-zookeeper/zk"
	"k8s.io/klog/v2"
)

// Client is one ZooKeeper session. It is safe for concurrent use.
type Client struct {
	cfg    Config
	chroot string
	acl    []zk.ACL
	log    klog.Logger
	start  time.Time
	bound  time.Duration // of dialling and handshake together
	hosts  *hosts

	conn        *zk.Conn
	heard       atomic.Int64  // nanoseconds after start
	connections atomic.Uint64 // established so far
	watches     watches
	ended       chan struct{}
	established chan struct{} // the first connection
	goroutines  sync.WaitGroup

	mu      sync.Mutex // guards below
	why     error      // the session ended
	wire    *wire
	lastErr error // why the last server did not take us
	timeout time.Duration
	session int64
}

// Dial opens a session and returns when it is established and authenticated. It
// gives up when ctx ends, with what the last server said. The session lives until
// Close, not until ctx ends.
func Dial(ctx context.Context, cfg Config) (*Client, error) {
	servers, chroot, err := ParseServers(cfg.Servers)
	if err == nil {
		err = cfg.complete()
	}
	if err != nil {
		return nil, fmt.Errorf("open session at %q: %w", cfg.Servers, err)
	}
	c := &Client{
		cfg: cfg, chroot: chroot, acl: zk.WorldACL(zk.PermAll), log: klog.FromContext(ctx), start: time.Now(),
		bound: min(max(cfg.Timeout/time.Duration(len(servers)+1), 500*time.Millisecond), cfg.Timeout*2/3),
		ended: make(chan struct{}), established: make(chan struct{}),
	}
	if cfg.authenticated() {
		c.acl = zk.AuthACL(zk.PermAll)
	}
	c.hosts = &hosts{names: servers, lookup: cfg.Lookup, bound: c.bound, over: c.over}
	if err := c.connect(); err != nil {
		return nil, fmt.Errorf("open session at %q: %w", cfg.Servers, err)
	}
	if err := c.welcome(ctx); err != nil {
		err = fmt.Errorf("open session at %q: %w", cfg.Servers, err)
		c.end(err)
		return nil, err
	}
	return c, nil
}

func (c *Client) connect() error {
	conn, events, err := zk.Connect(c.hosts.names, c.cfg.Timeout,
		zk.WithHostProvider(c.hosts),
		zk.WithDialer(c.dial),
		zk.WithEventCallback(c.event),
		zk.WithLogger(printer{c.log}),
		zk.WithLogInfo(false),
		zk.WithMaxBufferSize(c.cfg.MaxMessage),
		zk.WithMaxConnBufferSize(c.cfg.MaxMessage))
	if err != nil {
		return err
	}
	c.conn = conn
	c.goroutines.Go(func() { // ends with go-zookeeper's own goroutines
		for range events {
		}
	})
	return nil
}

func (c *Client) welcome(ctx context.Context) error {
	select {
	case <-c.established:
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", c.reason(ctx), context.Cause(ctx))
	}
	if err := c.spawn(c.clock); err != nil {
		return err
	}
	if c.cfg.Auth != nil {
		err := c.do(ctx, func() error { return c.conn.AddAuth(c.cfg.Auth.Scheme, c.cfg.Auth.Credential) })
		if err != nil {
			return fmt.Errorf("authenticate by %s: %w", c.cfg.Auth.Scheme, err)
		}
	}
	return c.ensureChroot(ctx)
}

// ensureChroot makes the chroot, which an ensemble that lost its data has lost, too.
func (c *Client) ensureChroot(ctx context.Context) error {
	for i := 1; i <= len(c.chroot); i++ {
		if i < len(c.chroot) && c.chroot[i] != '/' {
			continue
		}
		dir := c.chroot[:i]
		err := c.do(ctx, func() error {
			exists, _, err := c.conn.Exists(dir)
			if err == nil && !exists {
				_, err = c.conn.Create(dir, nil, 0, c.acl)
			}
			return err
		})
		if err != nil && !errors.Is(err, ErrNodeExists) {
			return fmt.Errorf("make chroot %s: %w", dir, err)
		}
	}
	return nil
}

// clock ends the session when no server was heard for its whole timeout, which
// go-zookeeper never does.
func (c *Client) clock() {
	timer := time.NewTimer(c.Timeout())
	defer timer.Stop()
	for {
		select {
		case <-c.ended:
			return
		case <-timer.C:
		}
		silent := time.Duration(c.now() - c.heard.Load())
		if silent >= c.Timeout() {
			c.end(fmt.Errorf("%w: no server was heard for %v", ErrEnded, silent.Round(time.Millisecond)))
			return
		}
		timer.Reset(c.Timeout() - silent)
	}
}

// end ends the session, once. go-zookeeper is closed behind it: that takes up to
// three seconds.
func (c *Client) end(why error) {
	c.mu.Lock()
	if c.why != nil {
		c.mu.Unlock()
		return
	}
	if !errors.Is(why, ErrEnded) {
		why = fmt.Errorf("%w: %w", ErrEnded, why)
	}
	c.why = why
	c.goroutines.Go(func() {
		c.conn.Close()
		c.Reconnect()
	})
	c.mu.Unlock()
	close(c.ended)
	c.watches.fireAll()
}

// spawn starts a goroutine that Close waits for, unless the session is over.
func (c *Client) spawn(f func()) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.why != nil {
		return c.why
	}
	c.goroutines.Go(f)
	return nil
}

// Close ends the session at the server and waits for all goroutines, until ctx
// ends.
func (c *Client) Close(ctx context.Context) error {
	c.end(errors.New("closed"))
	done := make(chan struct{})
	go func() {
		c.goroutines.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("close session: %w", context.Cause(ctx))
	}
}

// Ended is closed when the session is over.
func (c *Client) Ended() <-chan struct{} { return c.ended }

// Err is why the session is over, nil while it is not.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.why
}

func (c *Client) over() bool { return c.Err() != nil }

// SessionID of the session.
func (c *Client) SessionID() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.session
}

// Timeout that the server granted.
func (c *Client) Timeout() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.timeout
}

// Connection counts the connections that the session has had. An answer that came
// while it did not change came through one connection.
func (c *Client) Connection() uint64 { return c.connections.Load() }

// Reconnect gives the connection to the server up, for another.
func (c *Client) Reconnect() {
	c.mu.Lock()
	w := c.wire
	c.mu.Unlock()
	if w != nil {
		_ = w.Close() // The reader tells.
	}
}

func (c *Client) now() int64 { return int64(time.Since(c.start)) }
