package leaderelection

import (
	"context"
	"fmt"
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
	together(t)
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
func TestChaosFollowerStops(t *testing.T) {
	together(t)
	e := ensemble(t, lab.ZooKeeperConfig{})
	for i := range rounds(2) {
		t.Run(fmt.Sprintf("after answering/%d", i), func(t *testing.T) {
			f, others := follower(t, e)
			h := newHistory()
			a := join(t, h, "a", f.Addr())
			awaitLeader(t, h, "a")
			join(t, h, "b", others)
			term := <-a.terms
			for range 3 { // renewed steadily
				<-term.Proven()
			}
			stopBehind(t, f, h)
		})
	}
	// The same to a leader whose session was idle before: it waited in line for longer
	// than its session, and has just begun to lead.
	for i := range rounds(1) {
		t.Run(fmt.Sprintf("after an idle time/%d", i), func(t *testing.T) {
			f, others := follower(t, e)
			h := newHistory()
			b := join(t, h, "b", others)
			awaitLeader(t, h, "b")
			a := join(t, h, "a", f.Addr())
			await(t, "a is next in line", func() bool {
				el, err := a.session.Election(t.Context(), "lab", "x")
				return err == nil && len(el.Standbys) == 1
			})
			idle(t, 2*timeout)
			b.leave()
			awaitLeader(t, h, "a")
			join(t, h, "c", others)
			stopBehind(t, f, h)
		})
	}
}

// stopBehind pauses a's server, and awaits another leader.
func stopBehind(t *testing.T, f *lab.Server, h *history) {
	t.Helper()
	if err := f.Pause(); err != nil {
		t.Fatal(err)
	}
	await(t, "a successor of a", func() bool { return h.leader() != "a" && h.leader() != "" })
	h.check(t)
	if err := f.Resume(); err != nil {
		t.Fatal(err)
	}
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
