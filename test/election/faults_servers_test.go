package election

import (
	"testing"
	"time"

	"github.com/quorate/quorate/test/lab"
)

// serverFault hurts a server for a while.
type serverFault struct {
	hurt, heal func(*testing.T, *arena, *lab.Server)
}

var (
	killed = serverFault{
		func(t *testing.T, _ *arena, s *lab.Server) { check(t, s.Kill()) },
		func(t *testing.T, _ *arena, s *lab.Server) { check(t, s.Start(t.Context())) },
	}
	paused = serverFault{
		func(t *testing.T, _ *arena, s *lab.Server) { check(t, s.Pause()) },
		func(t *testing.T, _ *arena, s *lab.Server) { check(t, s.Resume()) },
	}
	partedFromPeers = serverFault{
		func(t *testing.T, a *arena, s *lab.Server) { check(t, a.network.PartPeers(t.Context(), s.ID())) },
		func(t *testing.T, a *arena, s *lab.Server) { check(t, a.network.JoinPeers(t.Context(), s.ID())) },
	}
	muteToClients = serverFault{
		func(t *testing.T, a *arena, s *lab.Server) { check(t, a.network.MuteAnswers(t.Context(), s.ID())) },
		func(t *testing.T, a *arena, s *lab.Server) { check(t, a.network.UnmuteAnswers(t.Context(), s.ID())) },
	}
)

// slowToPeers delays what goes to and from a server's peers.
func slowToPeers(by time.Duration) serverFault {
	all := func(t *testing.T, a *arena, s *lab.Server, do func(*lab.Link) error) {
		for _, l := range a.ensemble.PeerLinks(s.ID()) {
			check(t, do(l))
		}
	}
	return serverFault{
		func(t *testing.T, a *arena, s *lab.Server) {
			all(t, a, s, func(l *lab.Link) error { return l.Slow(by) })
		},
		func(t *testing.T, a *arena, s *lab.Server) { all(t, a, s, (*lab.Link).Restore) },
	}
}

// ofLeader is done to ZooKeeper's leader.
func (f serverFault) ofLeader(lasting time.Duration) func(*testing.T, *arena, *wrapped, act) func() {
	return func(t *testing.T, a *arena, _ *wrapped, _ act) func() {
		leader, _ := a.servers(t)
		return f.last(t, a, leader, lasting)
	}
}

// ofFollower is done to a server that follows.
func (f serverFault) ofFollower(lasting time.Duration) func(*testing.T, *arena, *wrapped, act) func() {
	return func(t *testing.T, a *arena, _ *wrapped, _ act) func() {
		_, follower := a.servers(t)
		return f.last(t, a, follower, lasting)
	}
}

func (f serverFault) last(t *testing.T, a *arena, s *lab.Server, lasting time.Duration) func() {
	f.hurt(t, a, s)
	elapse(t, lasting)
	return func() { f.heal(t, a, s) }
}

func faultsOfServers() []fault {
	return []fault{
		{name: "server-killed", at: atServers, hurt: killed.ofLeader(short)},
		{name: "server-paused-short", at: atServers, hurt: paused.ofLeader(short)},
		{name: "server-paused-long", at: atServers, hurt: paused.ofLeader(long)},
		{name: "follower-killed", at: atServers, hurt: killed.ofFollower(short)},
		{name: "server-parted-from-peers", at: atServers, hurt: partedFromPeers.ofLeader(long)},
		{name: "server-mute-to-clients", at: atServers, hurt: muteToClients.ofLeader(long)},
		{name: "leader-storm", at: atServers, hurt: leaderStorm},
	}
}

// longFaultsOfServers are for the long form only.
func longFaultsOfServers() []fault {
	return []fault{
		{name: "server-killed-long", at: atServers, hurt: killed.ofLeader(long)},
		{name: "follower-killed-long", at: atServers, hurt: killed.ofFollower(long)},
		{name: "follower-paused-short", at: atServers, hurt: paused.ofFollower(short)},
		{name: "follower-paused-long", at: atServers, hurt: paused.ofFollower(long)},
		{name: "follower-parted-from-peers", at: atServers, hurt: partedFromPeers.ofFollower(long)},
		{name: "leader-mute-to-a-follower", at: atServers, hurt: func(t *testing.T, a *arena, _ *wrapped, _ act) func() {
			leader, follower := a.servers(t)
			return a.mute(t, leader, follower)
		}},
		{name: "follower-mute-to-the-leader", at: atServers, hurt: func(t *testing.T, a *arena, _ *wrapped, _ act) func() {
			leader, follower := a.servers(t)
			return a.mute(t, follower, leader)
		}},
		{name: "leader-slow-to-peers", at: atPeers, hurt: slowToPeers(200 * time.Millisecond).ofLeader(long)},
		{name: "follower-slow-to-peers", at: atPeers, hurt: slowToPeers(400 * time.Millisecond).ofFollower(long)},
	}
}

// mute one server to another, not the other way round.
func (a *arena) mute(t *testing.T, from, to *lab.Server) func() {
	t.Helper()
	check(t, a.network.Mute(t.Context(), from.ID(), to.ID()))
	elapse(t, long)
	return func() { check(t, a.network.Unmute(t.Context(), from.ID(), to.ID())) }
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
