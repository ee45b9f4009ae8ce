package election

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/test/lab"
)

// answersOfAcquireLost lets a successor's acquire be made, and its answer be lost.
func answersOfAcquireLost(t *testing.T, a *arena, c *wrapped, now act) func() {
	token, lost := a.loseAnswerOfAcquire(t, c, now)
	for !lost {
		a.heal(t)
		c, now = a.leader(t)
		token, lost = a.loseAnswerOfAcquire(t, c, now)
	}
	// It owns the lock and does not know it: what it asks again must not wait for itself.
	a.awaitAct(t, "a leader", func(x act) bool { return x.Token >= token })
	return func() { a.start(t, c) }
}

// loseAnswerOfAcquire kills the leader, and cuts the others off as soon as one of them
// owns the lock. Lost is whether that one has not heard of it, and false if the leader
// was another before all this.
func (a *arena) loseAnswerOfAcquire(t *testing.T, c *wrapped, now act) (token int64, lost bool) {
	t.Helper()
	others := a.others(c)
	all := func(do func(*lab.Link) error) {
		for _, o := range others {
			check(t, o.links.All(do))
		}
	}
	// One that has no session yet gets none by slow links, and a bare elector's deadlines
	// are too short for them: nobody would be left to acquire.
	moved := false
	await(t, "places of those who stand by", func() bool {
		_, owner, err := a.direct.Exists(record + "/owner")
		moved = err == nil && owner.Czxid != now.Token
		return moved || !slices.ContainsFunc(others, func(o *wrapped) bool { return len(a.places(t, o)) == 0 })
	})
	if moved {
		return 0, false
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

// answersOfQueueingLost lets a standby queue up and not hear of it. It must not queue
// up twice, or it, and all behind it, would wait for a place that nobody has.
func answersOfQueueingLost(t *testing.T, a *arena, c *wrapped, now act) func() {
	const delay = 50 * time.Millisecond
	standby := a.others(c)[0]
	check(t, standby.process.Kill())
	await(t, "the end of its place", func() bool { return len(a.places(t, standby)) == 0 })
	check(t, standby.links.All(func(l *lab.Link) error { return l.Slow(delay) }))
	a.start(t, standby)
	await(t, "a place in the queue", func() bool { return len(a.places(t, standby)) > 0 })
	check(t, standby.links.All((*lab.Link).Cut))
	elapse(t, 2*delay) // what was under way is lost
	check(t, standby.links.All((*lab.Link).Restore))
	check(t, c.process.Kill())
	a.awaitSuccessor(t, now.Token)
	if places := a.places(t, standby); len(places) > 1 {
		t.Errorf("places of one standby: got %v, want one", places)
	}
	return func() { a.start(t, c) }
}

// places of a candidate in the queue.
func (a *arena) places(t *testing.T, c *wrapped) []string {
	t.Helper()
	children, _, err := a.direct.Children(record)
	check(t, err)
	return slices.DeleteFunc(children, func(child string) bool {
		data, _, err := a.direct.Get(record + "/" + child)
		return !strings.HasPrefix(child, "queue-") || err != nil || !strings.HasPrefix(string(data), c.name+"_")
	})
}
