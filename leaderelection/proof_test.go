package leaderelection

import (
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// world is a slow model of what ZooKeeper does with a session's writes. The leader
// learns of them from the ping replies of the follower that the client talks to,
// every half tick, and from a session that moves to another follower.
type world struct {
	timeout, tick time.Duration
	phase         time.Duration // of the ping replies, less than half a tick
	moves         time.Duration // when the follower dies and the client finds another
	writes        []time.Duration
}

func drawWorld(t *rapid.T) world {
	ms := func(name string, from, to int) time.Duration {
		return time.Duration(rapid.IntRange(from, to).Draw(t, name)) * time.Millisecond
	}
	w := world{tick: ms("tick", 10, 100)}
	w.timeout = w.tick * time.Duration(rapid.IntRange(2, 20).Draw(t, "ticks"))
	w.phase = ms("phase", 0, 49) % (w.tick / 2) // the first reply is no later than any other
	w.moves = ms("moves", 0, 1000)
	at := time.Duration(0)
	for range rapid.IntRange(0, 20).Draw(t, "n") {
		at += ms("gap", 0, 150)
		w.writes = append(w.writes, at)
	}
	return w
}

// expiry of a session that was opened at 0: the timeout after the leader last heard
// of it, if all that follows the writes is silence. A follower's ping reply tells
// of the writes since its last; it dies at w.moves, and its last words are lost.
func (w world) expiry(answered []time.Duration) time.Duration {
	touched := time.Duration(0)
	for _, s := range answered {
		if s < w.moves {
			reply := w.phase
			for reply < s {
				reply += w.tick / 2
			}
			if reply < w.moves {
				touched = max(touched, reply)
			}
			continue
		}
		// Whoever moves is told of at once. What follows there is lost, too: the
		// second follower is as mortal as the first, right after answering.
		touched = max(touched, w.moves)
		for reply := w.moves; reply <= answered[len(answered)-1]; reply += w.tick / 2 {
			if reply >= s {
				touched = max(touched, reply)
			}
		}
	}
	return touched + w.timeout
}

func TestDeadlineIsNeverAfterExpiry(t *testing.T) {
	origin := time.Now()
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		l := newLedger(origin, w.timeout, w.tick)
		for i, s := range w.writes {
			l.prove(origin.Add(s))
			if end := origin.Add(w.expiry(w.writes[:i+1])); l.deadline().After(end) {
				t.Fatalf("after the write sent at %v the deadline is %v, but the session may end at %v", s, l.deadline().Sub(origin), end.Sub(origin))
			}
		}
	})
}

// The rule that a write proves "alive until sent + timeout" is what everybody would
// write. The model must catch it, or it proves nothing about ours.
func TestModelCatchesTheNaiveRule(t *testing.T) {
	w := world{timeout: time.Second, tick: 100 * time.Millisecond, phase: 40 * time.Millisecond, moves: 61 * time.Millisecond,
		writes: []time.Duration{10 * time.Millisecond, 60 * time.Millisecond}}
	naive := w.writes[1] + w.timeout
	if got := w.expiry(w.writes); got >= naive {
		t.Fatalf("session ends at %v, not before %v", got, naive)
	}
}

func TestDeadlineFollowsSteadyProofs(t *testing.T) {
	const timeout, tick, interval = 30 * time.Second, 2 * time.Second, 2 * time.Second
	origin := time.Now()
	l := newLedger(origin, timeout, tick)
	var last time.Time
	for i := range 10 {
		last = origin.Add(time.Duration(i) * interval)
		l.prove(last)
	}
	if got, want := l.deadline(), last.Add(timeout-interval-tick); !got.Equal(want) {
		t.Errorf("deadline is %v after the last proof, want %v", got.Sub(last), want.Sub(last))
	}
	if len(l.waiting) > 2 {
		t.Errorf("ledger keeps %d times", len(l.waiting))
	}
}

// After a gap the next proof alone does not move the deadline: what the leader
// heard of it is not known.
func TestGapProvesLess(t *testing.T) {
	const timeout, tick = 30 * time.Second, 2 * time.Second
	origin := time.Now()
	l := newLedger(origin, timeout, tick)
	l.prove(origin.Add(20 * time.Second))
	if got, want := l.deadline(), origin.Add(timeout-tick); !got.Equal(want) {
		t.Errorf("one proof after a gap moved the deadline to %v, want %v", got.Sub(origin), want.Sub(origin))
	}
	l.prove(origin.Add(22 * time.Second))
	if got, want := l.deadline(), origin.Add(20*time.Second+timeout-tick); !got.Equal(want) {
		t.Errorf("the second moved it to %v, want %v", got.Sub(origin), want.Sub(origin))
	}
}

func TestBudgetNamesItsNumbers(t *testing.T) {
	cfg := Config{}
	cfg.complete()
	b := budget{timeout: 21 * time.Second, tick: 2 * time.Second, interval: 2 * time.Second, reserve: reserveOf(&cfg, false)}
	err := b.check()
	if !errors.Is(err, ErrBudget) {
		t.Fatalf("the default elector's 14 s to stop fit into a session of 21 s: %v", err)
	}
	want := "session timeout too short for the elector: the server granted 21s, but stopping takes 14s, three proofs 6s and a tick 2s: want at least 22s"
	if err.Error() != want {
		t.Errorf("got %q\nwant %q", err, want)
	}
	b.timeout = b.need()
	if err := b.check(); err != nil {
		t.Error(err)
	}
	b.reserve = reserveOf(&cfg, true)
	if got := b.need(); got != 10*time.Second {
		t.Errorf("Run needs %v, want 10s", got)
	}
}

// Whatever a budget allows, steady proofs leave an acquire the time that it waits for,
// also when their answers take half an interval: or nobody would ever lead.
func TestBudgetLeavesTimeToAcquire(t *testing.T) {
	origin := time.Now()
	rapid.Check(t, func(t *rapid.T) {
		ms := func(name string, least, most int) time.Duration {
			return time.Duration(rapid.IntRange(least, most).Draw(t, name)) * time.Millisecond
		}
		b := budget{tick: ms("tick", 100, 3000), interval: ms("interval", 10, 3000), reserve: ms("reserve", 0, 20_000)}
		b.timeout = b.need() + ms("more", 0, 5000)
		l := newLedger(origin, b.timeout, b.tick)
		var sent time.Time
		for i := range 3 + int(b.lag()/b.interval) {
			sent = origin.Add(time.Duration(i) * b.interval)
			l.prove(sent)
		}
		if left := l.deadline().Sub(sent.Add(b.interval/2)) - b.reserve; left < b.fresh() {
			t.Fatalf("%v after a proof was sent %v is left, an acquire waits for %v", b.interval/2, left, b.fresh())
		}
	})
}
