package leaderelection

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/quorate/quorate/leaderelection/zookeeper"
	"github.com/quorate/quorate/test/lab"
)

func chaos() bool { return os.Getenv("QUORATE_CHAOS") != "" }

// A follower that is cut off from its peers goes on answering its clients' pings and
// reads for as long as the sync limit, here 10 s, and the session ends after 4 s
// behind its back. A lock that trusts what it answers has two owners meanwhile.
func TestChaosFollowerWithoutPeers(t *testing.T) {
	for range rounds(1) {
		e := ensemble(t, lab.ZooKeeperConfig{PeerLinks: true, SyncLimit: 20})
		f, others := follower(t, e)
		h := newHistory()
		a := join(t, h, "a", f.Addr())
		awaitLeader(t, h, "a")
		join(t, h, "b", others)
		old := (<-a.terms).Token()
		reader := client(t, f.Addr())
		for _, l := range e.PeerLinks(f.ID()) {
			if err := l.Drop(); err != nil {
				t.Fatal(err)
			}
		}
		awaitLeader(t, h, "b")
		h.check(t)
		// Only if it still shows the old owner was this the fault that it is to be.
		_, owner, err := reader.Get(t.Context(), "/quorate/elections/lab/x/owner")
		if err != nil || owner.Czxid != old {
			t.Errorf("the follower shows owner %d, %v; want the old one, %d", owner.Czxid, err, old)
		}
	}
}

// A follower that stops right after it answered a write has not told the leader: a
// write sent at s does not prove that the session lives until s + timeout.
func TestChaosFollowerStopsAfterAnswering(t *testing.T) {
	e := ensemble(t, lab.ZooKeeperConfig{})
	f, others := follower(t, e)
	h := newHistory()
	a, b := join(t, h, "a", f.Addr()), join(t, h, "b", others)
	for range rounds(3) {
		lead(t, h, a, b)
		term := lastTerm(a)
		select {
		case <-term.Proven():
		case <-term.Lost():
		}
		if err := f.Pause(); err != nil {
			t.Fatal(err)
		}
		awaitLeader(t, h, "b")
		if err := f.Resume(); err != nil {
			t.Fatal(err)
		}
	}
	h.check(t)
}

// The same to a leader whose session was idle before: it waited in line for longer
// than its session, and has just begun to lead.
func TestChaosFollowerStopsAfterAnIdleTime(t *testing.T) {
	e := ensemble(t, lab.ZooKeeperConfig{})
	f, others := follower(t, e)
	h := newHistory()
	b := join(t, h, "b", others)
	awaitLeader(t, h, "b")
	a := join(t, h, "a", f.Addr())
	join(t, h, "c", others)
	for range rounds(2) {
		idle(t, 2*timeout)
		if err := b.session.Resign(t.Context(), "lab", "x"); err != nil {
			t.Fatal(err)
		}
		await(t, "another leader", func() bool { return h.leader() != "b" && h.leader() != "" })
		if h.leader() == "a" {
			drain(a)
			if err := f.Pause(); err != nil {
				t.Fatal(err)
			}
		}
		await(t, "a leader that is not a", func() bool { return h.leader() != "a" && h.leader() != "" })
		if err := f.Resume(); err != nil {
			t.Fatal(err)
		}
	}
	h.check(t)
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
