package election

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"
	"k8s.io/klog/v2"

	"github.com/quorate/quorate/leaderelection"
	"github.com/quorate/quorate/leaderelection/zookeeper"
)

// The second workload: leaders write to ZooKeeper under the fence of their term, and
// never ask their lock whether they may. Each write is a node whose name is the token
// and a number that ZooKeeper counts up, and so tells in what order they landed.
const (
	fencedPrefix = "fenced-"
	fencedEvery  = 50 * time.Millisecond
	metFence     = "a write met the fence"
)

// fencedStore is where a candidate writes: a session of its own, which outlives those
// that hold the lock.
type fencedStore struct {
	servers string
	client  *zookeeper.Client
}

// lead writes until it is told to stop, and once more then, as work does that is slow
// to stop, or was paused.
func (s *fencedStore) lead(ctx context.Context, t *leaderelection.Term) {
	for told := false; !told; {
		told = ctx.Err() != nil
		<-time.After(fencedEvery)
		if err := s.write(context.WithoutCancel(ctx), t); errors.Is(err, zookeeper.ErrNoNode) {
			fmt.Println(metFence)
		}
	}
}

// write once. A write that is given up may still land.
func (s *fencedStore) write(ctx context.Context, t *leaderelection.Term) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if s.client == nil || s.client.Err() != nil {
		client, err := zookeeper.Dial(klog.NewContext(ctx, klog.Logger{}), zookeeper.Config{Servers: s.servers, Timeout: 20 * tick})
		if err != nil {
			return err
		}
		s.client = client
	}
	_, err := s.client.Multi(ctx, append(t.Fence(), &zookeeper.Create{Path: fmt.Sprintf("/%s%d-", fencedPrefix, t.Token()), Sequential: true})...)
	return err
}

// fencedWrites are the tokens of all that landed, in that order.
func (a *arena) fencedWrites(t *testing.T) []int64 {
	t.Helper()
	nodes := a.fencedNodes(t)
	slices.SortFunc(nodes, func(x, y string) int { return cmp.Compare(x[len(x)-10:], y[len(y)-10:]) })
	var tokens []int64
	for _, node := range nodes {
		token, _, _ := strings.Cut(strings.TrimPrefix(node, fencedPrefix), "-")
		tokens = append(tokens, must(strconv.ParseInt(token, 10, 64))(t))
	}
	return tokens
}

func (a *arena) fencedNodes(t *testing.T) []string {
	t.Helper()
	var nodes []string
	await(t, "the fenced writes to be read", func() bool {
		_, syncErr := a.direct.Sync("/")
		children, _, err := a.direct.Children("/")
		nodes = children
		return errors.Join(syncErr, err) == nil
	})
	return slices.DeleteFunc(nodes, func(node string) bool { return !strings.HasPrefix(node, fencedPrefix) })
}

// forgetFencedWrites lets the next be judged alone.
func (a *arena) forgetFencedWrites(t *testing.T) {
	t.Helper()
	for some := range slices.Chunk(a.fencedNodes(t), 500) {
		var ops []any
		for _, node := range some {
			ops = append(ops, &zk.DeleteRequest{Path: "/" + node, Version: -1})
		}
		must(a.direct.Multi(ops...))(t)
	}
}

// metFence is how many writes of a candidate were refused because their term was over.
func (a *arena) metFence(t *testing.T, c *wrapped) int {
	t.Helper()
	return strings.Count(a.said(t, c), metFence)
}
