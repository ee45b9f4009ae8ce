package leaderelection

import (
	"context"
	"errors"
	"fmt"
	"path"
	"sync"
	"time"

	"github.com/google/uuid"
	"k8s.io/klog/v2"

	"github.com/quorate/quorate/leaderelection/zookeeper"
)

// life is one ZooKeeper session of a Session: what proves it, and what was won in
// it. Terms never outlive their life.
type life struct {
	Conn            // for all but the proofs
	direct   Conn   // for these
	node     string // where the proofs are written
	tick     time.Duration
	interval time.Duration
	log      klog.Logger
	metrics  *metrics

	// ctx ends with the session.
	ctx        context.Context
	cancel     context.CancelCauseFunc
	goroutines sync.WaitGroup

	mu     sync.Mutex // guards below
	ledger ledger
	newest time.Time     // sending time of the newest proof
	took   time.Duration // until it was answered
	proven chan struct{} // closed when deadline next moves
	terms  map[*Term]struct{}
	claims map[string]struct{} // of terms and attempts under way: all that is ours
	ending bool
}

// newLife opens the session that conn is, asked for at opened: it makes the nodes
// that everything else needs.
func newLife(ctx context.Context, conn Conn, opened time.Time, cfg *SessionConfig, m *metrics) (*life, error) {
	li := &life{
		Conn: newOrderly(conn), direct: conn, node: path.Join(sessionsOf(cfg.Root), uuid.NewString()), tick: cfg.Tick, interval: cfg.RenewInterval,
		log: klog.FromContext(ctx), metrics: m,
		ledger: newLedger(opened, conn.Timeout(), cfg.Tick), newest: opened, proven: make(chan struct{}),
		terms: map[*Term]struct{}{}, claims: map[string]struct{}{},
	}
	for _, dir := range []string{sessionsOf(cfg.Root), electionsOf(cfg.Root)} {
		if err := makeDirs(ctx, conn, dir); err != nil {
			return nil, err
		}
	}
	if err := makeNode(ctx, conn, &zookeeper.Create{Path: li.node, Ephemeral: true}); err != nil {
		return nil, err
	}
	li.ctx, li.cancel = context.WithCancelCause(klog.NewContext(context.Background(), li.log))
	return li, nil
}

// makeDirs makes a node and those above it.
func makeDirs(ctx context.Context, conn Conn, dir string) error {
	err := makeNode(ctx, conn, &zookeeper.Create{Path: dir})
	if errors.Is(err, zookeeper.ErrNoNode) && path.Dir(dir) != dir {
		if err := makeDirs(ctx, conn, path.Dir(dir)); err != nil {
			return err
		}
		err = makeNode(ctx, conn, &zookeeper.Create{Path: dir})
	}
	return err
}

// makeNode makes a node that may be there, and repeats what is unsure.
func makeNode(ctx context.Context, conn Conn, node *zookeeper.Create) error {
	for {
		_, err := conn.Multi(ctx, node)
		switch {
		case err == nil || errors.Is(err, zookeeper.ErrNodeExists):
			return nil
		case errors.Is(err, zookeeper.ErrNoAuth):
			return fmt.Errorf("%w: the session may not create it", err)
		case !retriable(err) || !pause(ctx, conn):
			return err
		}
	}
}

// retriable errors are those of the way to the server, not its answers.
func retriable(err error) bool {
	return (errors.Is(err, zookeeper.ErrUnsure) || errors.Is(err, zookeeper.ErrNoServer)) && !errors.Is(err, zookeeper.ErrEnded)
}

// pause before a retry; false if ctx or the session has ended.
func pause(ctx context.Context, conn Conn) bool {
	timer := time.NewTimer(50 * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	case <-conn.Ended():
		return false
	}
}

// spawn starts a goroutine that end waits for; false if the life is ending.
func (li *life) spawn(f func()) bool {
	li.mu.Lock()
	defer li.mu.Unlock()
	if !li.ending {
		li.goroutines.Go(f)
	}
	return !li.ending
}

// end closes what is left, when the session is over or to be ended.
func (li *life) end(ctx context.Context, why error) error {
	li.mu.Lock()
	li.ending = true
	li.mu.Unlock()
	li.cancel(why)
	err := li.Close(ctx)
	li.goroutines.Wait()
	return err
}

func (li *life) claim(guid string) {
	li.mu.Lock()
	defer li.mu.Unlock()
	li.claims[guid] = struct{}{}
}

func (li *life) disclaim(guid string) {
	li.mu.Lock()
	defer li.mu.Unlock()
	delete(li.claims, guid)
}

func (li *life) claimed(guid string) bool {
	li.mu.Lock()
	defer li.mu.Unlock()
	_, ok := li.claims[guid]
	return ok
}
