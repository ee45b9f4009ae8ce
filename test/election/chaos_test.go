package election

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/quorate/quorate/test/lab"
)

// arena is three candidates on three servers, all of which can be hurt.
type arena struct {
	network    *lab.Network
	ensemble   *lab.Ensemble
	resource   *resource
	direct     *zk.Conn
	candidates []*wrapped
	role, dir  string
	owner      *testing.T // outlives the faults; what they start ends with it
}

func openArena(t *testing.T, role string) *arena {
	t.Helper()
	a := &arena{role: role, dir: t.TempDir(), resource: openResource(t), owner: t}
	a.network = must(lab.NewNetwork(t.Context(), 3))(t)
	closeAfter(t, a.network)
	a.ensemble = must(lab.StartZooKeeper(t.Context(), lab.ZooKeeperConfig{
		Members: a.network.Members(), TickTime: tick, SyncLimit: 4, NoAdmin: true,
	}))(t)
	closeAfter(t, a.ensemble)
	a.direct = dial(t, a.ensemble.Connect())
	t.Cleanup(func() { a.explain(t) })
	for _, name := range []string{"ann", "bob", "cyd"} {
		c := &wrapped{name: name, links: must(lab.LinkClient(t.Context(), a.ensemble))(t)}
		closeAfter(t, c.links)
		a.candidates = append(a.candidates, c)
		a.start(t, c)
	}
	return a
}

func (a *arena) start(t *testing.T, c *wrapped) {
	t.Helper()
	servers := c.links.Connect()
	if a.role == "candidate" {
		servers = "no-such-host.invalid:2181," + servers // a dead name must hinder nobody
	}
	c.process = must(lab.StartProcess(t.Context(), lab.ProcessConfig{
		Name: c.name, Path: must(os.Executable())(t), LogDir: a.dir,
		Env: []string{"ROLE=" + a.role, "NAME=" + c.name, "SERVERS=" + servers, "RESOURCE=" + a.resource.listener.Addr().String()},
	}))(t)
	closeAfter(a.owner, c.process)
}

// explain a failure by what the candidates said last.
func (a *arena) explain(t *testing.T) {
	if !t.Failed() {
		return
	}
	for _, c := range a.candidates {
		said, err := os.ReadFile(c.process.Log())
		t.Logf("%s said last (%v): %s", c.name, err, said[max(0, len(said)-6000):])
	}
}

// awaitLeader waits until a leader acts that was asked after a moment, and returns
// its token.
func (a *arena) awaitLeader(t *testing.T, after int64) act {
	t.Helper()
	var found act
	seen := 0
	await(t, "a leader", func() bool {
		history := a.resource.history(seen)
		seen += len(history)
		i := slices.IndexFunc(history, func(x act) bool { return x.Checked > after && !x.Refused })
		if i >= 0 {
			found = history[i]
		}
		return i >= 0
	})
	return found
}

// leader is the candidate whose session owns the lock with this token.
func (a *arena) leader(t *testing.T) (*wrapped, act) {
	t.Helper()
	for {
		now := a.awaitLeader(t, monotonic())
		data, stat, err := a.direct.Get("/quorate/elections/default/chaos/owner")
		if err != nil || stat.Czxid != now.Token {
			continue
		}
		for _, c := range a.candidates {
			if strings.Contains(string(data), c.name+"_") {
				return c, now
			}
		}
	}
}

// awaitSuccessor waits for a leader with a higher token.
func (a *arena) awaitSuccessor(t *testing.T, token int64) {
	t.Helper()
	seen := 0
	await(t, "a successor", func() bool {
		history := a.resource.history(seen)
		seen += len(history)
		return slices.ContainsFunc(history, func(x act) bool { return x.Token > token && !x.Refused })
	})
}

// elapse waits while the fault lasts; nothing is expected of that time.
func elapse(t *testing.T, d time.Duration) {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	<-ctx.Done()
}

// fault hurts and heals.
type fault struct {
	name string
	// hurt is done to a leader; what it returns heals.
	hurt func(t *testing.T, a *arena, leader *wrapped, now act) func()
	// fencedOnly says that the lock does not promise exclusion here, but the token
	// does.
	fencedOnly bool
}

const (
	short = time.Second
	long  = chaosTimeout + time.Second
)

func faults() []fault {
	links := func(what func(*lab.Link) error, lasting time.Duration) func(*testing.T, *arena, *wrapped, act) func() {
		return func(t *testing.T, _ *arena, c *wrapped, _ act) func() {
			check(t, c.links.All(what))
			elapse(t, lasting)
			return func() { check(t, c.links.All((*lab.Link).Restore)) }
		}
	}
	pause := func(lasting time.Duration) func(*testing.T, *arena, *wrapped, act) func() {
		return func(t *testing.T, _ *arena, c *wrapped, _ act) func() {
			check(t, c.process.Pause())
			elapse(t, lasting)
			return func() { check(t, c.process.Resume()) }
		}
	}
	server := func(hurt, heal func(*testing.T, *arena, *lab.Server), lasting time.Duration) func(*testing.T, *arena, *wrapped, act) func() {
		return func(t *testing.T, a *arena, _ *wrapped, _ act) func() {
			s := must(a.ensemble.Leader(t.Context()))(t)
			hurt(t, a, s)
			elapse(t, lasting)
			return func() { heal(t, a, s) }
		}
	}
	return []fault{
		{name: "holder-killed", hurt: func(t *testing.T, a *arena, c *wrapped, now act) func() {
			check(t, c.process.Kill())
			a.awaitSuccessor(t, now.Token)
			return func() { a.start(t, c) }
		}},
		{name: "holder-paused-short", hurt: pause(short)},
		{name: "holder-paused-long", hurt: pause(long)},
		{name: "links-cut", hurt: links((*lab.Link).Cut, long)},
		{name: "links-dropping", hurt: links((*lab.Link).Drop, long)},
		{name: "links-slow", hurt: links(func(l *lab.Link) error { return l.Slow(300 * time.Millisecond) }, long)},
		{name: "answers-lost", hurt: links((*lab.Link).DropAnswers, long)},
		{name: "requests-lost", hurt: links((*lab.Link).DropRequests, short)},
		{name: "answers-of-acquire-lost", hurt: answersOfAcquireLost},
		{name: "write-queued-at-expiry", hurt: func(t *testing.T, a *arena, c *wrapped, now act) func() {
			check(t, c.links.All(func(l *lab.Link) error { return l.Slow(chaosTimeout / 2) }))
			check(t, c.process.Pause())
			a.awaitSuccessor(t, now.Token)
			return func() {
				check(t, c.process.Resume())
				check(t, c.links.All((*lab.Link).Restore))
			}
		}},
		{name: "server-killed", hurt: server(
			func(t *testing.T, _ *arena, s *lab.Server) { check(t, s.Kill()) },
			func(t *testing.T, _ *arena, s *lab.Server) { check(t, s.Start(t.Context())) }, short)},
		{name: "server-paused-long", hurt: server(
			func(t *testing.T, _ *arena, s *lab.Server) { check(t, s.Pause()) },
			func(t *testing.T, _ *arena, s *lab.Server) { check(t, s.Resume()) }, long)},
		{name: "server-parted-from-peers", hurt: server(
			func(t *testing.T, a *arena, s *lab.Server) { check(t, a.network.PartPeers(t.Context(), s.ID())) },
			func(t *testing.T, a *arena, s *lab.Server) { check(t, a.network.JoinPeers(t.Context(), s.ID())) }, long)},
		{name: "server-mute-to-clients", hurt: server(
			func(t *testing.T, a *arena, s *lab.Server) { check(t, a.network.MuteAnswers(t.Context(), s.ID())) },
			func(t *testing.T, a *arena, s *lab.Server) { check(t, a.network.UnmuteAnswers(t.Context(), s.ID())) }, long)},
		{name: "leader-storm", hurt: leaderStorm},
		{name: "owner-deleted", fencedOnly: true, hurt: deleted("/quorate/elections/default/chaos/owner")},
		{name: "record-deleted", fencedOnly: true, hurt: recordDeleted},
	}
}

// answersOfAcquireLost lets the successors send their acquire and hear nothing.
func answersOfAcquireLost(t *testing.T, a *arena, c *wrapped, _ act) func() {
	others := slices.DeleteFunc(slices.Clone(a.candidates), func(o *wrapped) bool { return o == c })
	check(t, c.process.Kill())
	await(t, "the end of the session", func() bool {
		exists, _, err := a.direct.Exists("/quorate/elections/default/chaos/owner")
		for _, o := range others {
			check(t, o.links.All((*lab.Link).DropAnswers))
		}
		return err == nil && !exists || t.Failed()
	})
	return func() {
		for _, o := range others {
			check(t, o.links.All((*lab.Link).Restore))
		}
		a.start(t, c)
	}
}

// leaderStorm makes ZooKeeper elect again and again.
func leaderStorm(t *testing.T, a *arena, _ *wrapped, _ act) func() {
	for range 3 {
		s := must(a.ensemble.Leader(t.Context()))(t)
		check(t, s.Kill())
		must(a.ensemble.Leader(t.Context()))(t)
		check(t, s.Start(t.Context()))
		check(t, s.WaitServing(t.Context()))
	}
	return func() {}
}

func deleted(path string) func(*testing.T, *arena, *wrapped, act) func() {
	return func(t *testing.T, a *arena, _ *wrapped, now act) func() {
		if err := a.direct.Delete(path, -1); err != nil && err != zk.ErrNoNode { //nolint:errorlint // the client's own value
			t.Error(err)
		}
		a.awaitSuccessor(t, now.Token)
		return func() {}
	}
}

// recordDeleted deletes a whole election, as often as somebody puts something in.
func recordDeleted(t *testing.T, a *arena, _ *wrapped, now act) func() {
	const record = "/quorate/elections/default/chaos"
	await(t, "the record to be gone", func() bool {
		children, _, err := a.direct.Children(record)
		for _, child := range children {
			_ = a.direct.Delete(record+"/"+child, -1) // somebody may have been faster
		}
		return err == zk.ErrNoNode || a.direct.Delete(record, -1) == nil //nolint:errorlint // the client's own value
	})
	a.awaitSuccessor(t, now.Token)
	return func() {}
}

// heal what may still hurt, so that the next fault finds everything whole.
func (a *arena) heal(t *testing.T) {
	t.Helper()
	for _, c := range a.candidates {
		select {
		case <-c.process.Done():
			a.start(t, c)
		default:
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	check(t, a.ensemble.WaitServing(ctx))
}

func chaosRuns() int {
	if os.Getenv("QUORATE_CHAOS") != "" {
		return 20
	}
	return 1
}

func TestChaos(t *testing.T) {
	runs := chaosRuns()
	a := openArena(t, "candidate")
	a.awaitLeader(t, 0)
	for _, f := range faults() {
		t.Run(f.name, func(t *testing.T) {
			start, found := a.resource.length(), 0
			var worst time.Duration
			for range runs {
				leader, now := a.leader(t)
				heal := f.hurt(t, a, leader, now)
				heal()
				healed := monotonic()
				next := a.awaitLeader(t, healed)
				worst = max(worst, time.Duration(next.Checked-healed))
				a.heal(t)
			}
			history := a.resource.history(start)
			if !f.fencedOnly {
				found = len(violations(history, chaosStop))
			}
			found += len(stale(history))
			fmt.Printf("chaos: %s runs=%d violations=%d acts=%d leader-after=%v\n", f.name, runs, found, len(history), worst.Round(time.Millisecond))
			if found > 0 {
				t.Errorf("violations: got %v, want none", violations(history, chaosStop))
			}
		})
	}
	t.Run("data-lost", func(t *testing.T) { // last: it makes the resource forget
		found := 0
		for range runs {
			dataLost(t, a)
			found += len(violations(a.resource.history(0), chaosStop)) + len(stale(a.resource.history(0)))
		}
		fmt.Printf("chaos: data-lost runs=%d violations=%d\n", runs, found)
		if found > 0 {
			t.Errorf("violations: got %d, want none", found)
		}
	})
}

// dataLost restarts the whole ensemble with nothing in it. Tokens begin anew, so what
// was acted on must forget them, and nobody may lead from before.
func dataLost(t *testing.T, a *arena) {
	for _, s := range a.ensemble.Servers() {
		check(t, s.Kill())
	}
	elapse(t, long) // by then every leader has stopped, or breaks what follows
	a.resource.forget()
	for _, s := range a.ensemble.Servers() {
		check(t, s.WipeData())
		check(t, s.Start(t.Context()))
	}
	a.heal(t)
	a.awaitLeader(t, monotonic())
}

// The checker is worth nothing if it does not catch a lock that keeps no time.
func TestChaosCatchesALockWithoutADeadline(t *testing.T) {
	a := openArena(t, "control")
	first := a.awaitLeader(t, 0)
	paused := a.candidates[:0:0]
	// Whoever it is that leads: all are paused, one by one, until another leads.
	for _, c := range a.candidates {
		check(t, c.process.Signal(syscall.SIGSTOP))
		paused = append(paused, c)
		before := a.resource.length()
		elapse(t, short)
		if a.resource.length() == before {
			break
		}
		check(t, c.process.Signal(syscall.SIGCONT))
	}
	a.awaitSuccessor(t, first.Token)
	for _, c := range paused {
		check(t, c.process.Signal(syscall.SIGCONT))
	}
	await(t, "the violation", func() bool { return len(violations(a.resource.history(0), chaosStop)) > 0 })
	fmt.Printf("chaos: control runs=1 violations=%d\n", len(violations(a.resource.history(0), chaosStop)))
}
