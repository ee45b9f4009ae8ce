package zookeeper

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/go-zookeeper/zk"
	"k8s.io/klog/v2"
)

// dial is called by go-zookeeper's one connection goroutine. Once the session is
// over it refuses: go-zookeeper would go on with a session of another id, and send
// under it what was queued under this one.
func (c *Client) dial(network, address string, _ time.Duration) (net.Conn, error) {
	if c.over() {
		return nil, ErrEnded
	}
	until := time.Now().Add(c.bound)
	ctx, cancel := context.WithDeadline(context.Background(), until)
	defer cancel()
	conn, err := c.reach(ctx, network, address)
	if err != nil {
		c.note(err)
		return nil, err
	}
	w := &wire{Conn: conn, until: until, heard: &c.heard, now: c.now}
	c.mu.Lock()
	c.wire = w
	c.lastErr = fmt.Errorf("%w: %s", ErrRefused, address)
	c.mu.Unlock()
	return w, w.SetDeadline(until)
}

func (c *Client) reach(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := c.cfg.Dial(ctx, network, address)
	if err != nil || c.cfg.TLS == nil {
		return conn, err
	}
	cfg := c.cfg.TLS.Clone()
	if cfg.ServerName == "" {
		cfg.ServerName = c.hosts.nameOf(address)
	}
	secure := tls.Client(conn, cfg)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("TLS with %s: %w", address, err)
	}
	return secure, nil
}

func (c *Client) note(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lastErr = err
}

// event is called on go-zookeeper's own goroutine for every event, none dropped,
// and must not block.
func (c *Client) event(e zk.Event) {
	switch e.Type {
	case zk.EventSession:
		switch e.State {
		case zk.StateHasSession:
			c.connected()
		case zk.StateExpired:
			c.end(fmt.Errorf("%w: expired", ErrEnded))
		default:
			c.log.V(4).Info("ZooKeeper connection changed", "state", e.State.String(), "server", e.Server)
		}
	case zk.EventNotWatching:
	default:
		if e.State != stateForgotten {
			c.watches.fire(e.Path)
		}
	}
}

func (c *Client) connected() {
	c.mu.Lock()
	w := c.wire
	timeout, session := w.granted()
	if c.session != 0 && session != c.session {
		c.mu.Unlock()
		_ = w.Close() // before anything is written to it
		c.end(fmt.Errorf("%w: a server has answered with session %#x", ErrEnded, session))
		return
	}
	c.timeout, c.session, c.lastErr = timeout, session, nil
	c.mu.Unlock()
	if err := w.established(); err != nil {
		c.log.V(4).Info("Connection broke in the handshake", "err", err)
	}
	first := c.connections.Add(1) == 1
	w.forget(c.watches.fireAll())
	c.log.V(2).Info("Connected to ZooKeeper", "server", w.RemoteAddr().String(), "sessionID", fmt.Sprintf("%#x", session), "timeout", timeout)
	if first {
		close(c.established)
	}
}

// reason that no server took us. A server that hung up is asked what it does.
func (c *Client) reason(ctx context.Context) error {
	c.mu.Lock()
	err := c.lastErr
	w := c.wire
	c.mu.Unlock()
	switch {
	case err == nil:
		return ErrNoServer
	case !errors.Is(err, ErrRefused):
		return fmt.Errorf("%w: %w", ErrNoServer, err)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if mode, askErr := c.mode(ctx, w.RemoteAddr()); askErr == nil && strings.Contains(mode, "read-only") {
		return fmt.Errorf("%w: %s", ErrReadOnly, w.RemoteAddr())
	}
	return err
}

// mode is the server's own word for its part, through the "srvr" command that is
// allowed by default.
func (c *Client) mode(ctx context.Context, server net.Addr) (string, error) {
	conn, err := c.reach(ctx, server.Network(), server.String())
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return "", err
		}
	}
	if _, err := io.WriteString(conn, "srvr"); err != nil {
		return "", err
	}
	out, err := io.ReadAll(io.LimitReader(conn, 64<<10))
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(out)) {
		if mode, ok := strings.CutPrefix(line, "Mode:"); ok {
			return strings.TrimSpace(mode), nil
		}
	}
	return "", fmt.Errorf("server answered %.60q", out)
}

// printer is go-zookeeper's logger.
type printer struct{ log klog.Logger }

func (p printer) Printf(format string, args ...any) {
	p.log.V(5).Info("ZooKeeper client says", "message", fmt.Sprintf(format, args...))
}
