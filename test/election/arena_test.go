package election

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/quorate/quorate/test/lab"
)

// arena is three candidates on three servers. Two of them stand by Run, the third by
// a bare elector.
type arena struct {
	network    *lab.Network // nil where the servers are shared, and not to be hurt
	ensemble   *lab.Ensemble
	resource   *resource
	direct     *zk.Conn
	candidates []*wrapped
	role, dir  string
	owner      *testing.T // outlives the faults; what they start ends with it
}

// openArena on the servers that all share: only candidates can be hurt.
func openArena(t *testing.T, role string) *arena {
	t.Helper()
	a := &arena{ensemble: sharedEnsemble(t)}
	a.enter(t, role)
	return a
}

// openServers is an arena with servers of its own, which can be hurt, too.
func openServers(t *testing.T, role string, syncLimit int) *arena {
	t.Helper()
	a := &arena{network: must(lab.NewNetwork(t.Context(), 3))(t)}
	closeAfter(t, a.network)
	a.ensemble = must(lab.StartZooKeeper(t.Context(), lab.ZooKeeperConfig{
		Members: a.network.Members(), TickTime: tick, SyncLimit: syncLimit, NoAdmin: true,
	}))(t)
	closeAfter(t, a.ensemble)
	a.enter(t, role)
	return a
}

// openPeers is an arena whose servers' links to each other can be hurt.
func openPeers(t *testing.T, role string) *arena {
	t.Helper()
	a := &arena{ensemble: must(lab.StartZooKeeper(t.Context(), lab.ZooKeeperConfig{PeerLinks: true, TickTime: tick, SyncLimit: 4, NoAdmin: true}))(t)}
	closeAfter(t, a.ensemble)
	a.enter(t, role)
	return a
}

// servers are ZooKeeper's leader and one of its followers.
func (a *arena) servers(t *testing.T) (leader, follower *lab.Server) {
	t.Helper()
	leader = must(a.ensemble.Leader(t.Context()))(t)
	for _, s := range a.ensemble.Servers() {
		if s != leader {
			follower = s
		}
	}
	return leader, follower
}

// others are the candidates but one.
func (a *arena) others(than *wrapped) []*wrapped {
	return slices.DeleteFunc(slices.Clone(a.candidates), func(c *wrapped) bool { return c == than })
}

// serverOf is the number of the server that a candidate last said it is connected to.
func (a *arena) serverOf(t *testing.T, c *wrapped) int {
	t.Helper()
	said, server, last := a.said(t, c), -1, -1
	for i, l := range c.links.Links() {
		if at := strings.LastIndex(said, `"Connected to ZooKeeper" server="`+l.Addr()); at > last {
			server, last = i, at
		}
	}
	if server < 0 {
		t.Fatalf("%s does not say what server it is connected to", c.name)
	}
	return server
}

// enter three candidates of a role.
func (a *arena) enter(t *testing.T, role string) {
	t.Helper()
	a.role, a.dir, a.owner, a.resource = role, t.TempDir(), t, openResource(t)
	a.direct = dial(t, a.ensemble.Connect())
	t.Cleanup(func() { a.explain(t) })
	for _, name := range []string{"ann", "bob", "cyd"} {
		c := &wrapped{name: name, links: must(lab.LinkClient(t.Context(), a.ensemble))(t)}
		closeAfter(t, c.links)
		a.candidates = append(a.candidates, c)
		a.start(t, c)
	}
}

func (a *arena) start(t *testing.T, c *wrapped) {
	t.Helper()
	servers := c.links.Connect()
	if a.role == "candidate" {
		servers = "no-such-host.invalid:2181," + servers // a dead name must hinder nobody
	}
	env := []string{"ROLE=" + a.role, "NAME=" + c.name, "SERVERS=" + servers, "RESOURCE=" + a.resource.listener.Addr().String()}
	if c.name == "cyd" {
		env = append(env, "BARE=true")
	}
	c.process = must(lab.StartProcess(t.Context(), lab.ProcessConfig{Name: c.name, Path: must(os.Executable())(t), LogDir: a.dir, Env: env}))(t)
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
// that act.
func (a *arena) awaitLeader(t *testing.T, after int64) act {
	t.Helper()
	return a.awaitAct(t, "a leader", func(x act) bool { return x.Checked > after })
}

// leader is the candidate whose session owns the lock with this token.
func (a *arena) leader(t *testing.T) (leader *wrapped, now act) {
	t.Helper()
	await(t, "a leader that owns the lock", func() bool {
		now = a.awaitLeader(t, monotonic())
		data, stat, err := a.direct.Get(record + "/owner")
		if err != nil || stat.Czxid != now.Token {
			return false
		}
		i := slices.IndexFunc(a.candidates, func(c *wrapped) bool { return strings.Contains(string(data), c.name+"_") })
		if i >= 0 {
			leader = a.candidates[i]
		}
		return i >= 0
	})
	return leader, now
}

// awaitSuccessor waits for a leader with a higher token, and returns its first act.
func (a *arena) awaitSuccessor(t *testing.T, token int64) act {
	t.Helper()
	return a.awaitAct(t, "a successor", func(x act) bool { return x.Token > token })
}

// awaitAct waits for the first act that is as asked for.
func (a *arena) awaitAct(t *testing.T, what string, is func(act) bool) act {
	t.Helper()
	var found act
	seen := 0
	await(t, what, func() (ok bool) {
		found, ok, seen = a.resource.find(seen, is)
		return ok
	})
	return found
}

// elapse waits while the fault lasts; nothing is expected of that time.
func elapse(t *testing.T, d time.Duration) {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	<-ctx.Done()
}

// takeOverBound is how long it may take until a leader acts: after a crash, and after
// a fault has ended.
const takeOverBound = chaosTimeout + tick*3/2 + time.Second

// suffer faults, each so many times, and look through the history of each. How soon
// another led is judged in the long form only, which has the machine for itself.
func (a *arena) suffer(t *testing.T, runs int, faults []fault) {
	a.awaitLeader(t, 0)
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			a.forgetFencedWrites(t)
			start := a.resource.length()
			var worst, worstTakeOver time.Duration
			for range runs {
				leader, now := a.leader(t)
				begin := monotonic()
				heal := f.hurt(t, a, leader, now)
				heal()
				healed := monotonic()
				worst = max(worst, time.Duration(a.awaitLeader(t, healed).Checked-healed))
				if f.crash {
					worstTakeOver = max(worstTakeOver, time.Duration(a.awaitSuccessor(t, now.Token).Checked-begin))
				}
				a.heal(t)
			}
			history := a.resource.history(start)
			a.judge(t, f.name, runs, history, f.allowed)
			fmt.Printf("%s: acts=%d leader-after=%v take-over=%v\n", f.name, len(history), worst.Round(time.Millisecond), worstTakeOver.Round(time.Millisecond))
			if late := max(worst, worstTakeOver); longForm() && late > takeOverBound {
				t.Errorf("leader after a fault: got one after %v, want one within %v", late, takeOverBound)
			}
		})
	}
}

// judge both workloads.
func (a *arena) judge(t *testing.T, name string, runs int, history []act, allowed time.Duration) {
	t.Helper()
	beside, late, writes := violations(history, chaosStop, allowed), 0, a.fencedWrites(t)
	if stale := stale(writes); len(stale) > 0 {
		late = len(stale)
		t.Errorf("writes that landed after those of a later term: got those with tokens %v, want none", stale)
	}
	if len(beside) > 0 {
		t.Errorf("violations: got %v, want none", beside)
	}
	fmt.Printf("chaos: %s runs=%d violations=%d fenced-writes=%d\n", name, runs, len(beside)+late, len(writes))
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
