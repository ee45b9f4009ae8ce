package leaderelection

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/quorate/quorate/leaderelection/zookeeper"
)

// run writes proofs until the session is over, or ctx ends.
func (li *life) run(ctx context.Context) {
	type outcome struct {
		sent time.Time
		conn uint64
		err  error
	}
	answer := make(chan outcome, 1)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-li.Ended():
			return
		case <-timer.C:
			li.spawn(func() {
				sent, conn := time.Now(), li.Connection()
				err := li.prove(ctx)
				if conn != li.Connection() {
					conn = 0 // it is not known through which it came
				}
				answer <- outcome{sent, conn, err}
			})
		case o := <-answer:
			next := li.interval - time.Since(o.sent)
			if o.err != nil {
				li.log.V(2).Info("Session was not proven", "err", o.err)
				next = min(next, li.interval/10)
			} else {
				li.noteProof(o.sent, o.conn)
			}
			timer.Reset(max(next, time.Millisecond))
		}
	}
}

// prove makes one quorum write under the session. A server that does not answer for
// a third of the timeout is left for another.
func (li *life) prove(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, li.Timeout()/3)
	defer cancel()
	begin := time.Now()
	_, err := li.direct.Multi(ctx, &zookeeper.Set{Path: li.node, Version: zookeeper.AnyVersion})
	if errors.Is(err, zookeeper.ErrNoNode) {
		// An administrator took it away; a session that is over gets another answer.
		_, err = li.direct.Multi(ctx, &zookeeper.Create{Path: li.node, Ephemeral: true})
	}
	li.metrics.observe(opProof, begin, err)
	if errors.Is(ctx.Err(), context.DeadlineExceeded) && err != nil {
		li.Reconnect()
	}
	return err
}

// noteProof moves the deadline, and that of every term that was looked at through
// the same connection and has no event waiting.
func (li *life) noteProof(sent time.Time, conn uint64) {
	li.mu.Lock()
	defer li.mu.Unlock()
	li.renegotiate()
	li.ledger.prove(sent)
	li.newest, li.took = sent, time.Since(sent)
	deadline := li.ledger.deadline()
	for t := range li.terms {
		t.extend(deadline, conn)
	}
	close(li.proven)
	li.proven = make(chan struct{})
}

// renegotiate the deadlines: at a reconnect a server may have granted less than was
// granted before, and counts by that. Needs li.mu.
func (li *life) renegotiate() {
	granted := li.Timeout()
	if granted >= li.ledger.timeout {
		return
	}
	li.log.Info("ZooKeeper grants a shorter session timeout than before", "before", li.ledger.timeout, "granted", granted)
	li.ledger.timeout = granted
	deadline := li.ledger.deadline()
	for t := range li.terms {
		t.curtail(deadline)
	}
}

// budgetFor an elector, by the least that was granted.
func (li *life) budgetFor(reserve time.Duration) budget {
	li.mu.Lock()
	defer li.mu.Unlock()
	li.renegotiate()
	return budget{timeout: li.ledger.timeout, tick: li.tick, interval: li.interval, reserve: reserve}
}

// admit a term that was won just now, with the session's deadline.
func (li *life) admit(t *Term) {
	li.mu.Lock()
	defer li.mu.Unlock()
	li.renegotiate()
	t.deadline = li.ledger.deadline()
	li.terms[t] = struct{}{}
}

// deadline of the session, and a channel that is closed when it next moves.
func (li *life) deadline() (time.Time, <-chan struct{}) {
	li.mu.Lock()
	defer li.mu.Unlock()
	li.renegotiate()
	return li.ledger.deadline(), li.proven
}

// age of the newest proof.
func (li *life) age() time.Duration {
	li.mu.Lock()
	defer li.mu.Unlock()
	return time.Since(li.newest)
}

// tooSlow says why a session whose proofs are answered has nobody lead.
func (li *life) tooSlow(b budget) error {
	li.mu.Lock()
	defer li.mu.Unlock()
	return fmt.Errorf("%w: for %v no proof of the session has left the %v that an acquire needs: the answer to the newest proof took %v, and of a session timeout of %v the elector takes %v to stop: lengthen the session timeout, or shorten the elector's durations",
		ErrPastDeadline, b.timeout, b.fresh(), li.took.Round(time.Millisecond), b.timeout, b.reserve)
}
