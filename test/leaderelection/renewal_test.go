package leaderelection

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	lock "github.com/quorate/quorate/leaderelection"
	"github.com/quorate/quorate/leaderelection/zookeeper"
	"github.com/quorate/quorate/test/lab"
)

func chaos() bool { return os.Getenv("QUORATE_CHAOS") != "" }

// tell how a fault ended, in the form of all fault runs.
func tell(fault string, runs, violations int) {
	fmt.Printf("chaos: %s runs=%d violations=%d\n", fault, runs, violations)
}

// A follower that is cut off from its peers goes on answering its clients' pings and
// reads for as long as the sync limit, here 20 s, and the session ends after 6 s
// behind its back. A lock that trusts what it answers has two owners meanwhile.
func TestChaosFollowerWithoutPeers(t *testing.T) {
	together(t)
	e := ensemble(t, lab.ZooKeeperConfig{PeerLinks: true, SyncLimit: 40})
	steady, idle := 0, 0
	for range rounds() {
		steady += cutOff(t, e, leadSteadily)
		idle += cutOff(t, e, leadAfterIdling)
	}
	tell("follower-without-peers", rounds(), steady)
	tell("follower-without-peers-after-an-idle-time", rounds(), idle)
}

// cutOff a's server from its peers, when a leads, and count the violations.
func cutOff(t *testing.T, e *lab.Ensemble, lead func(t *testing.T, h *history, at, others string) *lock.Term) (violations int) {
	t.Run("", func(t *testing.T) { // candidates leave with it
		f, others := follower(t, e)
		h := newHistory()
		old := lead(t, h, f.Addr(), others).Token()
		reader := client(t, f.Addr())
		each := func(do func(*lab.Link) error) {
			for _, l := range e.PeerLinks(f.ID()) {
				if err := do(l); err != nil {
					t.Fatal(err)
				}
			}
		}
		each((*lab.Link).Drop)
		await(t, "a successor of a", func() bool { return h.leader() != "a" && h.leader() != "" })
		violations = h.check(t)
		// Only if it still shows the old owner was this the fault that it is to be.
		_, owner, err := reader.Get(t.Context(), "/quorate/elections/lab/x/owner")
		if err != nil || owner.Czxid != old {
			t.Errorf("the follower shows owner %d, %v; want the old one, %d", owner.Czxid, err, old)
		}
		each((*lab.Link).Restore)
		if err := e.WaitServing(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
	return violations
}

// leadSteadily has a lead, renewed steadily, and another stand by elsewhere.
func leadSteadily(t *testing.T, h *history, at, others string) *lock.Term {
	t.Helper()
	a := join(t, h, "a", at)
	awaitLeader(t, h, "a")
	join(t, h, "b", others)
	term := <-a.terms
	for range 3 {
		select {
		case <-term.Proven():
		case <-term.Lost():
			t.Fatalf("lead that was to be steady: %v", term.Err())
		case <-time.After(patience):
			t.Fatalf("lead was not proven within %v", patience)
		}
	}
	return term
}

// leadAfterIdling has a lead whose session was idle before: it waited in line for
// longer than its session, and has just begun to lead.
func leadAfterIdling(t *testing.T, h *history, at, others string) *lock.Term {
	t.Helper()
	b := join(t, h, "b", others)
	awaitLeader(t, h, "b")
	a := join(t, h, "a", at)
	await(t, "a is next in line", func() bool {
		el, err := a.session.Election(t.Context(), "lab", "x")
		return err == nil && len(el.Standbys) == 1
	})
	idle(t, 2*timeout)
	join(t, h, "c", others)
	b.leave()
	awaitLeader(t, h, "a")
	return <-a.terms
}

// A follower that stops right after it answered a write has not told the leader: a
// write sent at s does not prove that the session lives until s + timeout.
func TestChaosFollowerStops(t *testing.T) {
	together(t)
	e := ensemble(t, lab.ZooKeeperConfig{})
	for name, lead := range map[string]func(t *testing.T, h *history, at, others string) *lock.Term{
		"follower-stops-after-answering":    leadSteadily,
		"follower-stops-after-an-idle-time": leadAfterIdling,
	} {
		violations := 0
		for range rounds() {
			violations += stopBehind(t, e, lead)
		}
		tell(name, rounds(), violations)
	}
}

// stopBehind a leader its server, as soon as that has answered, and count the
// violations until there is a successor.
func stopBehind(t *testing.T, e *lab.Ensemble, lead func(t *testing.T, h *history, at, others string) *lock.Term) (violations int) {
	t.Run("", func(t *testing.T) { // candidates leave with it
		f, others := follower(t, e)
		h := newHistory()
		lead(t, h, f.Addr(), others)
		if err := f.Pause(); err != nil {
			t.Fatal(err)
		}
		await(t, "a successor of a", func() bool { return h.leader() != "a" && h.leader() != "" })
		violations = h.check(t)
		if err := f.Resume(); err != nil {
			t.Fatal(err)
		}
	})
	return violations
}

func client(t *testing.T, servers string) *zookeeper.Client {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := zookeeper.Dial(ctx, zookeeper.Config{Servers: servers, Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return c
}
