package leaderelection_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"github.com/quorate/quorate/leaderelection"
	"github.com/quorate/quorate/leaderelection/zookeeper"
	"github.com/quorate/quorate/leaderelection/zookeepertest"
)

// got is what a Get in another goroutine returned.
type got struct {
	record *resourcelock.LeaderElectionRecord
	err    error
	at     time.Time
}

func get(ctx context.Context, l *leaderelection.Lock) <-chan got {
	out := make(chan got, 1)
	go func() {
		r, _, err := l.Get(ctx)
		out <- got{r, err, time.Now()}
	}()
	return out
}

func waiting(t *testing.T, c <-chan got, who string) {
	t.Helper()
	synctest.Wait()
	select {
	case g := <-c:
		t.Errorf("%s came back with %+v, %v", who, g.record, g.err)
	default:
	}
}

// first Get of a standby, which tells the holder at once.
func standBy(t *testing.T, l *leaderelection.Lock) {
	t.Helper()
	begin := time.Now()
	r, _, err := l.Get(t.Context())
	if err != nil || r.HolderIdentity == "" {
		t.Fatalf("first Get beside a leader: %+v, %v", r, err)
	}
	if took := time.Since(begin); took > 0 {
		t.Errorf("first Get blocked for %v", took)
	}
}

// Get blocks while another leads, and only without a deadline; its raw record keeps
// changing, so that an elector does not take the lock for abandoned.
func TestGetBlocksOnlyWithoutDeadline(t *testing.T) {
	bubble(t, func(t *testing.T, tree *zookeepertest.Tree) {
		leader, l := lockOf(t, join(t, tree, newHistory(), "a")), lockOf(t, join(t, tree, newHistory(), "b"))
		acquire(t, leader)
		standBy(t, l)
		c := get(t.Context(), l)
		waiting(t, c, "a standby")
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		other := lockOf(t, join(t, tree, newHistory(), "c"))
		_, first, err := other.Get(ctx)
		_, second, err2 := other.Get(ctx)
		if err = errors.Join(err, err2); err != nil || string(first) == string(second) {
			t.Errorf("raw record is twice %q, err %v", first, err)
		}
		if err := release(t.Context(), leader); err != nil {
			t.Fatal(err)
		}
		freed := time.Now()
		if g := <-c; g.err != nil || g.record.HolderIdentity != "" || g.at.Sub(freed) > 0 {
			t.Errorf("after the release: %+v, %v, %v late", g.record, g.err, g.at.Sub(freed))
		}
	})
}

// Standbys lead in the order in which they came.
func TestStandbysAreOrdered(t *testing.T) {
	bubble(t, func(t *testing.T, tree *zookeepertest.Tree) {
		leader := lockOf(t, join(t, tree, newHistory(), "a"))
		acquire(t, leader)
		var ls []*leaderelection.Lock
		var cs []<-chan got
		for i := range 4 {
			l := lockOf(t, join(t, tree, newHistory(), fmt.Sprint("s", i)))
			standBy(t, l)
			cs = append(cs, get(t.Context(), l))
			ls = append(ls, l)
			synctest.Wait()
		}
		for i, c := range cs {
			if err := release(t.Context(), leader); err != nil {
				t.Fatal(err)
			}
			g := <-c
			if g.err != nil || g.record.HolderIdentity != "" {
				t.Fatalf("standby %d: %+v, %v", i, g.record, g.err)
			}
			for j := i + 1; j < len(cs); j++ {
				waiting(t, cs[j], fmt.Sprint("standby ", j))
			}
			if err := ls[i].Update(t.Context(), recordOf(ls[i])); err != nil {
				t.Fatal(err)
			}
			leader = ls[i]
			for j := i + 1; j < len(cs); j++ { // the change of the holder is told, and they come again
				if g := <-cs[j]; g.err != nil || g.record.HolderIdentity != leader.Identity() {
					t.Fatalf("standby %d was told %+v, %v", j, g.record, g.err)
				}
				cs[j] = get(t.Context(), ls[j])
			}
			synctest.Wait()
		}
	})
}

// The end of an owner wakes one standby, however many there are.
func TestOwnersEndWakesOne(t *testing.T) {
	reads := func(t *testing.T, standbys int) (n int) {
		bubble(t, func(t *testing.T, tree *zookeepertest.Tree) {
			owner := join(t, tree, newHistory(), "a")
			acquire(t, lockOf(t, owner))
			var cs []<-chan got
			for i := range standbys {
				l := lockOf(t, join(t, tree, newHistory(), fmt.Sprint("s", i)))
				standBy(t, l)
				cs = append(cs, get(t.Context(), l))
				synctest.Wait()
			}
			before := tree.Reads()
			owner.client().Expire()
			<-cs[0]
			synctest.Wait()
			n = tree.Reads() - before
			for _, c := range cs[1:] {
				waiting(t, c, "a standby that is not the next")
			}
		})
		return n
	}
	few, many := reads(t, 2), reads(t, 20)
	if many > few {
		t.Errorf("the owner's end cost %d reads with 2 standbys, and %d with 20", few, many)
	}
}

// From the owner's end to the next leader it is three round trips: that there is no
// owner, what the record says, and the acquire. Each of them is a part of the hand-over.
func TestHandOverTakesThreeRoundTrips(t *testing.T) {
	for name, leave := range map[string]func(t *testing.T, p *process, l *leaderelection.Lock){
		"released": func(t *testing.T, _ *process, l *leaderelection.Lock) {
			if err := release(t.Context(), l); err != nil {
				t.Error(err)
			}
		},
		"expired": func(_ *testing.T, p *process, _ *leaderelection.Lock) { p.client().Expire() },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, tree *zookeepertest.Tree) {
				owner, next := join(t, tree, newHistory(), "a"), join(t, tree, newHistory(), "b")
				cfg := owner.config()
				cfg.StopsFirst = true
				leader, err := leaderelection.New(cfg)
				if err != nil {
					t.Fatal(err)
				}
				acquire(t, leader)
				l := lockOf(t, next)
				standBy(t, l)
				c := get(t.Context(), l)
				synctest.Wait()
				var mu sync.Mutex // guards calls
				var calls []string
				next.client().Inject(func(ops []zookeeper.Op) zookeepertest.Fault {
					mu.Lock()
					defer mu.Unlock()
					calls = append(calls, map[bool]string{true: "read", false: "write"}[ops == nil])
					return zookeepertest.None
				})
				leave(t, owner, leader)
				if g := <-c; g.err != nil || g.record.HolderIdentity != "" {
					t.Fatalf("standby was told %+v, %v", g.record, g.err)
				}
				if err := l.Update(t.Context(), recordOf(l)); err != nil {
					t.Fatal(err)
				}
				mu.Lock()
				defer mu.Unlock()
				calls = calls[:slices.Index(calls, "write")+1] // after it the term looks at its nodes
				if want := []string{"read", "read", "write"}; !slices.Equal(calls, want) {
					t.Errorf("calls of the next leader: got %v, want %v", calls, want)
				}
			})
		})
	}
}

// A candidate that went away between two Gets does not block those behind it.
func TestAbandonedPlaceIsGivenUp(t *testing.T) {
	bubble(t, func(t *testing.T, tree *zookeepertest.Tree) {
		leader := lockOf(t, join(t, tree, newHistory(), "a"))
		gone, next := lockOf(t, join(t, tree, newHistory(), "b")), lockOf(t, join(t, tree, newHistory(), "c"))
		acquire(t, leader)
		standBy(t, gone) // and never comes again
		standBy(t, next)
		c := get(t.Context(), next)
		synctest.Wait()
		if err := release(t.Context(), leader); err != nil {
			t.Fatal(err)
		}
		freed := time.Now()
		if g := <-c; g.err != nil || g.record.HolderIdentity != "" || g.at.Sub(freed) > 10*time.Millisecond {
			t.Errorf("the next: %+v, %v, after %v", g.record, g.err, g.at.Sub(freed))
		}
	})
}

// P8: a candidate that gave up while its place was being made has none, however late it
// turns out that it was made: in a session that goes on it would block the election.
func TestPlaceOfUnknownOutcomeIsGivenUp(t *testing.T) {
	bubble(t, func(t *testing.T, tree *zookeepertest.Tree) {
		leader := lockOf(t, join(t, tree, newHistory(), "a"))
		acquire(t, leader)
		p := join(t, tree, newHistory(), "b")
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		p.client().Inject(func(ops []zookeeper.Op) zookeepertest.Fault {
			if queues(ops) || ctx.Err() != nil {
				return zookeepertest.HangAfter
			}
			return zookeepertest.None
		})
		c := get(ctx, lockOf(t, p))
		waiting(t, c, "a candidate without an answer")
		if got := nodes(tree, "queue-"); len(got) != 1 {
			t.Fatalf("queue: %v, want a place that its owner does not know of", got)
		}
		cancel()
		<-c
		pass(time.Second) // in which nobody answers
		p.client().Inject(nil)
		await(t, timeout, "an empty queue", func() bool { return len(nodes(tree, "queue-")) == 0 })
		if err := release(t.Context(), leader); err != nil {
			t.Fatal(err)
		}
		acquire(t, lockOf(t, join(t, tree, newHistory(), "c")))
	})
}

// queues is whether a write makes a place in the queue.
func queues(ops []zookeeper.Op) bool {
	return slices.ContainsFunc(ops, func(op zookeeper.Op) bool { return makes(op, "/queue-") })
}

// A place is kept between two Gets, for a lease duration.
func TestPlaceIsKeptForALeaseDuration(t *testing.T) {
	bubble(t, func(t *testing.T, tree *zookeepertest.Tree) {
		leader, l := lockOf(t, join(t, tree, newHistory(), "a")), lockOf(t, join(t, tree, newHistory(), "b"))
		acquire(t, leader)
		standBy(t, l)
		for range 10 {
			pass(time.Second)
			if err := leader.Update(t.Context(), recordOf(leader)); err != nil {
				t.Fatal(err)
			}
		}
		if got := nodes(tree, "queue-"); len(got) != 1 {
			t.Fatalf("queue after 10 s without a Get: %v", got)
		}
		pass(6 * time.Second)
		if got := nodes(tree, "queue-"); len(got) != 0 {
			t.Errorf("queue after 16 s without a Get: %v", got)
		}
	})
}

// A candidate that was told that the lock is free, and does not take it, is passed
// over.
func TestOfferIsNotKeptForLong(t *testing.T) {
	bubble(t, func(t *testing.T, tree *zookeepertest.Tree) {
		leader := lockOf(t, join(t, tree, newHistory(), "a"))
		dawdler, next := lockOf(t, join(t, tree, newHistory(), "b")), lockOf(t, join(t, tree, newHistory(), "c"))
		acquire(t, leader)
		standBy(t, dawdler)
		standBy(t, next)
		c, d := get(t.Context(), dawdler), get(t.Context(), next)
		synctest.Wait()
		if err := release(t.Context(), leader); err != nil {
			t.Fatal(err)
		}
		told := <-c
		if g := <-d; g.err != nil || g.record.HolderIdentity != "" || g.at.Sub(told.at) > 1100*time.Millisecond {
			t.Errorf("the next: %+v, %v, after %v", g.record, g.err, g.at.Sub(told.at))
		}
	})
}

// Who leads, and who is next, is there for all to read.
func TestElections(t *testing.T) {
	bubble(t, func(t *testing.T, tree *zookeepertest.Tree) {
		a, b := join(t, tree, newHistory(), "a"), join(t, tree, newHistory(), "b")
		la, lb := lockOf(t, a), lockOf(t, b)
		token := acquire(t, la)
		standBy(t, lb)
		all, err := b.session.Elections(t.Context(), "")
		if err != nil || len(all) != 1 {
			t.Fatalf("elections: %+v, %v", all, err)
		}
		e := all[0]
		if e.Namespace != "ns" || e.Name != "x" || e.Holder != la.Identity() || e.Token != token || !e.Since.Equal(time.Now()) {
			t.Errorf("election: %+v", e)
		}
		if len(e.Standbys) != 1 || e.Standbys[0] != lb.Identity() {
			t.Errorf("standbys: %v, want %v", e.Standbys, lb.Identity())
		}
	})
}
