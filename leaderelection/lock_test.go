package leaderelection_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"github.com/quorate/quorate/leaderelection"
	"github.com/quorate/quorate/leaderelection/zookeeper"
	"github.com/quorate/quorate/leaderelection/zookeepertest"
)

const election1 = "/quorate/elections/ns/x"

func bubble(t *testing.T, do func(t *testing.T, tree *zookeepertest.Tree)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { do(t, zookeepertest.NewTree(timeout)) })
}

func lockOf(t *testing.T, p *process) *leaderelection.Lock {
	t.Helper()
	l, err := leaderelection.New(p.config())
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func recordOf(l *leaderelection.Lock) resourcelock.LeaderElectionRecord {
	return resourcelock.LeaderElectionRecord{HolderIdentity: l.Identity(), LeaseDurationSeconds: 15}
}

// acquire as a LeaderElector does, and return the token.
func acquire(t *testing.T, l *leaderelection.Lock) int64 {
	t.Helper()
	if err := tryAcquire(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	return l.Term().Token()
}

func tryAcquire(ctx context.Context, l *leaderelection.Lock) error {
	r, _, err := l.Get(ctx)
	switch {
	case apierrors.IsNotFound(err):
		return l.Create(ctx, recordOf(l))
	case err != nil:
		return err
	case r.HolderIdentity != "":
		return fmt.Errorf("held by %s", r.HolderIdentity)
	}
	return l.Update(ctx, recordOf(l))
}

func release(ctx context.Context, l *leaderelection.Lock) error {
	return l.Update(ctx, resourcelock.LeaderElectionRecord{LeaseDurationSeconds: 1})
}

func nodes(tree *zookeepertest.Tree, kind string) (out []string) {
	for _, p := range tree.Paths() {
		if strings.HasPrefix(p, election1+"/"+kind) {
			out = append(out, p)
		}
	}
	return out
}

// The answer to an acquire is lost, before or after it was made: the same is asked
// again, and one owner is left.
func TestAcquireOfUnknownOutcome(t *testing.T) {
	for name, fault := range map[string]zookeepertest.Fault{"before": zookeepertest.LostBefore, "after": zookeepertest.LostAfter, "hangs": zookeepertest.HangAfter} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, tree *zookeepertest.Tree) {
				p := join(t, tree, newHistory(), "a")
				l := lockOf(t, p)
				lost := 0
				p.client().Inject(func(ops []zookeeper.Op) zookeepertest.Fault {
					if len(ops) > 3 && lost < 3 {
						lost++
						return fault
					}
					return zookeepertest.None
				})
				token := acquire(t, l)
				_, owner, err := tree.Get(election1 + "/owner")
				if err != nil || owner.Czxid != token {
					t.Errorf("token is %d, the owner's czxid %d (%v)", token, owner.Czxid, err)
				}
				if got := nodes(tree, "claim-"); len(got) != 1 {
					t.Errorf("claims left: %v", got)
				}
				pass(10 * time.Minute)
				for range 3 { // an elector that renews
					if err := l.Update(t.Context(), recordOf(l)); err == nil {
						t.Fatal("a renewal after ten silent minutes succeeded")
					}
				}
			})
		})
	}
}

// Candidates of one process share its session. What one of them made, and an administrator
// deleted, it does not find again in what another has made since.
func TestAcquireOfUnknownOutcomeBesideAnother(t *testing.T) {
	bubble(t, func(t *testing.T, tree *zookeepertest.Tree) {
		p := join(t, tree, newHistory(), "a")
		la, lb := lockOf(t, p), lockOf(t, p)
		lost := false
		p.client().Inject(func(ops []zookeeper.Op) zookeepertest.Fault {
			if len(ops) > 3 && !lost {
				lost = true
				return zookeepertest.LostAfter
			}
			return zookeepertest.None
		})
		acquired := make(chan error, 1)
		go func() { acquired <- tryAcquire(t.Context(), la) }()
		synctest.Wait() // it pauses before it asks again
		remove(t, tree, election1+"/owner")
		token := acquire(t, lb)
		if err := <-acquired; err == nil || la.Term() != nil {
			t.Errorf("acquire whose owner was deleted: error %v, term %+v", err, la.Term())
		}
		if _, owner, err := tree.Get(election1 + "/owner"); err != nil || owner.Czxid != token {
			t.Errorf("owner: got %+v, %v, want that of token %d", owner, err, token)
		}
		if got := nodes(tree, "claim-"); len(got) != 1 {
			t.Errorf("claims left: %v", got)
		}
	})
}

// giveUp an acquire that lands, and whose answer hangs.
func giveUp(t *testing.T, p *process, l *leaderelection.Lock) {
	t.Helper()
	p.client().Inject(func(ops []zookeeper.Op) zookeepertest.Fault {
		if len(ops) > 3 {
			return zookeepertest.HangAfter
		}
		return zookeepertest.None
	})
	defer p.client().Inject(nil)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := tryAcquire(ctx, l); !errors.Is(err, leaderelection.ErrUnsure) {
		t.Errorf("acquire that was given up: %v, want %v", err, leaderelection.ErrUnsure)
	}
}

// An acquire whose caller gave up is given back: in a session that goes on nobody
// else would.
func TestAbandonedAcquireIsGivenBack(t *testing.T) {
	bubble(t, func(t *testing.T, tree *zookeepertest.Tree) {
		p := join(t, tree, newHistory(), "a")
		giveUp(t, p, lockOf(t, p))
		await(t, timeout, "no owner", func() bool { return len(nodes(tree, "owner"))+len(nodes(tree, "claim-")) == 0 })
		acquire(t, lockOf(t, join(t, tree, newHistory(), "b")))
	})
}

// An acquire that is found to have won when nobody waits for it any more takes nobody's
// place in the queue: its elector may have come again.
func TestAbandonedAcquireSparesThePlace(t *testing.T) {
	bubble(t, func(t *testing.T, tree *zookeepertest.Tree) {
		p := join(t, tree, newHistory(), "a")
		l := lockOf(t, p)
		giveUp(t, p, l)
		standBy(t, l)
		acquire(t, l) // once it is known how the first one ended
		if got := nodes(tree, "queue-"); len(got) != 0 {
			t.Errorf("queue: got %v, want nobody", got)
		}
		if err := release(t.Context(), l); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := tryAcquire(ctx, lockOf(t, join(t, tree, newHistory(), "b"))); err != nil {
			t.Errorf("acquire of the next: %v", err)
		}
	})
}

// Every call ends when its context does, whatever the server does.
func TestEveryCallEndsWithItsContext(t *testing.T) {
	faults := map[string]func(*zookeepertest.Client){
		"hung": (*zookeepertest.Client).Pause, "cut off": (*zookeepertest.Client).Cut, "without peers": (*zookeepertest.Client).Isolate,
	}
	calls := map[string]func(context.Context, *leaderelection.Lock) error{
		"get":     func(ctx context.Context, l *leaderelection.Lock) error { _, _, err := l.Get(ctx); return err },
		"create":  func(ctx context.Context, l *leaderelection.Lock) error { return l.Create(ctx, recordOf(l)) },
		"update":  func(ctx context.Context, l *leaderelection.Lock) error { return l.Update(ctx, recordOf(l)) },
		"release": release,
	}
	for fault, make := range faults {
		for call, do := range calls {
			for _, leads := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%s/leads=%v", fault, call, leads), func(t *testing.T) {
					bubble(t, func(t *testing.T, tree *zookeepertest.Tree) {
						p := join(t, tree, newHistory(), "a")
						l := lockOf(t, p)
						if _, _, err := l.Get(t.Context()); !apierrors.IsNotFound(err) {
							t.Fatal(err)
						}
						if leads {
							acquire(t, l)
						}
						make(p.client())
						ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
						defer cancel()
						begin := time.Now()
						err := do(ctx, l)
						if took := time.Since(begin); took > 3*time.Second {
							t.Errorf("took %v, err %v", took, err)
						}
					})
				})
			}
		}
	}
}

// Past the deadline every call fails at once, and the loss is told.
func TestPastTheDeadlineCallsFailAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T, tree *zookeepertest.Tree) {
		p := join(t, tree, newHistory(), "a")
		l := lockOf(t, p)
		acquire(t, l)
		term := l.Term()
		p.client().Isolate()
		begin := time.Now()
		for term.Valid() == nil {
			if err := l.Update(t.Context(), recordOf(l)); err != nil {
				t.Fatalf("renewal before the deadline: %v", err)
			}
			pass(100 * time.Millisecond)
		}
		// Opened at 0: what stopping takes, and a tick, before the session's end.
		if after := time.Since(begin); after > timeout-tick-14*time.Second+100*time.Millisecond {
			t.Errorf("calls went on being answered for %v", after)
		}
		<-term.Lost()
		now := time.Now()
		if err := l.Update(t.Context(), recordOf(l)); err == nil {
			t.Error("renewed past the deadline")
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if _, _, err := l.Get(ctx); err == nil {
			t.Error("read past the deadline")
		}
		if err := release(ctx, l); !errors.Is(err, leaderelection.ErrNotHolder) {
			t.Errorf("release past the deadline: %v", err)
		}
		if took := time.Since(now); took != 0 {
			t.Errorf("calls past the deadline took %v", took)
		}
	})
}

// After a loss nothing is acquired behind the elector's back.
func TestNoSilentSecondTerm(t *testing.T) {
	bubble(t, func(t *testing.T, tree *zookeepertest.Tree) {
		p := join(t, tree, newHistory(), "a")
		l := lockOf(t, p)
		first := acquire(t, l)
		lost := l.Lost()
		if _, err := tree.Do(&zookeeper.Delete{Path: election1 + "/owner", Version: zookeeper.AnyVersion}); err != nil {
			t.Fatal(err)
		}
		<-lost
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		for range 3 { // what renew does until its deadline
			if err := l.Update(ctx, recordOf(l)); !errors.Is(err, leaderelection.ErrTermOver) && !errors.Is(err, leaderelection.ErrNotHolder) {
				t.Errorf("update after the loss: %v", err)
			}
			if _, _, err := l.Get(ctx); !errors.Is(err, leaderelection.ErrTermOver) {
				t.Errorf("get after the loss: %v", err)
			}
			if err := l.Create(ctx, recordOf(l)); err == nil {
				t.Error("created after the loss")
			}
		}
		l.RecordEvent("stopped leading")
		if second := acquire(t, l); second <= first {
			t.Errorf("second term has token %d, the first %d", second, first)
		}
	})
}

// A release cannot take the lock from a successor, whatever an administrator did
// meanwhile; and it is never a Conflict.
func TestReleaseSparesTheSuccessor(t *testing.T) {
	bubble(t, func(t *testing.T, tree *zookeepertest.Tree) {
		a, b := join(t, tree, newHistory(), "a"), join(t, tree, newHistory(), "b")
		la, lb := lockOf(t, a), lockOf(t, b)
		acquire(t, la)
		a.client().Pause() // it does not see what follows
		if _, err := tree.Do(&zookeeper.Delete{Path: election1 + "/owner", Version: zookeeper.AnyVersion}); err != nil {
			t.Fatal(err)
		}
		token := acquire(t, lb)
		released := make(chan error, 1)
		go func() { released <- release(t.Context(), la) }()
		pass(stopTime)
		a.client().Heal()
		if err := <-released; apierrors.IsConflict(err) {
			t.Errorf("release is a Conflict: %v", err)
		}
		_, owner, err := tree.Get(election1 + "/owner")
		if err != nil || owner.Czxid != token {
			t.Errorf("the successor's owner is gone: %v", err)
		}
		if got := nodes(tree, "claim-"); len(got) != 1 {
			t.Errorf("claims: %v, want the successor's alone", got)
		}
	})
}

// D1: client-go reads the record anew, and then empties it without looking whose it
// is.
func TestReleaseByOthersIsRefused(t *testing.T) {
	bubble(t, func(t *testing.T, tree *zookeepertest.Tree) {
		la, lb := lockOf(t, join(t, tree, newHistory(), "a")), lockOf(t, join(t, tree, newHistory(), "b"))
		acquire(t, la)
		if _, _, err := lb.Get(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := release(t.Context(), lb); !errors.Is(err, leaderelection.ErrNotHolder) || apierrors.IsConflict(err) {
			t.Errorf("release by another: %v, want %v", err, leaderelection.ErrNotHolder)
		}
		if la.Term() == nil {
			t.Error("the holder lost its lock to another's release")
		}
	})
}

// An owner is never replaced, be the record deleted and made anew meanwhile.
func TestRecordMadeAnew(t *testing.T) {
	bubble(t, func(t *testing.T, tree *zookeepertest.Tree) {
		a, b := join(t, tree, newHistory(), "a"), join(t, tree, newHistory(), "b")
		la, lb := lockOf(t, a), lockOf(t, b)
		acquire(t, la)
		if err := release(t.Context(), la); err != nil {
			t.Fatal(err)
		}
		la.RecordEvent("stopped leading")
		if _, _, err := lb.Get(t.Context()); err != nil { // sees the record of version 2, free
			t.Fatal(err)
		}
		for _, p := range slices.Backward(nodes(tree, "")) {
			if _, err := tree.Do(&zookeeper.Delete{Path: p, Version: zookeeper.AnyVersion}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := tree.Do(&zookeeper.Delete{Path: election1, Version: zookeeper.AnyVersion}); err != nil {
			t.Fatal(err)
		}
		token := acquire(t, la) // the record is at version 1 again
		for range 5 {
			if err := lb.Update(t.Context(), recordOf(lb)); err == nil {
				t.Fatal("a second owner")
			}
		}
		if _, owner, _ := tree.Get(election1 + "/owner"); owner.Czxid != token {
			t.Error("the owner is another")
		}
	})
}

// An elector that has stopped renewing without a word does not keep the lock.
func TestStuckElectorGivesUp(t *testing.T) {
	bubble(t, func(t *testing.T, tree *zookeepertest.Tree) {
		l := lockOf(t, join(t, tree, newHistory(), "a"))
		acquire(t, l)
		term := l.Term()
		<-term.Lost()
		if !errors.Is(term.Err(), leaderelection.ErrStuck) {
			t.Errorf("lost for %v", term.Err())
		}
		await(t, time.Minute, "no owner", func() bool { return len(nodes(tree, "owner")) == 0 })
	})
}

// A process that was started again has the name, and not the session.
func TestNameOfAnotherSessionIsNotMine(t *testing.T) {
	bubble(t, func(t *testing.T, tree *zookeepertest.Tree) {
		before, after := join(t, tree, newHistory(), "same"), join(t, tree, newHistory(), "same")
		acquire(t, lockOf(t, before))
		l := lockOf(t, after)
		r, _, err := l.Get(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if r.HolderIdentity == l.Identity() || r.HolderIdentity == "" {
			t.Errorf("holder is %q to a candidate with the identity %q", r.HolderIdentity, l.Identity())
		}
	})
}

// D3, and a session that the server made too short.
func TestSettingsAreChecked(t *testing.T) {
	bubble(t, func(t *testing.T, _ *zookeepertest.Tree) {
		p := join(t, zookeepertest.NewTree(10*time.Second), newHistory(), "a")
		cfg := p.config()
		cfg.Name, cfg.LeaseDuration = "No_Name", 1500*time.Millisecond
		_, err := leaderelection.New(cfg)
		if !errors.Is(err, leaderelection.ErrBudget) {
			t.Errorf("a session of 10s is enough for a bare elector: %v", err)
		}
		for _, want := range []string{"No_Name", "1.5s", "the server granted 10s", "want at least 22s"} {
			if !strings.Contains(fmt.Sprint(err), want) {
				t.Errorf("%q does not say %q", err, want)
			}
		}
	})
}

// A session that a server makes too short at a reconnect is too short at once, and goes
// on: its end would free the lock before the work has stopped.
func TestSettingsAreCheckedAtAReconnect(t *testing.T) {
	bubble(t, func(t *testing.T, tree *zookeepertest.Tree) {
		p := join(t, tree, newHistory(), "a")
		l := lockOf(t, p)
		acquire(t, l)
		term, before := l.Term(), l.Term().Deadline()
		proven := term.Proven()
		tree.Grant(10 * time.Second)
		p.client().Reconnect()
		synctest.Wait()
		if !errors.Is(term.Err(), leaderelection.ErrBudget) {
			t.Errorf("term of a bare elector with a session of 10s: %v, want %v", term.Err(), leaderelection.ErrBudget)
		}
		select {
		case <-proven:
		default:
			t.Error("nobody was told of the deadline's move")
		}
		if got, want := before.Sub(term.Deadline()), timeout-10*time.Second; got != want {
			t.Errorf("deadline was brought forward by %v, want %v", got, want)
		}
		if err := p.client().Err(); err != nil {
			t.Errorf("session: %v", err)
		}
		l.RecordEvent("stopped leading")
		await(t, time.Minute, "no owner", func() bool { return len(nodes(tree, "owner")) == 0 })
		if err := tryAcquire(t.Context(), l); !errors.Is(err, leaderelection.ErrBudget) {
			t.Errorf("acquire in a session of 10s: %v, want %v", err, leaderelection.ErrBudget)
		}
	})
}

// Where proofs take so long that none leaves an elector its time, nobody waits in silence:
// the acquire fails, and names what there is and what it takes.
func TestAcquireTooSlowToProveSaysWhy(t *testing.T) {
	bubble(t, func(t *testing.T, tree *zookeepertest.Tree) {
		p := join(t, tree, newHistory(), "a")
		l := lockOf(t, p)
		p.client().Slow(7 * time.Second)
		pass(timeout)
		ctx, cancel := context.WithTimeout(t.Context(), 10*timeout)
		defer cancel()
		err := tryAcquire(ctx, l)
		if !errors.Is(err, leaderelection.ErrPastDeadline) {
			t.Fatalf("acquire by proofs that take 7s: %v, want %v", err, leaderelection.ErrPastDeadline)
		}
		want := "the answer to the newest proof took 7s, and of a session timeout of 30s the elector takes 14s to stop"
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got %q, want in it %q", err, want)
		}
		p.client().Slow(0)
		pass(timeout)
		acquire(t, l)
	})
}

// One write per session and interval serves all locks of the process.
func TestLocksCostNoWrites(t *testing.T) {
	perMinute := func(t *testing.T, locks int) int {
		writes := 0
		bubble(t, func(t *testing.T, tree *zookeepertest.Tree) {
			p := join(t, tree, newHistory(), "a")
			var ls []*leaderelection.Lock
			for i := range locks {
				cfg := p.config()
				cfg.Name = fmt.Sprintf("x%d", i)
				l, err := leaderelection.New(cfg)
				if err != nil {
					t.Fatal(err)
				}
				acquire(t, l)
				ls = append(ls, l)
			}
			pass(time.Second)
			before := tree.Writes()
			for range 30 {
				for _, l := range ls {
					if err := l.Update(t.Context(), recordOf(l)); err != nil {
						t.Fatal(err)
					}
				}
				pass(2 * time.Second)
			}
			writes = tree.Writes() - before
		})
		return writes
	}
	one, hundred := perMinute(t, 1), perMinute(t, 100)
	if one != hundred || one > 31 {
		t.Errorf("writes per minute at rest: %d with one lock, %d with a hundred", one, hundred)
	}
}
