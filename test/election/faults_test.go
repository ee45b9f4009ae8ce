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
		all = slices.Concat(all, longFaultsOfCandidates(), longFaultsOfServers())
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
		{name: "links-to-a-server-cut", hurt: linksToItsServer((*lab.Link).Cut, short)},
		{name: "links-to-a-server-half-open", hurt: linksToItsServer((*lab.Link).DropAnswers, chaosTimeout/2)},
		{name: "answers-of-acquire-lost", hurt: answersOfAcquireLost},
		{name: "write-queued-at-expiry", crash: true, hurt: writeQueuedAtExpiry},
		{name: "owner-deleted", allowed: unnoticed, hurt: deleted(record + "/owner")},
		{name: "record-deleted", allowed: unnoticed, hurt: recordDeleted},
	}
}

// longFaultsOfCandidates are for the long form only.
func longFaultsOfCandidates() []fault {
	return []fault{
		{name: "record-remade", hurt: recordRemade},
		{name: "answers-of-queueing-lost", hurt: answersOfQueueingLost},
		{name: "links-to-a-server-slow", hurt: linksToItsServer(func(l *lab.Link) error { return l.Slow(300 * time.Millisecond) }, long)},
		{name: "links-to-a-server-dropping", hurt: linksToItsServer((*lab.Link).Drop, long)},
	}
}

// linksToItsServer hurts what all candidates have to the server that the holder is
// connected to.
func linksToItsServer(what func(*lab.Link) error, lasting time.Duration) func(*testing.T, *arena, *wrapped, act) func() {
	return func(t *testing.T, a *arena, c *wrapped, _ act) func() {
		server := a.serverOf(t, c)
		for _, o := range a.candidates {
			check(t, what(o.links.Links()[server]))
		}
		elapse(t, lasting)
		return func() {
			for _, o := range a.candidates {
				check(t, o.links.Links()[server].Restore())
			}
		}
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
	others := a.others(c)
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
