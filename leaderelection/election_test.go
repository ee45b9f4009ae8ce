package leaderelection_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorate/quorate/leaderelection/zookeeper"
	"github.com/quorate/quorate/leaderelection/zookeepertest"
)

// kinds of electors: every promise holds for both.
var kinds = []struct {
	name string
	join func(*process, context.Context, *testing.T, *sync.WaitGroup)
}{
	{"bare", (*process).bareAgain},
	{"run", func(p *process, ctx context.Context, _ *testing.T, wg *sync.WaitGroup) { p.runAgain(ctx, wg) }},
}

// election of three processes, in a bubble.
func election(t *testing.T, do func(t *testing.T, tree *zookeepertest.Tree, h *history, ps map[string]*process, leave map[string]context.CancelFunc)) {
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tree, h := zookeepertest.NewTree(timeout), newHistory()
				ps, leave := map[string]*process{}, map[string]context.CancelFunc{}
				var wg sync.WaitGroup
				for _, n := range []string{"a", "b", "c"} {
					ctx, cancel := context.WithCancel(t.Context())
					ps[n], leave[n] = join(t, tree, h, n), cancel
					kind.join(ps[n], ctx, t, &wg)
				}
				defer wg.Wait()
				defer func() {
					for _, cancel := range leave {
						cancel()
					}
				}()
				await(t, time.Minute, "a first leader", func() bool { return h.leader() != "" })
				pass(time.Minute)
				do(t, tree, h, ps, leave)
				h.check(t)
			})
		})
	}
}

func awaitSuccessor(t *testing.T, h *history, of string, within time.Duration) time.Duration {
	t.Helper()
	return await(t, within, "a successor of "+of, func() bool { l := h.leader(); return l != "" && l != of })
}

// A graceful stop hands over within the stop time and a notification: nobody polls.
func TestStopHandsOverAtOnce(t *testing.T) {
	election(t, func(t *testing.T, _ *zookeepertest.Tree, h *history, _ map[string]*process, leave map[string]context.CancelFunc) {
		first := h.leader()
		leave[first]()
		if took := awaitSuccessor(t, h, first, time.Minute); took > stopTime+10*time.Millisecond {
			t.Errorf("a successor led %v after the stop, of which the work took %v", took, stopTime)
		}
	})
}

// A crash is found out within the session timeout, and nobody polls then either.
func TestCrashIsTakenOver(t *testing.T) {
	election(t, func(t *testing.T, _ *zookeepertest.Tree, h *history, ps map[string]*process, _ map[string]context.CancelFunc) {
		first := h.leader()
		ps[first].client().Cut()
		awaitSuccessor(t, h, first, timeout+tick*3/2+10*time.Millisecond)
	})
}

// A server that is cut off from its peers answers reads and pings for as long as it
// likes. Its clients must not take that for a proof.
func TestServerWithoutPeersProvesNothing(t *testing.T) {
	election(t, func(t *testing.T, _ *zookeepertest.Tree, h *history, ps map[string]*process, _ map[string]context.CancelFunc) {
		first := h.leader()
		ps[first].client().Isolate()
		awaitSuccessor(t, h, first, timeout+tick*3/2+10*time.Millisecond)
		pass(10 * time.Minute)
	})
}

// A server that does not answer at all.
func TestHungServer(t *testing.T) {
	election(t, func(t *testing.T, _ *zookeepertest.Tree, h *history, ps map[string]*process, _ map[string]context.CancelFunc) {
		first := h.leader()
		ps[first].client().Pause()
		awaitSuccessor(t, h, first, timeout+tick*3/2+10*time.Millisecond)
		ps[first].client().Heal()
		pass(10 * time.Minute)
	})
}

// A server may grant less at a reconnect than the one before, and counts by that: so
// must the leader.
func TestServerThatGrantsLess(t *testing.T) {
	for _, granted := range []time.Duration{22 * time.Second, 10 * time.Second} {
		t.Run(granted.String(), func(t *testing.T) {
			election(t, func(t *testing.T, tree *zookeepertest.Tree, h *history, ps map[string]*process, _ map[string]context.CancelFunc) {
				first := h.leader()
				tree.Grant(granted)
				ps[first].client().Reconnect()
				pass(10 * time.Second)
				ps[first].client().Isolate()
				awaitSuccessor(t, h, first, granted+tick*3/2+10*time.Millisecond)
				pass(time.Minute)
			})
		})
	}
}

// Short interruptions cost nobody the lead.
func TestShortInterruptionIsSurvived(t *testing.T) {
	election(t, func(t *testing.T, _ *zookeepertest.Tree, h *history, ps map[string]*process, _ map[string]context.CancelFunc) {
		first := h.leader()
		for range 20 {
			ps[first].client().Cut()
			pass(2 * time.Second)
			ps[first].client().Heal()
			pass(10 * time.Second)
		}
		if got := h.order(); len(got) != 1 {
			t.Errorf("terms after short interruptions: %v, want one", got)
		}
	})
}

// An administrator asks for a resignation: the work stops first, then the next in
// line leads.
func TestResign(t *testing.T) {
	election(t, func(t *testing.T, _ *zookeepertest.Tree, h *history, ps map[string]*process, _ map[string]context.CancelFunc) {
		first := h.leader()
		if err := ps["a"].session.Resign(t.Context(), "ns", "x"); err != nil {
			t.Fatal(err)
		}
		awaitSuccessor(t, h, first, time.Second)
	})
}

// All data lost, as by an ensemble that comes back empty: sessions end, and a leader
// is found again. Its token is lower, which no election can help.
func TestLostData(t *testing.T) {
	election(t, func(t *testing.T, tree *zookeepertest.Tree, h *history, _ map[string]*process, _ map[string]context.CancelFunc) {
		pass(10 * time.Minute)
		tree.Wipe()
		// Without the old data nothing can keep the successor waiting.
		await(t, 2*time.Minute, "a leader in the new data", func() bool {
			_, owner, err := tree.Get("/quorate/elections/ns/x/owner")
			return err == nil && owner.EphemeralOwner != 0
		})
		h.forget() // the old leader needed its stop time
	})
}

// Anything may happen, in any order, and there are never two.
func TestFaultsNeverMakeTwoLeaders(t *testing.T) {
	runs := 15
	if os.Getenv("QUORATE_CHAOS") != "" {
		runs *= 20
	}
	violations := 0
	for i := range runs {
		seed := rand.Uint64()
		t.Run(fmt.Sprintf("%d/seed=%d", i, seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 0))
			election(t, func(t *testing.T, tree *zookeepertest.Tree, h *history, ps map[string]*process, _ map[string]context.CancelFunc) {
				for range 40 {
					fault(r, h, ps)
					pass(time.Duration(r.IntN(20_000)) * time.Millisecond)
				}
				for _, p := range ps {
					p.client().Inject(nil)
					p.client().Heal()
				}
				await(t, 2*timeout, "a leader after all faults", func() bool { return h.leader() != "" })
				violations += len(h.violations())
			})
		})
	}
	fmt.Printf("chaos: in-memory runs=%d violations=%d\n", runs, violations)
}

func fault(r *rand.Rand, h *history, ps map[string]*process) {
	name := []string{"a", "b", "c"}[r.IntN(3)]
	if l := h.leader(); l != "" && r.IntN(2) == 0 {
		name = l
	}
	c := ps[name].client()
	switch r.IntN(8) {
	case 0:
		c.Cut()
	case 1:
		c.Pause()
	case 2:
		c.Isolate()
	case 3, 4:
		c.Heal()
	case 5, 6:
		chance := r.IntN(100)
		c.Inject(func(ops []zookeeper.Op) zookeepertest.Fault {
			if rand.IntN(100) > chance {
				return zookeepertest.None
			}
			return []zookeepertest.Fault{zookeepertest.LostBefore, zookeepertest.LostAfter, zookeepertest.Hang, zookeepertest.HangAfter}[rand.IntN(4)]
		})
	case 7:
		c.Inject(nil)
	}
}
