package zookeeper

import (
	"context"
	"fmt"
	"slices"

	"github.com/go-zookeeper/zk"
)

// do makes one call, and returns by the time ctx or the session ends. A call that
// was given up goes on in its goroutine, until it is answered or the session's
// connection is closed; what it answers is read by nobody.
func (c *Client) do(ctx context.Context, call func() error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx) // nothing was sent
	}
	answer := make(chan error, 1)
	if err := c.spawn(func() { answer <- call() }); err != nil {
		return err
	}
	select {
	case err := <-answer:
		return translate(err)
	case <-ctx.Done():
		return abandoned(ctx)
	case <-c.ended:
		return fmt.Errorf("%w: %w", ErrUnsure, c.Err())
	}
}

// path below the chroot.
func (c *Client) path(path string) string {
	if path == "/" && c.chroot != "" {
		return c.chroot
	}
	return c.chroot + path
}

// Get the data of a node.
func (c *Client) Get(ctx context.Context, path string) ([]byte, Stat, error) {
	var data []byte
	var stat Stat
	err := c.do(ctx, func() error {
		d, s, err := c.conn.Get(c.path(path))
		if err == nil {
			data, stat = d, statOf(s)
		}
		return err
	})
	if err != nil {
		return nil, Stat{}, fmt.Errorf("get %s: %w", path, err)
	}
	return data, stat, nil
}

// Watch tells whether a node exists, and returns a channel that is closed when it
// is created, changed or deleted after that; when another connection takes over;
// and when the session ends. Look again then.
func (c *Client) Watch(ctx context.Context, path string) (stat Stat, exists bool, changed <-chan struct{}, err error) {
	full := c.path(path)
	w, arm := c.watches.of(full)
	var found bool
	var seen Stat
	err = c.do(ctx, func() error {
		ok, s, err := c.exists(full, arm)
		if err == nil {
			found, seen = ok, statOf(s)
			c.watches.arm(w)
		}
		return err
	})
	if err != nil {
		return Stat{}, false, nil, fmt.Errorf("watch %s: %w", path, err)
	}
	return seen, found, w.fired, nil
}

func (c *Client) exists(path string, arm bool) (bool, *zk.Stat, error) {
	if !arm {
		return c.conn.Exists(path)
	}
	ok, s, _, err := c.conn.ExistsW(path)
	return ok, s, err
}

// Children of a node, without order.
func (c *Client) Children(ctx context.Context, path string) ([]string, error) {
	var names []string
	err := c.do(ctx, func() error {
		ns, _, err := c.conn.Children(c.path(path))
		if err == nil {
			names = ns
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", path, err)
	}
	return names, nil
}

// Multi makes all operations or none. If one is refused, the error is its error,
// and the results tell which.
func (c *Client) Multi(ctx context.Context, ops ...Op) ([]Result, error) {
	requests := make([]any, len(ops))
	for i, op := range ops {
		requests[i] = c.request(op)
	}
	var results []Result
	err := c.do(ctx, func() error {
		rs, err := c.conn.Multi(requests...)
		results = c.results(rs)
		return err
	})
	if err == nil {
		return results, nil
	}
	if isDefinite(err) {
		return results, fmt.Errorf("write %s: %w", pathOf(ops, results), err)
	}
	return nil, fmt.Errorf("write %s: %w", pathOf(ops, nil), err)
}

func (c *Client) request(op Op) any {
	switch op := op.(type) {
	case *Create:
		var flags int32
		if op.Ephemeral {
			flags |= zk.FlagEphemeral
		}
		if op.Sequential {
			flags |= zk.FlagSequence
		}
		return &zk.CreateRequest{Path: c.path(op.Path), Data: op.Data, Acl: c.acl, Flags: flags}
	case *Set:
		return &zk.SetDataRequest{Path: c.path(op.Path), Data: op.Data, Version: op.Version}
	case *Delete:
		return &zk.DeleteRequest{Path: c.path(op.Path), Version: op.Version}
	case *Check:
		return &zk.CheckVersionRequest{Path: c.path(op.Path), Version: op.Version}
	}
	panic(fmt.Sprintf("zookeeper: operation of an unknown type %T", op))
}

// results keeps the error of the operation that was refused; those after it have
// one that says only that there was another.
func (c *Client) results(rs []zk.MultiResponse) []Result {
	out := make([]Result, len(rs))
	for i, r := range rs {
		if r.Stat != nil {
			out[i].Stat = statOf(r.Stat)
		}
		if len(r.String) >= len(c.chroot) {
			out[i].Path = r.String[len(c.chroot):]
		}
		if r.Error != nil && !slices.ContainsFunc(out[:i], func(r Result) bool { return r.Err != nil }) {
			out[i].Err = r.Error
		}
	}
	return out
}

// pathOf the operation that was refused, or of the first.
func pathOf(ops []Op, results []Result) string {
	i := max(0, slices.IndexFunc(results, func(r Result) bool { return r.Err != nil }))
	switch op := ops[i].(type) {
	case *Create:
		return op.Path
	case *Set:
		return op.Path
	case *Delete:
		return op.Path
	case *Check:
		return op.Path
	}
	return ""
}

func statOf(s *zk.Stat) Stat {
	return Stat{Czxid: s.Czxid, Mzxid: s.Mzxid, Version: s.Version, EphemeralOwner: s.EphemeralOwner, Mtime: s.Mtime, Ctime: s.Ctime}
}
