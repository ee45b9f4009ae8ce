package leaderelection

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/quorate/quorate/leaderelection/zookeeper"
)

// Term is one stretch of leadership. It ends once, and never begins again: a
// process that leads a second time has another Term with a higher Token.
type Term struct {
	lock  *Lock
	life  *life
	token int64
	claim string
	lost  chan struct{}
	over  chan struct{} // the elector, or Run's work, has stopped
	gone  chan struct{} // its nodes are given back, or left to the session's end
	grace time.Duration // that its work has to stop before they are given back

	freeErr error // why they were not given back; read after gone is closed

	mu       sync.Mutex // guards below
	err      error
	ended    time.Time // with err; zero after a release
	version  int32     // of the record, as the acquire left it
	deadline time.Time
	renewed  time.Time // the elector last renewed
	proven   chan struct{}
	looked   uint64            // connection through which the nodes were last looked at
	watched  []<-chan struct{} // of that look
	stopped  bool              // over is closed
}

// Token is the fencing token: the zxid of the transaction that gave this process
// the lock, which is the czxid of the owner node for anyone to read. A later term
// of any process has a higher one.
func (t *Term) Token() int64 { return t.token }

// Identity of the leader, as in the record.
func (t *Term) Identity() string { return t.lock.Identity() }

// Lost is closed as soon as the term is over, for whatever reason, a release
// included. Work must have stopped within the lock's stop time from then.
func (t *Term) Lost() <-chan struct{} { return t.lost }

// Err is nil while the term lasts, and then why it ended.
func (t *Term) Err() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err
}

// Deadline is the moment, on this process's monotonic clock, by which all work of
// the term must have stopped unless a later proof moves it: before it the server
// cannot have ended the session. It is counted from the *sending* of the write
// that proves it, so that whoever is told late is not told wrong. A guardian in
// another process must be handed what remains, and count that from before it
// asked.
func (t *Term) Deadline() time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.deadline
}

// Proven is closed when Deadline next moves.
func (t *Term) Proven() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.proven
}

// left is how long calls go on being answered.
func (t *Term) left() time.Duration { return time.Until(t.Deadline()) - t.lock.reserve }

// renew is the elector's word that it is there. It asks nobody: the session's
// proofs do.
func (t *Term) renew() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.valid(); err != nil {
		return err
	}
	t.renewed = time.Now()
	return nil
}

// Valid is nil while the term lasts and its deadline leaves the time to stop. Look
// right before each act: a context is cancelled late where CPU is short.
func (t *Term) Valid() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.valid()
}

func (t *Term) valid() error {
	if t.err != nil {
		return t.err
	}
	if left := time.Until(t.deadline) - t.lock.reserve; left <= 0 {
		return fmt.Errorf("%w: by %v", ErrPastDeadline, -left)
	}
	return nil
}

// extend the deadline by a proof that came through a connection. Not if that is not
// known (0), if the nodes were not looked at through it, or if an event waits that may
// say that they are gone.
func (t *Term) extend(deadline time.Time, conn uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err != nil || conn == 0 || conn != t.looked || !deadline.After(t.deadline) {
		return
	}
	for _, w := range t.watched {
		select {
		case <-w:
			return
		default:
		}
	}
	t.move(deadline)
}

// curtail the deadline, if it is later.
func (t *Term) curtail(deadline time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if deadline.Before(t.deadline) {
		t.move(deadline)
	}
}

// move the deadline, and say so. Needs t.mu.
func (t *Term) move(deadline time.Time) {
	t.deadline = deadline
	close(t.proven)
	t.proven = make(chan struct{})
}

// lose ends the term, once.
func (t *Term) lose(why error) {
	t.mu.Lock()
	if t.err != nil {
		t.mu.Unlock()
		return
	}
	t.err = why
	t.lock.metrics.leading(t.lock, false)
	if !errors.Is(why, ErrReleased) {
		t.ended = time.Now()
		t.lock.metrics.lost.Inc()
	}
	close(t.lost) // last: whoever is told finds all the rest done
	t.mu.Unlock()
	t.life.mu.Lock()
	delete(t.life.terms, t)
	t.life.mu.Unlock()
	t.lock.termLost(t, why)
}

// stop says that whoever acted under the term has stopped.
func (t *Term) stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.stopped {
		t.stopped = true
		close(t.over)
	}
}

// watch ends the term when it must end, and gives it back. It is the term's one
// goroutine.
func (t *Term) watch() {
	defer close(t.gone)
	defer t.life.disclaim(t.claim)
	t.lose(t.await(t.life.ctx))
	if t.freeErr = t.giveBack(t.life.ctx); t.freeErr != nil {
		t.life.log.V(2).Info("Lock was not given back, the session's end will", "lock", t.lock.Describe(), "err", t.freeErr)
	}
}

// await why the term is over.
func (t *Term) await(ctx context.Context) error {
	timer := time.NewTimer(t.next())
	defer timer.Stop()
	for {
		watched, err := t.look(ctx)
		if err != nil {
			return err
		}
		timer.Reset(t.next()) // another connection may have brought the deadline forward
	waiting:
		for {
			select {
			case <-t.lost:
				return t.Err()
			case <-t.life.Ended():
				return fmt.Errorf("%w: %w", ErrSessionEnded, t.life.Err())
			case <-ctx.Done():
				return ErrSessionEnded
			case <-watched[0]:
				break waiting
			case <-watched[1]:
				break waiting
			case <-watched[2]:
				break waiting
			case <-timer.C:
				if err := t.due(); err != nil {
					return err
				}
				timer.Reset(t.next())
			}
		}
	}
}

// next is when due must be asked again.
func (t *Term) next() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	next := time.Until(t.deadline) - t.lock.reserve
	if !t.lock.managed {
		next = min(next, time.Until(t.renewed.Add(t.lock.cfg.LeaseDuration)))
	}
	return max(next, time.Millisecond)
}

// due is why the term ends by the clock, or nil.
func (t *Term) due() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if time.Until(t.deadline) <= t.lock.reserve {
		return fmt.Errorf("%w: last sent %v ago", ErrPastDeadline, time.Since(t.deadline.Add(t.life.tick-t.life.Timeout())).Round(time.Millisecond))
	}
	if !t.lock.managed && time.Since(t.renewed) >= t.lock.cfg.LeaseDuration {
		return fmt.Errorf("%w for %v", ErrStuck, t.lock.cfg.LeaseDuration)
	}
	return nil
}

// look at the nodes, and watch them, until it is done through one connection that was
// granted enough. While it can't be done the deadline does not move, and ends the term.
func (t *Term) look(ctx context.Context) ([]<-chan struct{}, error) {
	for {
		conn := t.life.Connection()
		if err := t.life.budgetFor(t.lock.reserve).check(); err != nil {
			return nil, err
		}
		watched, err := t.lookOnce(ctx)
		if err == nil && conn == t.life.Connection() {
			t.mu.Lock()
			t.looked, t.watched = conn, watched
			t.mu.Unlock()
			return watched, nil
		}
		// The deadline may be past just because the connection was granted too little.
		if err := errors.Join(t.Err(), t.life.budgetFor(t.lock.reserve).check(), t.due()); err != nil {
			return nil, err
		}
		if err != nil && !retriable(err) {
			return nil, err
		}
		if err != nil && !pause(ctx, t.life) {
			return nil, fmt.Errorf("%w: %w", ErrSessionEnded, t.life.Err())
		}
	}
}

func (t *Term) lookOnce(ctx context.Context) ([]<-chan struct{}, error) {
	ctx, cancel := context.WithTimeout(ctx, max(t.left(), time.Millisecond))
	defer cancel()
	at := t.lock.layout
	owner, exists, ownerChanged, err := t.life.Watch(ctx, at.owner())
	if err != nil {
		return nil, err
	}
	if !exists || owner.EphemeralOwner != t.life.SessionID() || owner.Czxid != t.token {
		return nil, fmt.Errorf("%w: %s", ErrOwnerGone, at.owner())
	}
	claim, exists, claimChanged, err := t.life.Watch(ctx, at.claim(t.claim))
	if err != nil {
		return nil, err
	}
	if !exists || claim.EphemeralOwner != t.life.SessionID() {
		return nil, fmt.Errorf("%w: %s", ErrOwnerGone, at.claim(t.claim))
	}
	_, exists, resignChanged, err := t.life.Watch(ctx, at.resign())
	if err != nil {
		return nil, err
	}
	if exists {
		if err := t.askedToResign(ctx); err != nil {
			return nil, err
		}
	}
	return []<-chan struct{}{ownerChanged, claimChanged, resignChanged}, nil
}

// askedToResign is ErrResigned if the request is for this term.
func (t *Term) askedToResign(ctx context.Context) error {
	data, _, err := t.life.Get(ctx, t.lock.layout.resign())
	switch {
	case errors.Is(err, zookeeper.ErrNoNode):
		return nil
	case err != nil:
		return err
	case string(data) == strconv.FormatInt(t.token, 10):
		return ErrResigned
	}
	return nil
}

type termKey struct{}

// TermFrom returns the term that a context of Run's OnStartedLeading belongs to,
// or nil.
func TermFrom(ctx context.Context) *Term {
	t, _ := ctx.Value(termKey{}).(*Term)
	return t
}
