package zookeepertest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/quorate/quorate/leaderelection/zookeeper"
)

// Fault of one call.
type Fault int

const (
	// None is no fault: the call is made.
	None Fault = iota
	// LostBefore it was applied: the call breaks the connection.
	LostBefore
	// LostAfter it was applied: the answer is lost, and the connection is another.
	LostAfter
	// Hang until the caller's context ends; the call is never applied.
	Hang
	// HangAfter it was applied, until the caller's context ends.
	HangAfter
)

// Client is one session at the tree. It answers as *zookeeper.Client does.
type Client struct {
	tree    *Tree
	session int64
	ended   chan struct{}
	touched chan struct{}

	mu      sync.Mutex // guards below
	why     error
	timeout time.Duration // granted to the connection
	conns   uint64
	cut     bool
	hung    bool
	latency time.Duration
	stale   map[string]node // what a server shows that is cut off from its peers
	moved   chan struct{}   // closed when one of those changes
	watches map[string]chan struct{}
	inject  func(ops []zookeeper.Op) Fault
}

// Open a session.
func (t *Tree) Open() *Client {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.opened++
	c := &Client{
		tree: t, session: t.opened, ended: make(chan struct{}), touched: make(chan struct{}, 1),
		timeout: t.granted(), conns: 1,
		moved: make(chan struct{}), watches: map[string]chan struct{}{},
	}
	t.clients[c.session] = c
	go c.live()
	return c
}

// live is the server's clock for the session: pings are answered, and touch it,
// while the client is connected to a server that is connected to its peers.
func (c *Client) live() {
	expiry := time.NewTimer(c.Timeout())
	defer expiry.Stop()
	ping := time.NewTicker(c.Timeout() / 3)
	defer ping.Stop()
	for {
		select {
		case <-c.ended:
			return
		case <-ping.C:
			if c.reachesQuorum() {
				expiry.Reset(c.Timeout())
			}
		case <-c.touched:
			expiry.Reset(c.Timeout())
			ping.Reset(c.Timeout() / 3)
		case <-expiry.C:
			c.tree.expire(c.session)
			c.awaitServer()
			c.finish(fmt.Errorf("%w: expired", zookeeper.ErrEnded))
			return
		}
	}
}

// awaitServer that can tell the client that its session has expired, or the
// client's own clock, which is later than the server's.
func (c *Client) awaitServer() {
	own := time.NewTimer(c.Timeout())
	defer own.Stop()
	for !c.reachesQuorum() {
		c.mu.Lock()
		moved := c.moved
		c.mu.Unlock()
		select {
		case <-moved:
		case <-own.C:
			return
		case <-c.ended:
			return
		}
	}
}

func (c *Client) reachesQuorum() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reaches()
}

// reaches a quorum. Needs c.mu.
func (c *Client) reaches() bool { return !c.cut && !c.hung && c.stale == nil }

// touch the session at the server.
func (c *Client) touch() {
	select {
	case c.touched <- struct{}{}:
	default:
	}
}

func (c *Client) set(change func()) {
	c.mu.Lock()
	change()
	close(c.moved)
	c.moved = make(chan struct{})
	c.mu.Unlock()
}

// Cut the connection to all servers.
func (c *Client) Cut() { c.set(func() { c.cut = true }) }

// Pause all answers, while the connection stays.
func (c *Client) Pause() { c.set(func() { c.hung = true }) }

// Isolate the client's server from its peers: it goes on answering reads from what
// it knew and pings, while writes wait.
func (c *Client) Isolate() {
	c.tree.mu.Lock()
	defer c.tree.mu.Unlock()
	nodes := maps.Clone(c.tree.nodes)
	c.set(func() { c.stale = nodes })
}

// Heal all of it, by a new connection: at once, or a call in between would be
// answered through the one that was told of nothing meanwhile.
func (c *Client) Heal() {
	c.set(func() {
		c.cut, c.hung, c.stale = false, false, nil
		c.connect()
	})
}

// Slow lets every call to come take so long on its way.
func (c *Client) Slow(latency time.Duration) { c.set(func() { c.latency = latency }) }

// Inject decides about the fault of every call to come; ops are those of a write,
// and nil for a read.
func (c *Client) Inject(f func(ops []zookeeper.Op) Fault) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.inject = f
}

// Expire the session at the server.
func (c *Client) Expire() {
	c.tree.expire(c.session)
	c.finish(fmt.Errorf("%w: expired", zookeeper.ErrEnded))
}

func (c *Client) newConnection() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.connect()
}

// connect anew, which touches the session, by what the server grants then. Needs c.mu.
func (c *Client) connect() {
	c.conns++
	if c.reaches() {
		c.timeout = c.tree.granted()
		c.touch()
	}
	for p, w := range c.watches {
		close(w)
		delete(c.watches, p)
	}
}

func (c *Client) finish(why error) {
	c.mu.Lock()
	done := c.why != nil
	if !done {
		c.why = why
	}
	c.mu.Unlock()
	if !done {
		close(c.ended)
		c.newConnection()
	}
}

// notify is called with the tree's lock held.
func (c *Client) notify(paths []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.reaches() {
		return // a new connection fires them all
	}
	for _, p := range paths {
		if w := c.watches[p]; w != nil {
			close(w)
			delete(c.watches, p)
		}
	}
}

// reach a server that answers, or the end of waiting for it.
func (c *Client) reach(ctx context.Context, write bool) (nodes map[string]node, err error) {
	for {
		c.mu.Lock()
		cut, hung, stale, moved := c.cut, c.hung, c.stale, c.moved
		c.mu.Unlock()
		if !cut && !hung && (stale == nil || !write) {
			return stale, nil
		}
		select {
		case <-moved:
			if hung || stale != nil {
				return nil, fmt.Errorf("%w: connection lost", zookeeper.ErrUnsure)
			}
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", zookeeper.ErrUnsure, context.Cause(ctx))
		case <-c.ended:
			return nil, fmt.Errorf("%w: %w", zookeeper.ErrUnsure, c.Err())
		}
	}
}

func (c *Client) call(ctx context.Context, ops []zookeeper.Op, apply func(nodes map[string]node) error) error {
	if err := c.Err(); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	c.mu.Lock()
	fault, latency := None, c.latency
	if c.inject != nil {
		fault = c.inject(ops)
	}
	c.mu.Unlock()
	if err := c.travel(ctx, latency); err != nil {
		return err
	}
	switch fault {
	case LostBefore:
		c.newConnection()
		return fmt.Errorf("%w: connection lost", zookeeper.ErrUnsure)
	case Hang:
		return c.hang(ctx)
	default:
	}
	nodes, err := c.reach(ctx, ops != nil)
	if err != nil {
		return err
	}
	c.tree.mu.Lock()
	if c.tree.clients[c.session] != c && nodes == nil {
		c.tree.mu.Unlock()
		c.finish(fmt.Errorf("%w: expired", zookeeper.ErrEnded))
		return c.Err()
	}
	if nodes == nil {
		nodes = c.tree.nodes
		c.touch()
	}
	err = apply(nodes)
	c.tree.mu.Unlock()
	switch fault {
	case LostAfter:
		c.newConnection()
		return fmt.Errorf("%w: connection lost", zookeeper.ErrUnsure)
	case HangAfter:
		return c.hang(ctx)
	default:
		return err
	}
}

func (c *Client) travel(ctx context.Context, latency time.Duration) error {
	if latency == 0 {
		return nil
	}
	late, cancel := context.WithTimeout(context.WithoutCancel(ctx), latency)
	defer cancel()
	select {
	case <-late.Done():
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", zookeeper.ErrUnsure, context.Cause(ctx))
	}
}

func (c *Client) hang(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", zookeeper.ErrUnsure, context.Cause(ctx))
	case <-c.ended:
		return fmt.Errorf("%w: %w", zookeeper.ErrUnsure, c.Err())
	}
}

// Get the data of a node.
func (c *Client) Get(ctx context.Context, path string) (data []byte, stat zookeeper.Stat, err error) {
	err = c.call(ctx, nil, func(nodes map[string]node) (err error) {
		c.tree.reads++
		data, stat, err = read(nodes, path)
		return err
	})
	return data, stat, err
}

// Watch tells whether a node exists.
func (c *Client) Watch(ctx context.Context, path string) (stat zookeeper.Stat, exists bool, changed <-chan struct{}, err error) {
	err = c.call(ctx, nil, func(nodes map[string]node) error {
		c.tree.reads++
		_, s, err := read(nodes, path)
		stat, exists = s, err == nil
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.watches[path] == nil {
			c.watches[path] = make(chan struct{})
		}
		changed = c.watches[path]
		return nil
	})
	return stat, exists, changed, err
}

// Children of a node.
func (c *Client) Children(ctx context.Context, path string) (names []string, err error) {
	err = c.call(ctx, nil, func(nodes map[string]node) error {
		c.tree.reads++
		if _, ok := nodes[path]; !ok {
			return fmt.Errorf("list %s: %w", path, zookeeper.ErrNoNode)
		}
		names = children(nodes, path)
		return nil
	})
	return names, err
}

// Multi makes all operations or none.
func (c *Client) Multi(ctx context.Context, ops ...zookeeper.Op) (results []zookeeper.Result, err error) {
	err = c.call(ctx, ops, func(map[string]node) (err error) {
		results, err = c.tree.commit(c.session, ops)
		return err
	})
	return results, err
}

// SessionID of the session.
func (c *Client) SessionID() int64 { return c.session }

// Timeout that the tree granted.
func (c *Client) Timeout() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.timeout
}

// Connection counts connections.
func (c *Client) Connection() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.conns
}

// Reconnect takes another connection.
func (c *Client) Reconnect() { c.newConnection() }

// Ended is closed when the session is over.
func (c *Client) Ended() <-chan struct{} { return c.ended }

// Err is why it is over.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.why
}

// Close ends the session at the server, if it can be reached.
func (c *Client) Close(context.Context) error {
	if c.reachesQuorum() {
		c.tree.expire(c.session)
	}
	c.finish(errors.Join(zookeeper.ErrEnded, errors.New("closed")))
	return nil
}
