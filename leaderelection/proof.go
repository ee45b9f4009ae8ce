package leaderelection

import (
	"fmt"
	"time"
)

// ledger is what a session knows of its own life: pure arithmetic on sending
// times, which only grow.
//
// A leader of ZooKeeper hears of a session from its followers' ping replies, every
// half tick, and not from the writes that they forward: an answered write sent at s
// does not prove that the session lives until s + timeout. It does once another
// answered write, sent at least a tick later, shows that the follower was still
// there to pass s on, or that the session moved, which the leader hears of too.
// The opening of the session is the leader's own doing, and proves itself.
type ledger struct {
	timeout time.Duration
	tick    time.Duration
	sigma   time.Time   // newest sending time that the leader is known to know of
	waiting []time.Time // answered, after sigma, not followed a tick later yet
}

// newLedger of a session that was asked for at opened.
func newLedger(opened time.Time, timeout, tick time.Duration) ledger {
	return ledger{timeout: timeout, tick: tick, sigma: opened}
}

// prove notes that a write sent at sent was answered. Sending times older than
// those noted already prove nothing new.
func (l *ledger) prove(sent time.Time) {
	n := 0
	for n < len(l.waiting) && !l.waiting[n].Add(l.tick).After(sent) {
		l.sigma = l.waiting[n]
		n++
	}
	l.waiting = l.waiting[n:]
	if len(l.waiting) == 0 || l.waiting[len(l.waiting)-1].Before(sent) {
		l.waiting = append(l.waiting, sent)
	}
}

// deadline before which the server cannot have ended the session.
func (l *ledger) deadline() time.Time { return l.sigma.Add(l.timeout - l.tick) }

// budget is whether a session timeout leaves an elector the time to stop.
type budget struct {
	timeout  time.Duration // granted by the server
	tick     time.Duration
	interval time.Duration // between two proofs
	reserve  time.Duration // that the elector needs before the deadline, to stop
}

// proofLimit is the age of the newest proof at which calls fail, while proofs come
// steadily.
func (b budget) proofLimit() time.Duration { return b.timeout - b.lag() - b.tick - b.reserve }

// lag of what is proven behind the newest proof, while proofs come steadily: the
// first of them that is a tick older, or more.
func (b budget) lag() time.Duration {
	n := max(1, (b.tick+b.interval-1)/max(b.interval, 1))
	return n * b.interval
}

// proofs is how long the session must last for them: the newest lags, and two may be
// late.
func (b budget) proofs() time.Duration { return b.lag() + 2*b.interval }

// fresh is how much of the time before calls fail a session must have for an acquire:
// steady proofs leave it twice.
func (b budget) fresh() time.Duration { return min(b.proofLimit(), 2*b.interval) / 2 }

// need is the shortest session timeout that will do.
func (b budget) need() time.Duration { return b.reserve + b.proofs() + b.tick }

// check that two proofs may be late before leadership is lost for it.
func (b budget) check() error {
	if b.timeout >= b.need() {
		return nil
	}
	return fmt.Errorf("%w: the server granted %v, but stopping takes %v, three proofs %v and a tick %v: want at least %v",
		ErrBudget, b.timeout, b.reserve, b.proofs(), b.tick, b.need())
}

// reserveOf an elector: how long before the deadline its calls must begin to fail.
// A bare LeaderElector that renewed just before goes on for a retry period and a
// renew deadline.
func reserveOf(cfg *Config, managed bool) time.Duration {
	if managed {
		return cfg.StopTime
	}
	return cfg.StopTime + cfg.RetryPeriod + cfg.RenewDeadline
}
