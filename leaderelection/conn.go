package leaderelection

import (
	"context"
	"errors"
	"time"

	"github.com/quorate/quorate/leaderelection/zookeeper"
)

// Conn is what a Session asks of one ZooKeeper session; *zookeeper.Client is one.
// Each call returns by the time its context ends.
type Conn interface {
	// Get the data of a node.
	Get(ctx context.Context, path string) ([]byte, zookeeper.Stat, error)
	// Watch tells whether a node exists; the channel is closed when that may have
	// changed.
	Watch(ctx context.Context, path string) (stat zookeeper.Stat, exists bool, changed <-chan struct{}, err error)
	// Children of a node.
	Children(ctx context.Context, path string) ([]string, error)
	// Multi makes all operations or none.
	Multi(ctx context.Context, ops ...zookeeper.Op) ([]zookeeper.Result, error)
	// SessionID of the session.
	SessionID() int64
	// Timeout that the server granted.
	Timeout() time.Duration
	// Connection counts the connections that the session has had.
	Connection() uint64
	// Reconnect gives the connection up for another.
	Reconnect()
	// Ended is closed when the session is over.
	Ended() <-chan struct{}
	// Err is why it is over.
	Err() error
	// Close ends the session.
	Close(ctx context.Context) error
}

var _ Conn = (*zookeeper.Client)(nil)

// errSlow is the cause of a call that was given up though its caller waits.
var errSlow = errors.New("no answer for a third of the session timeout")

// impatient bounds every call: a caller without a deadline must not hang on one
// answer that never comes.
type impatient struct{ Conn }

func (c impatient) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, c.Timeout()/3, errSlow)
}

func (c impatient) Get(ctx context.Context, path string) ([]byte, zookeeper.Stat, error) {
	ctx, cancel := c.bound(ctx)
	defer cancel()
	return c.Conn.Get(ctx, path)
}

func (c impatient) Watch(ctx context.Context, path string) (zookeeper.Stat, bool, <-chan struct{}, error) {
	ctx, cancel := c.bound(ctx)
	defer cancel()
	return c.Conn.Watch(ctx, path)
}

func (c impatient) Children(ctx context.Context, path string) ([]string, error) {
	ctx, cancel := c.bound(ctx)
	defer cancel()
	return c.Conn.Children(ctx, path)
}

func (c impatient) Multi(ctx context.Context, ops ...zookeeper.Op) ([]zookeeper.Result, error) {
	ctx, cancel := c.bound(ctx)
	defer cancel()
	return c.Conn.Multi(ctx, ops...)
}

// maxInFlight is how many calls of a session are on their way at once, besides the
// proofs.
const maxInFlight = 100

// orderly has calls wait for their turn here, not in the connection: a proof, which
// goes past it, never waits behind all that ten thousand locks ask at once. A call
// that has not begun when its context ends was not made.
type orderly struct {
	Conn
	turns chan struct{} // holds one for each call on its way
}

func newOrderly(conn Conn) orderly { return orderly{conn, make(chan struct{}, maxInFlight)} }

func (c orderly) turn(ctx context.Context) error {
	select {
	case c.turns <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-c.Ended():
		return c.Err()
	}
}

func (c orderly) Get(ctx context.Context, path string) ([]byte, zookeeper.Stat, error) {
	if err := c.turn(ctx); err != nil {
		return nil, zookeeper.Stat{}, err
	}
	defer func() { <-c.turns }()
	return c.Conn.Get(ctx, path)
}

func (c orderly) Watch(ctx context.Context, path string) (zookeeper.Stat, bool, <-chan struct{}, error) {
	if err := c.turn(ctx); err != nil {
		return zookeeper.Stat{}, false, nil, err
	}
	defer func() { <-c.turns }()
	return c.Conn.Watch(ctx, path)
}

func (c orderly) Children(ctx context.Context, path string) ([]string, error) {
	if err := c.turn(ctx); err != nil {
		return nil, err
	}
	defer func() { <-c.turns }()
	return c.Conn.Children(ctx, path)
}

func (c orderly) Multi(ctx context.Context, ops ...zookeeper.Op) ([]zookeeper.Result, error) {
	if err := c.turn(ctx); err != nil {
		return nil, err
	}
	defer func() { <-c.turns }()
	return c.Conn.Multi(ctx, ops...)
}
