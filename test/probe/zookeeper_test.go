// Package probe_test asks real ZooKeeper servers and real etcd members how they are,
// while they are paused, killed and made to elect.
package probe_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/quorate/quorate/ensemble/probe"
	"github.com/quorate/quorate/ensemble/quorum"
	"github.com/quorate/quorate/test/lab"
)

func startZooKeeper(t *testing.T, c lab.ZooKeeperConfig) *lab.Ensemble {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	e, err := lab.StartZooKeeper(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// members are the servers as pods, named by ordinals: zk-0 is server 1.
func members(e *lab.Ensemble) []probe.Target {
	var targets []probe.Target
	for _, s := range e.Servers() {
		host, _, _ := net.SplitHostPort(s.Addr())
		targets = append(targets, target(fmt.Sprintf("zk-%d", s.ID()-1), host))
	}
	return targets
}

func target(name, host string) probe.Target {
	return probe.Target{Name: name, UID: types.UID(name), IP: netip.MustParseAddr(host), Ready: true}
}

// look asks all of them, in five seconds at most: the machine may be busy.
func look(ctx context.Context, p probe.Prober, targets []probe.Target, r probe.Rules) probe.View {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return probe.Judge(probe.Ask(ctx, p, targets), r, time.Now())
}

// await looks until the view is as wanted.
func await(t *testing.T, p probe.Prober, targets []probe.Target, r probe.Rules, what string, holds func(*probe.View) bool) probe.View {
	t.Helper()
	var v probe.View
	err := lab.Await(t.Context(), 3*time.Minute, what, func(ctx context.Context) error {
		if v = look(ctx, p, targets, r); !holds(&v) {
			return fmt.Errorf("known=%t (%s), %d synced, %d unseen, doubt %d, members %+v", v.Known, v.Reason, v.Synced.Len(), v.Unseen.Len(), v.Doubt(), shown(&v))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func shown(v *probe.View) (all []string) {
	for i := range v.Members {
		m := &v.Members[i]
		all = append(all, fmt.Sprintf("%s id=%s %s %s %s via %s", m.Name, m.ServerID, m.Role, m.Health, m.Reason, m.Answer.Source))
	}
	return all
}

// three are in sync, and nobody doubts it.
func three(v *probe.View) bool { return v.Known && v.Synced.Len() == 3 && v.Doubt() == 0 }

// Whatever the servers let us ask, the same is found: who leads, who votes, who is
// which server, and what a loss would leave.
func TestZooKeeperSources(t *testing.T) {
	t.Parallel()
	ensembles := map[string]*lab.Ensemble{
		"*":    startZooKeeper(t, lab.ZooKeeperConfig{Voters: 3, Observers: 1}),
		"srvr": startZooKeeper(t, lab.ZooKeeperConfig{Voters: 3, Observers: 1, Whitelist: "srvr"}), // ZooKeeper's default
	}
	cases := map[string]struct {
		whitelist string
		admin     int32
		source    string
		settle    time.Duration // told, or the default
	}{
		"AdminServer":             {"*", 8080, "AdminServer", 5 * time.Second},
		"mntr":                    {"*", 0, "mntr", 5 * time.Second},
		"srvr, nothing else":      {"srvr", 0, "srvr", 10 * time.Second},
		"AdminServer, srvr alone": {"srvr", 8080, "AdminServer", 10 * time.Second},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			e := ensembles[c.whitelist]
			targets := members(e)
			// The first answers of a cold AdminServer come too late: the next source is
			// believed for that time.
			v := await(t, &probe.ZooKeeper{ClientPort: 2181, AdminPort: c.admin}, targets, probe.Rules{}, "all in sync, through the best source", func(v *probe.View) bool {
				return three(v) && !slices.ContainsFunc(v.Members, func(m probe.Member) bool { return m.Answer.Source != c.source })
			})
			if !v.Live || v.Voters().Len() != 3 || v.Size() != 2 || v.Changing || len(v.Strangers) != 0 || v.Settle != c.settle {
				t.Errorf("got live=%t voters=%d quorum=%d changing=%t strangers=%v settle=%s", v.Live, v.Voters().Len(), v.Size(), v.Changing, v.Strangers, v.Settle)
			}
			leader, err := e.Leader(t.Context())
			if err != nil || v.Members[v.Leader].ServerID != strconv.Itoa(leader.ID()) {
				t.Errorf("leader is server %s, want %d (%v)", v.Members[v.Leader].ServerID, leader.ID(), err)
			}
			for i := range v.Members {
				m := &v.Members[i]
				if m.ServerID != strconv.Itoa(i+1) || m.Votes != (i < 3) || (m.Role == probe.Observer) != (i == 3) {
					t.Errorf("got %s, votes=%t, want server %d", shown(&v)[i], m.Votes, i+1)
				}
			}
			if got := v.Without(quorum.SetOf(0), 0); got != quorum.Safe {
				t.Errorf("losing one of three: %s, want Safe", got)
			}
			if got := v.Without(quorum.SetOf(0, 1), 0); got != quorum.Unsafe {
				t.Errorf("losing two of three: %s, want Unsafe", got)
			}
		})
	}
}

// A follower that hangs is unseen, not gone; one that was killed and comes back is
// in sync again; with its leader gone the ensemble finds another one.
func TestZooKeeperThroughFaults(t *testing.T) {
	t.Parallel()
	e := startZooKeeper(t, lab.ZooKeeperConfig{Voters: 3})
	p := &probe.ZooKeeper{ClientPort: 2181, AdminPort: 8080}
	targets := members(e)
	v := await(t, p, targets, probe.Rules{}, "all in sync", three)

	leader := v.Leader
	follower := (leader + 1) % 3
	other := (leader + 2) % 3
	if err := e.Servers()[follower].Process().Pause(); err != nil {
		t.Fatal(err)
	}
	var agreement probe.Agreement
	v = await(t, p, targets, probe.Rules{}, "a paused follower to be unseen, for a settle time", func(v *probe.View) bool {
		agreement.See(v)
		return v.Known && v.Synced.Len() == 2 && v.Members[follower].Health == probe.Unseen && v.Settled
	})
	if v.Counted != 1 {
		t.Errorf("the leader counts %d followers, want that it has missed the paused one", v.Counted)
	}
	if got := v.Without(quorum.SetOf(other), 0); got != quorum.Unknown {
		t.Errorf("losing another one while one hangs: %s, want Unknown", got)
	}
	if got := v.Without(quorum.SetOf(follower), 0); got != quorum.Safe {
		t.Errorf("losing the one that hangs: %s, want Safe", got)
	}
	alone(t, e, p, targets, other)
	if err := e.Servers()[follower].Process().Resume(); err != nil {
		t.Fatal(err)
	}
	leader = await(t, p, targets, probe.Rules{}, "it to be back", three).Leader

	if err := e.Servers()[leader].Process().Kill(); err != nil {
		t.Fatal(err)
	}
	v = await(t, p, targets, probe.Rules{}, "another leader", func(v *probe.View) bool {
		return v.Known && v.Leader != leader && v.Synced.Len() == 2
	})
	if m := v.Members[leader]; m.Health != probe.Unseen || m.Reason != "connection refused" || m.ServerID != strconv.Itoa(leader+1) {
		t.Errorf("the killed one: %s", shown(&v)[leader])
	}
	if err := e.Servers()[leader].Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	await(t, p, targets, probe.Rules{}, "all back", three)
}

// alone is the leader for a moment, with both followers hanging: it still says that it
// leads, and who votes, but it grants no session any more.
func alone(t *testing.T, e *lab.Ensemble, p probe.Prober, targets []probe.Target, other int) {
	t.Helper()
	if err := e.Servers()[other].Process().Pause(); err != nil {
		t.Fatal(err)
	}
	if v := look(t.Context(), p, targets, probe.Rules{}); v.Known {
		t.Errorf("a leader without followers: got known, %d synced, members %+v", v.Synced.Len(), shown(&v))
	}
	if err := e.Servers()[other].Process().Resume(); err != nil {
		t.Fatal(err)
	}
}
