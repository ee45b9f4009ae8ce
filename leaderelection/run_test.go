package leaderelection_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/quorate/quorate/leaderelection"
	"github.com/quorate/quorate/leaderelection/zookeeper"
	"github.com/quorate/quorate/leaderelection/zookeepertest"
)

// Loss cancels the work at once: not at the next renewal, not after a deadline (D2).
func TestRunCancelsAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T, tree *zookeepertest.Tree) {
		p := join(t, tree, newHistory(), "a")
		var lost, cancelled time.Time
		err := leaderelection.Run(t.Context(), p.config(), leaderelection.Callbacks{OnStartedLeading: func(ctx context.Context) {
			pass(10 * time.Second)
			lost = time.Now()
			if _, err := tree.Do(&zookeeper.Delete{Path: election1 + "/owner", Version: zookeeper.AnyVersion}); err != nil {
				t.Error(err)
			}
			<-ctx.Done()
			cancelled = time.Now()
			if !errors.Is(context.Cause(ctx), leaderelection.ErrOwnerGone) {
				t.Errorf("cause: %v", context.Cause(ctx))
			}
		}})
		if !errors.Is(err, leaderelection.ErrOwnerGone) {
			t.Errorf("Run returned %v, want %v", err, leaderelection.ErrOwnerGone)
		}
		if took := cancelled.Sub(lost); took > 0 {
			t.Errorf("work was cancelled %v after the loss", took)
		}
	})
}

// The lock is released when the work has returned, and never before: work that does
// not stop keeps it.
func TestRunReleasesAfterTheWork(t *testing.T) {
	bubble(t, func(t *testing.T, tree *zookeepertest.Tree) {
		p := join(t, tree, newHistory(), "a")
		ctx, cancel := context.WithCancel(t.Context())
		var order []string
		err := leaderelection.Run(ctx, p.config(), leaderelection.Callbacks{
			OnStartedLeading: func(ctx context.Context) {
				cancel()
				<-ctx.Done()
				pass(10 * time.Minute) // far more than it may
				if got := nodes(tree, "owner"); len(got) != 1 {
					t.Error("the lock was released while the work went on")
				}
				order = append(order, "returned")
			},
			OnStoppedLeading: func() {
				if got := nodes(tree, "owner"); len(got) != 0 {
					t.Error("OnStoppedLeading before the release")
				}
				order = append(order, "stopped")
			},
		})
		if err != nil || strings.Join(order, " ") != "returned stopped" {
			t.Errorf("Run returned %v; %v", err, order)
		}
	})
}

// Work that ends by itself gives the lock back at once.
func TestRunEndsWithTheWork(t *testing.T) {
	bubble(t, func(t *testing.T, tree *zookeepertest.Tree) {
		p := join(t, tree, newHistory(), "a")
		begin := time.Now()
		err := leaderelection.Run(t.Context(), p.config(), leaderelection.Callbacks{OnStartedLeading: func(context.Context) {}})
		if took := time.Since(begin); err != nil || took > 0 || len(nodes(tree, "owner")) != 0 {
			t.Errorf("Run returned %v after %v; owners %v", err, took, nodes(tree, "owner"))
		}
	})
}

// However soon one leader follows another, the next is awake: nobody sleeps for a
// retry period after a change of the holder. Each is told of every leader, in order.
func TestRunNeverSleepsInLine(t *testing.T) {
	bubble(t, func(t *testing.T, tree *zookeepertest.Tree) {
		var wg sync.WaitGroup
		var told, ended []string
		var since time.Time
		for _, name := range []string{"a", "b", "c", "d"} {
			p := join(t, tree, newHistory(), name)
			wg.Go(func() {
				err := leaderelection.Run(t.Context(), p.config(), leaderelection.Callbacks{
					OnStartedLeading: func(context.Context) {
						if name == "a" {
							pass(time.Minute)
							since = time.Now()
						}
						if took := time.Since(since); took > 0 {
							t.Errorf("%s led %v after a stopped, though all that led between did so for no time", name, took)
						}
						ended = append(ended, name)
					},
					OnNewLeader: func(identity string) {
						if name == "d" {
							told = append(told, identity[:1])
						}
					},
				})
				if err != nil {
					t.Error(err)
				}
			})
			pass(time.Second) // in line behind those before it
		}
		wg.Wait()
		if got := strings.Join(ended, ""); got != "abcd" {
			t.Errorf("led in the order %s, want abcd", got)
		}
		if got := strings.Join(told, ""); got[0] != 'a' || got[len(got)-1] != 'd' || !slices.IsSorted(told) {
			t.Errorf("the last was told of leaders %s, want from a to itself, in order", got)
		}
	})
}

// An acquire needs a session that is proven well enough to lead for a while.
func TestAcquireWaitsForAProof(t *testing.T) {
	bubble(t, func(t *testing.T, tree *zookeepertest.Tree) {
		p := join(t, tree, newHistory(), "a")
		l := lockOf(t, p)
		p.client().Inject(func(ops []zookeeper.Op) zookeepertest.Fault {
			if len(ops) == 1 {
				if _, ok := ops[0].(*zookeeper.Set); ok {
					return zookeepertest.LostBefore // no proof comes through
				}
			}
			return zookeepertest.None
		})
		pass(20 * time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		won := make(chan error, 1)
		go func() { won <- l.Create(ctx, recordOf(l)) }()
		pass(2 * time.Second)
		synctest.Wait()
		if got := nodes(tree, "owner"); len(got) != 0 {
			t.Error("acquired though the session was last proven 20 s ago")
		}
		p.client().Inject(nil)
		if err := <-won; err != nil || l.Term().Valid() != nil {
			t.Errorf("after a proof: %v, term %v", err, l.Term())
		}
	})
}

// An acquire whose answer came when the session was not proven any more leads nobody on.
func TestAcquirePastTheDeadline(t *testing.T) {
	bubble(t, func(t *testing.T, tree *zookeepertest.Tree) {
		p := join(t, tree, newHistory(), "a")
		l := lockOf(t, p)
		begin := time.Now()
		p.client().Inject(func(ops []zookeeper.Op) zookeepertest.Fault {
			proof := len(ops) == 1 && !makes(ops[0], "/")
			if proof || (len(ops) > 3 && time.Since(begin) < timeout-5*time.Second) {
				return zookeepertest.LostBefore
			}
			return zookeepertest.None
		})
		if _, _, err := l.Get(t.Context()); !apierrors.IsNotFound(err) {
			t.Fatal(err)
		}
		r := recordOf(l)
		r.LeaderTransitions = 7
		if err := l.Create(t.Context(), r); !errors.Is(err, leaderelection.ErrPastDeadline) {
			t.Errorf("acquire: got %v, want %v", err, leaderelection.ErrPastDeadline)
		}
		await(t, 2*tick, "the owner, which was made too late, to be given back", func() bool { return len(nodes(tree, "owner")) == 0 })
		if r, _, err := l.Get(t.Context()); err != nil || r.LeaderTransitions != 7 {
			t.Errorf("record that was given back: got %+v, %v, want 7 transitions", r, err)
		}
	})
}

// Nor does Run wait for work that never began.
func TestRunEndsAfterALateAcquire(t *testing.T) {
	bubble(t, func(t *testing.T, tree *zookeepertest.Tree) {
		p := join(t, tree, newHistory(), "a")
		begin, late := time.Now(), make(chan struct{}, 10)
		p.client().Inject(func(ops []zookeeper.Op) zookeepertest.Fault {
			proof := len(ops) == 1 && !makes(ops[0], "/")
			if proof || (len(ops) > 3 && time.Since(begin) < timeout-tick-stopTime/2) {
				return zookeepertest.LostBefore
			}
			if len(ops) > 3 {
				late <- struct{}{}
			}
			return zookeepertest.None
		})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- p.run(ctx) }()
		<-late
		pass(time.Second)
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("Run without a term: got %v, want nil", err)
			}
		case <-time.After(time.Minute):
			t.Error("Run did not end")
		}
	})
}

// A leader whose owner node was deleted, and that does not know it, writes nothing any
// more once another leads: its claim is there still.
func TestFenceOfADeletedOwner(t *testing.T) {
	bubble(t, func(t *testing.T, tree *zookeepertest.Tree) {
		h := newHistory()
		first, second := join(t, tree, h, "a"), join(t, tree, h, "b")
		old, next := lockOf(t, first), lockOf(t, second)
		acquire(t, old)
		term := old.Term()
		first.client().Cut()
		for _, owner := range nodes(tree, "owner") {
			if _, err := tree.Do(&zookeeper.Delete{Path: owner, Version: zookeeper.AnyVersion}); err != nil {
				t.Fatal(err)
			}
		}
		acquire(t, next)
		if len(nodes(tree, "claim-")) != 2 {
			t.Fatalf("got the claims %v, want both", nodes(tree, "claim-"))
		}
		if _, err := tree.Do(append(term.Fence(), &zookeeper.Create{Path: "/late"})...); err == nil {
			t.Error("the former leader wrote under its fence while another leads")
		}
		if _, err := tree.Do(append(next.Term().Fence(), &zookeeper.Create{Path: "/work"})...); err != nil {
			t.Errorf("the leader's write: %v", err)
		}
	})
}

// What is written after the loss is refused, by ZooKeeper and by the client.
func TestFences(t *testing.T) {
	bubble(t, func(t *testing.T, tree *zookeepertest.Tree) {
		p := join(t, tree, newHistory(), "a")
		l := lockOf(t, p)
		acquire(t, l)
		term := l.Term()
		sent := 0
		client := &http.Client{Transport: &leaderelection.FencedTransport{Term: term, Reads: true, Base: roundTrip(func(*http.Request) (*http.Response, error) {
			sent++
			return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
		})}}
		write := func() error {
			_, err := tree.Do(append(term.Fence(), &zookeeper.Create{Path: "/work"})...)
			if err == nil {
				_, err = tree.Do(&zookeeper.Delete{Path: "/work", Version: zookeeper.AnyVersion})
			}
			return err
		}
		post := func(method string) error {
			req, err := http.NewRequestWithContext(t.Context(), method, "http://x/y", nil)
			if err != nil {
				t.Fatal(err)
			}
			res, err := client.Do(req)
			if err == nil {
				err = res.Body.Close()
			}
			return err
		}
		if err := errors.Join(write(), post(http.MethodPost)); err != nil {
			t.Fatalf("leader's writes: %v", err)
		}
		if err := release(t.Context(), l); err != nil {
			t.Fatal(err)
		}
		if err := write(); !errors.Is(err, zookeeper.ErrNoNode) {
			t.Errorf("fenced write to ZooKeeper after the term: %v", err)
		}
		if err := post(http.MethodPost); !errors.Is(err, leaderelection.ErrReleased) || sent != 1 {
			t.Errorf("fenced request after the term: %v, %d sent", err, sent)
		}
		if err := post(http.MethodGet); err != nil {
			t.Errorf("read after the term: %v", err)
		}
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
