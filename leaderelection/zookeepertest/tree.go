package zookeepertest

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quorate/quorate/leaderelection/zookeeper"
)

// Tree is an ensemble's data and sessions.
type Tree struct {
	timeout atomic.Int64 // that a connection is granted

	mu      sync.Mutex // guards below
	zxid    int64
	nodes   map[string]node
	clients map[int64]*Client // sessions that live
	opened  int64
	writes  int
	reads   int
}

type node struct {
	data     []byte
	stat     zookeeper.Stat
	cversion int32
}

// NewTree returns an empty ensemble that grants the session timeout.
func NewTree(timeout time.Duration) *Tree {
	t := &Tree{nodes: map[string]node{"/": {}}, clients: map[int64]*Client{}}
	t.Grant(timeout)
	return t
}

// Grant another session timeout from now on: to new sessions, and to others when they
// next take a connection.
func (t *Tree) Grant(timeout time.Duration) { t.timeout.Store(int64(timeout)) }

func (t *Tree) granted() time.Duration { return time.Duration(t.timeout.Load()) }

// Writes that were committed so far; a multi is one.
func (t *Tree) Writes() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.writes
}

// Reads that were answered so far.
func (t *Tree) Reads() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.reads
}

// Paths of all nodes, in order.
func (t *Tree) Paths() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Sorted(maps.Keys(t.nodes))
}

// Do makes a multi as an administrator, of no session.
func (t *Tree) Do(ops ...zookeeper.Op) ([]zookeeper.Result, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.commit(0, ops)
}

// Get a node as an administrator.
func (t *Tree) Get(path string) ([]byte, zookeeper.Stat, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return read(t.nodes, path)
}

// Wipe loses all data, as an ensemble does that comes back empty: sessions end,
// and zxids begin again.
func (t *Tree) Wipe() {
	t.mu.Lock()
	clients := slices.Collect(maps.Values(t.clients))
	t.nodes, t.clients, t.zxid = map[string]node{"/": {}}, map[int64]*Client{}, 0
	t.mu.Unlock()
	for _, c := range clients {
		c.finish(fmt.Errorf("%w: expired", zookeeper.ErrEnded))
	}
}

func read(nodes map[string]node, path string) ([]byte, zookeeper.Stat, error) {
	n, ok := nodes[path]
	if !ok {
		return nil, zookeeper.Stat{}, fmt.Errorf("get %s: %w", path, zookeeper.ErrNoNode)
	}
	return n.data, n.stat, nil
}

func children(nodes map[string]node, of string) []string {
	var out []string
	for p := range nodes {
		if p != "/" && path.Dir(p) == of {
			out = append(out, path.Base(p))
		}
	}
	slices.Sort(out)
	return out
}

// commit a multi: on a copy, which takes the tree's place if all of it went well.
func (t *Tree) commit(session int64, ops []zookeeper.Op) ([]zookeeper.Result, error) {
	tx := &transaction{session: session, zxid: t.zxid + 1, nodes: maps.Clone(t.nodes)}
	results := make([]zookeeper.Result, len(ops))
	for i, op := range ops {
		if err := tx.apply(op, &results[i]); err != nil {
			results = make([]zookeeper.Result, len(ops))
			results[i].Err = err
			return results, fmt.Errorf("write: %w", err)
		}
	}
	t.zxid, t.nodes = tx.zxid, tx.nodes
	t.writes++
	for _, c := range t.clients {
		c.notify(tx.touched)
	}
	return results, nil
}

type transaction struct {
	session int64
	zxid    int64
	nodes   map[string]node
	touched []string
}

func (tx *transaction) apply(op zookeeper.Op, r *zookeeper.Result) error {
	switch op := op.(type) {
	case *zookeeper.Check:
		_, err := tx.at(op.Path, op.Version)
		return err
	case *zookeeper.Set:
		n, err := tx.at(op.Path, op.Version)
		if err != nil {
			return err
		}
		n.data = op.Data
		n.stat.Version++
		n.stat.Mzxid = tx.zxid
		r.Stat = n.stat
		tx.put(op.Path, n)
	case *zookeeper.Delete:
		if _, err := tx.at(op.Path, op.Version); err != nil {
			return err
		}
		if len(children(tx.nodes, op.Path)) > 0 {
			return zookeeper.ErrNotEmpty
		}
		delete(tx.nodes, op.Path)
		tx.touched = append(tx.touched, op.Path)
	case *zookeeper.Create:
		return tx.create(op, r)
	}
	return nil
}

func (tx *transaction) create(op *zookeeper.Create, r *zookeeper.Result) error {
	dir := path.Dir(op.Path)
	parent, ok := tx.nodes[dir]
	if !ok {
		return zookeeper.ErrNoNode
	}
	p := op.Path
	if op.Sequential {
		p += fmt.Sprintf("%010d", parent.cversion)
	}
	if _, ok := tx.nodes[p]; ok {
		return zookeeper.ErrNodeExists
	}
	parent.cversion++
	tx.nodes[dir] = parent
	n := node{data: op.Data, stat: zookeeper.Stat{
		Czxid: tx.zxid, Mzxid: tx.zxid, Ctime: time.Now().UnixMilli(), Mtime: time.Now().UnixMilli(),
	}}
	if op.Ephemeral {
		n.stat.EphemeralOwner = tx.session
	}
	r.Path = p
	tx.put(p, n)
	return nil
}

func (tx *transaction) at(path string, version int32) (node, error) {
	n, ok := tx.nodes[path]
	if !ok {
		return node{}, zookeeper.ErrNoNode
	}
	if version != zookeeper.AnyVersion && version != n.stat.Version {
		return node{}, zookeeper.ErrBadVersion
	}
	return n, nil
}

func (tx *transaction) put(path string, n node) {
	tx.nodes[path] = n
	tx.touched = append(tx.touched, path)
}

// expire a session: its ephemeral nodes are deleted in one transaction.
func (t *Tree) expire(session int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.clients[session] == nil {
		return
	}
	delete(t.clients, session)
	var ops []zookeeper.Op
	for p, n := range t.nodes {
		if n.stat.EphemeralOwner == session && !strings.HasSuffix(p, "/") {
			ops = append(ops, &zookeeper.Delete{Path: p, Version: zookeeper.AnyVersion})
		}
	}
	if len(ops) == 0 {
		return
	}
	if _, err := t.commit(0, ops); err != nil {
		panic(fmt.Sprintf("zookeepertest: ephemeral nodes have no children: %v", err))
	}
}
