package zookeeper

import (
	"context"
	"errors"
	"time"
)

// Client is one ZooKeeper session. It is safe for concurrent use.
type Client struct{}

// Dial opens a session and returns when it is established and authenticated.
func Dial(ctx context.Context, cfg Config) (*Client, error) {
	return nil, errors.New("dial: not built yet")
}

// Close ends the session at the server and waits for all goroutines, until ctx
// ends.
func (c *Client) Close(ctx context.Context) error { return nil }

// Ended is closed when the session is over.
func (c *Client) Ended() <-chan struct{} { return nil }

// SessionID of the session.
func (c *Client) SessionID() int64 { return 0 }

// Timeout that the server granted.
func (c *Client) Timeout() time.Duration { return 0 }

// Get the data of a node.
func (c *Client) Get(ctx context.Context, path string) ([]byte, Stat, error) {
	return nil, Stat{}, errors.New("get: not built yet")
}

// Children of a node, without order.
func (c *Client) Children(ctx context.Context, path string) ([]string, error) {
	return nil, errors.New("children: not built yet")
}

// Multi makes all operations or none. If one is refused, the error is its error,
// and the results tell which.
func (c *Client) Multi(ctx context.Context, ops ...Op) ([]Result, error) {
	return nil, errors.New("multi: not built yet")
}
