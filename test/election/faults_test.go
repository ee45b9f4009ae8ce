package election

import (
	"slices"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/quorate/quorate/test/lab"
)

// fault hurts and heals.
type fault struct {
	name string
	// hurt is done to a leader; what it returns heals.
	hurt func(t *testing.T, a *arena, leader *wrapped, now act) func()
	// at is what is hurt, and so the arena that it takes.
	at place
	// crash says that the leader is as good as dead when the fault begins.
	crash bool
	// allowed is how long a term may go on after a later one began, where the lock does
	// not promise exclusion but the token does.
	allowed time.Duration
}

// place is where a fault is done.
type place int

const (
	atCandidates place = iota
	atServers          // in a network of their own
	atPeers            // on the links between servers
)

// record is that of the election that candidates stand in.
const record = "/quorate/elections/default/chaos"

const (
	short = time.Second
	long  = chaosTimeout + time.Second
	// unnoticed is how long a leader may act whose owner was deleted: what it is told of
	// that comes before the answer to any later proof, so that none moves its deadline.
	unnoticed = chaosTimeout - tick
)

// faultsAt are those that are done at a place. The long form has more of them.
func faultsAt(at place) []fault {
	all := append(faultsOfCandidates(), faultsOfServers()...)
	if longForm() {
		all = append(all, longFaults()...)
	}
	return slices.DeleteFunc(all, func(f fault) bool { return f.at != at })
}

func faultsOfCandidates() []fault {
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
	return []fault{
		{name: "holder-killed", crash: true, hurt: func(t *testing.T, a *arena, c *wrapped, now act) func() {
			check(t, c.process.Kill())
			a.awaitSuccessor(t, now.Token)
			return func() { a.start(t, c) }
		}},
		{name: "holder-paused-short", hurt: pause(short)},
		{name: "holder-paused-long", crash: true, hurt: pausedPastItsTerm},
		{name: "links-cut", crash: true, hurt: links((*lab.Link).Cut, long)},
		{name: "links-dropping", crash: true, hurt: links((*lab.Link).Drop, long)},
		{name: "links-slow", hurt: links(func(l *lab.Link) error { return l.Slow(300 * time.Millisecond) }, long)},
		{name: "answers-lost", hurt: links((*lab.Link).DropAnswers, long)},
		{name: "requests-lost", hurt: links((*lab.Link).DropRequests, short)},
		{name: "answers-of-acquire-lost", hurt: answersOfAcquireLost},
		{name: "write-queued-at-expiry", crash: true, hurt: writeQueuedAtExpiry},
		{name: "owner-deleted", allowed: unnoticed, hurt: deleted(record + "/owner")},
		{name: "record-deleted", allowed: unnoticed, hurt: recordDeleted},
	}
}

// whileLeading does something to ZooKeeper's leader for a while.
func whileLeading(hurt, heal func(*testing.T, *arena, *lab.Server), lasting time.Duration) func(*testing.T, *arena, *wrapped, act) func() {
	return func(t *testing.T, a *arena, _ *wrapped, _ act) func() {
		s := must(a.ensemble.Leader(t.Context()))(t)
		hurt(t, a, s)
		elapse(t, lasting)
		return func() { heal(t, a, s) }
	}
}

func faultsOfServers() []fault {
	return []fault{
		{name: "server-killed", at: atServers, hurt: whileLeading(
			func(t *testing.T, _ *arena, s *lab.Server) { check(t, s.Kill()) },
			func(t *testing.T, _ *arena, s *lab.Server) { check(t, s.Start(t.Context())) }, short)},
		{name: "server-paused-long", at: atServers, hurt: whileLeading(
			func(t *testing.T, _ *arena, s *lab.Server) { check(t, s.Pause()) },
			func(t *testing.T, _ *arena, s *lab.Server) { check(t, s.Resume()) }, long)},
		{name: "server-parted-from-peers", at: atServers, hurt: whileLeading(
			func(t *testing.T, a *arena, s *lab.Server) { check(t, a.network.PartPeers(t.Context(), s.ID())) },
			func(t *testing.T, a *arena, s *lab.Server) { check(t, a.network.JoinPeers(t.Context(), s.ID())) }, long)},
		{name: "server-mute-to-clients", at: atServers, hurt: whileLeading(
			func(t *testing.T, a *arena, s *lab.Server) { check(t, a.network.MuteAnswers(t.Context(), s.ID())) },
			func(t *testing.T, a *arena, s *lab.Server) { check(t, a.network.UnmuteAnswers(t.Context(), s.ID())) }, long)},
		{name: "leader-storm", at: atServers, hurt: leaderStorm},
	}
}

// longFaults are for the long form only.
func longFaults() []fault {
	mute := func(t *testing.T, a *arena, from, to int) func() {
		check(t, a.network.Mute(t.Context(), from, to))
		elapse(t, long)
		return func() { check(t, a.network.Unmute(t.Context(), from, to)) }
	}
	slow := func(by time.Duration) func(*testing.T, *arena, *lab.Server) {
		return func(t *testing.T, a *arena, s *lab.Server) {
			for _, l := range a.ensemble.PeerLinks(s.ID()) {
				check(t, l.Slow(by))
			}
		}
	}
	restored := func(t *testing.T, a *arena, s *lab.Server) {
		for _, l := range a.ensemble.PeerLinks(s.ID()) {
			check(t, l.Restore())
		}
	}
	return []fault{
		{name: "record-remade", hurt: recordRemade},
		{name: "leader-mute-to-a-follower", at: atServers, hurt: func(t *testing.T, a *arena, _ *wrapped, _ act) func() {
			leader, follower := a.servers(t)
			return mute(t, a, leader.ID(), follower.ID())
		}},
		{name: "follower-mute-to-the-leader", at: atServers, hurt: func(t *testing.T, a *arena, _ *wrapped, _ act) func() {
			leader, follower := a.servers(t)
			return mute(t, a, follower.ID(), leader.ID())
		}},
		{name: "leader-slow-to-peers", at: atPeers, hurt: whileLeading(slow(200*time.Millisecond), restored, long)},
		{name: "follower-slow-to-peers", at: atPeers, hurt: func(t *testing.T, a *arena, _ *wrapped, _ act) func() {
			_, follower := a.servers(t)
			slow(400*time.Millisecond)(t, a, follower)
			elapse(t, long)
			return func() { restored(t, a, follower) }
		}},
	}
}

// pausedPastItsTerm wakes a holder when another leads: what it was about to write meets
// the fence, or the second workload would show nothing.
func pausedPastItsTerm(t *testing.T, a *arena, c *wrapped, now act) func() {
	met := a.metFence(t, c)
	check(t, c.process.Pause())
	a.awaitSuccessor(t, now.Token)
	return func() {
		check(t, c.process.Resume())
		await(t, "a write that meets the fence", func() bool { return a.metFence(t, c) > met })
	}
}

// writeQueuedAtExpiry lets connections be made and nothing pass: what the holder asks
// waits to be sent, and is when its session is over.
func writeQueuedAtExpiry(t *testing.T, a *arena, c *wrapped, now act) func() {
	check(t, c.links.All((*lab.Link).Cut))
	check(t, c.links.All((*lab.Link).Drop))
	a.awaitSuccessor(t, now.Token)
	return func() { check(t, c.links.All((*lab.Link).Restore)) }
}

// answersOfAcquireLost lets a successor's acquire be made, and its answer be lost.
func answersOfAcquireLost(t *testing.T, a *arena, c *wrapped, now act) func() {
	token, lost := a.loseAnswerOfAcquire(t, c, now)
	for !lost {
		a.start(t, c)
		c, now = a.leader(t)
		token, lost = a.loseAnswerOfAcquire(t, c, now)
	}
	// It owns the lock and does not know it: what it asks again must not wait for itself.
	a.awaitAct(t, "a leader", func(x act) bool { return x.Token >= token })
	return func() { a.start(t, c) }
}

// loseAnswerOfAcquire kills the leader, and cuts the others off as soon as one of them
// owns the lock. Lost is whether that one has not heard of it.
func (a *arena) loseAnswerOfAcquire(t *testing.T, c *wrapped, now act) (token int64, lost bool) {
	t.Helper()
	others := slices.DeleteFunc(slices.Clone(a.candidates), func(o *wrapped) bool { return o == c })
	all := func(do func(*lab.Link) error) {
		for _, o := range others {
			check(t, o.links.All(do))
		}
	}
	const delay = 300 * time.Millisecond
	all(func(l *lab.Link) error { return l.Slow(delay) })
	check(t, c.process.Kill())
	await(t, "an owner", func() bool {
		exists, owner, err := a.direct.Exists(record + "/owner")
		if err != nil || !exists || owner.Czxid == now.Token {
			return false
		}
		token = owner.Czxid
		return true
	})
	all((*lab.Link).Cut)
	elapse(t, 2*delay) // whoever had heard acts by now, and what was under way is lost
	lost = !slices.ContainsFunc(a.resource.history(0), func(x act) bool { return x.Token == token })
	all((*lab.Link).Restore)
	return token, lost
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
		a.awaitOutlived(t, now)
		return func() {}
	}
}

// awaitOutlived waits for so long into the successor's term that none of before may
// act any more.
func (a *arena) awaitOutlived(t *testing.T, now act) {
	t.Helper()
	a.awaitLeader(t, a.awaitSuccessor(t, now.Token).Checked+int64(unnoticed))
}

// recordDeleted deletes a whole election, as often as somebody puts something in.
func recordDeleted(t *testing.T, a *arena, _ *wrapped, now act) func() {
	await(t, "the record to be gone", func() bool {
		children, _, err := a.direct.Children(record)
		for _, child := range children {
			_ = a.direct.Delete(record+"/"+child, -1) // somebody may have been faster
		}
		return err == zk.ErrNoNode || a.direct.Delete(record, -1) == nil //nolint:errorlint // the client's own value
	})
	a.awaitOutlived(t, now)
	return func() {}
}

// recordRemade makes the record anew between a candidate's read and its write, again
// and again, once its owner is gone. All of it or nothing: whoever owns the lock by
// then keeps the record from being deleted, so that no leader is hurt.
func recordRemade(t *testing.T, a *arena, c *wrapped, now act) func() {
	others := slices.DeleteFunc(slices.Clone(a.candidates), func(o *wrapped) bool { return o == c })
	for _, o := range others {
		check(t, o.links.All(func(l *lab.Link) error { return l.Slow(30 * time.Millisecond) }))
	}
	check(t, c.process.Kill())
	made := 0
	await(t, "the record to be made anew, or a successor", func() bool {
		children, _, err := a.direct.Children(record)
		if err != nil || slices.Contains(children, "owner") {
			return made > 0
		}
		var ops []any
		for _, child := range children {
			ops = append(ops, &zk.DeleteRequest{Path: record + "/" + child, Version: -1})
		}
		ops = append(ops, &zk.DeleteRequest{Path: record, Version: -1}, &zk.CreateRequest{Path: record, Acl: zk.WorldACL(zk.PermAll)})
		if _, err := a.direct.Multi(ops...); err == nil {
			made++
		}
		return made == 20
	})
	a.awaitSuccessor(t, now.Token)
	return func() {
		for _, o := range others {
			check(t, o.links.All((*lab.Link).Restore))
		}
		a.start(t, c)
	}
}
