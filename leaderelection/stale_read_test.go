package leaderelection_test

import (
	"context"
	"testing"

	"github.com/quorate/quorate/leaderelection"
	"github.com/quorate/quorate/leaderelection/zookeeper"
	"github.com/quorate/quorate/leaderelection/zookeepertest"
)

// behind is a way to a server that is behind: it shows a free lock, though somebody has
// it.
type behind struct {
	*zookeepertest.Client
	record zookeeper.Stat
}

// Get implements leaderelection.Conn.
func (c behind) Get(ctx context.Context, path string) ([]byte, zookeeper.Stat, error) {
	switch path {
	case election1 + "/owner":
		return nil, zookeeper.Stat{}, zookeeper.ErrNoNode
	case election1:
		return nil, c.record, nil
	}
	return c.Client.Get(ctx, path)
}

// Watch implements leaderelection.Conn.
func (c behind) Watch(ctx context.Context, path string) (zookeeper.Stat, bool, <-chan struct{}, error) {
	if path == election1+"/owner" {
		return zookeeper.Stat{}, false, make(chan struct{}), nil
	}
	return c.Client.Watch(ctx, path)
}

// P14: go-zookeeper forgets what it has seen when a session expires, and the next may
// read what is older. Nothing is acquired by that: neither by an old version of the
// record nor, where a record that was made anew has the same, beside the owner.
func TestOldReadAcquiresNothing(t *testing.T) {
	for name, version := range map[string]func(now int32) int32{
		"an older version": func(now int32) int32 { return now - 1 },
		"the same version": func(now int32) int32 { return now },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, tree *zookeepertest.Tree) {
				leader := lockOf(t, join(t, tree, newHistory(), "a"))
				token := acquire(t, leader)
				_, record, err := tree.Get(election1)
				if err != nil {
					t.Fatal(err)
				}
				record.Version = version(record.Version)
				l := lockOf(t, &process{name: "b", session: dial(t, func() leaderelection.Conn { return behind{tree.Open(), record} })})
				if r, _, err := l.Get(t.Context()); err != nil || r.HolderIdentity != "" {
					t.Fatalf("lock that seems free: got %+v, %v", r, err)
				}
				if err := l.Update(t.Context(), recordOf(l)); err == nil || l.Term() != nil {
					t.Errorf("acquire by an old read: got %v, term %v, want it refused", err, l.Term())
				}
				if got := leader.Term(); got == nil || got.Token() != token {
					t.Errorf("term of the leader: got %v, want that of token %d", got, token)
				}
			})
		})
	}
}
