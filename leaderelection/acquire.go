package leaderelection

import (
	"context"
	"errors"
	"fmt"
	"path"
	"time"

	"github.com/google/uuid"
	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"github.com/quorate/quorate/leaderelection/zookeeper"
)

// attempt to acquire, which goes on until it is known how it ended, whoever waits.
type attempt struct {
	life   *life
	claim  string
	record resourcelock.LeaderElectionRecord
	exists bool  // the record, when last seen
	expect int32 // its version
	queue  string

	abandoned bool // guarded by Lock.mu: nobody waits for it
}

// acquire the lock as the record that was seen last allows it.
func (l *Lock) acquire(ctx context.Context, r resourcelock.LeaderElectionRecord, v *view) error {
	begin := time.Now()
	err := l.tryAcquire(ctx, r, v)
	l.metrics.observe(opAcquire, begin, err)
	if err != nil {
		l.keepPlace()
	}
	return l.asAPI("acquire", err)
}

func (l *Lock) tryAcquire(ctx context.Context, r resourcelock.LeaderElectionRecord, v *view) error {
	if want := int(l.cfg.LeaseDuration / time.Second); r.LeaseDurationSeconds != want {
		return fmt.Errorf("record's lease duration is %d s, the lock was made for %d s", r.LeaseDurationSeconds, want)
	}
	if err := v.life.budgetFor(l.reserve).check(); err != nil {
		return err
	}
	if err := l.awaitFresh(ctx, v.life); err != nil {
		return err
	}
	if !v.exists {
		if err := makeDirs(ctx, v.life, path.Dir(l.layout.record)); err != nil {
			return err
		}
	}
	l.stopKeeper()
	a := &attempt{life: v.life, claim: uuid.NewString(), record: r, exists: v.exists, expect: v.version}
	l.mu.Lock()
	if l.refusing() {
		l.mu.Unlock()
		return ErrTermOver
	}
	if l.place != nil && l.place.life == v.life {
		a.queue = l.place.node
		l.place.taken = true
	}
	l.mu.Unlock()
	a.life.claim(a.claim)
	done := make(chan error, 1)
	if !a.life.spawn(func() { done <- l.win(a) }) {
		return ErrSessionEnded
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return l.abandon(ctx, a)
	}
}

// awaitFresh waits until the session is proven well enough to lead for a while: for a
// session timeout, lest nobody hears of proofs that take too long ever to do.
func (l *Lock) awaitFresh(ctx context.Context, li *life) error {
	b := li.budgetFor(l.reserve)
	patience := time.NewTimer(b.timeout)
	defer patience.Stop()
	for {
		deadline, proven := li.deadline()
		if time.Until(deadline)-l.reserve >= b.fresh() {
			return nil
		}
		select {
		case <-proven:
		case <-li.Ended():
			return ErrSessionEnded
		case <-patience.C:
			return li.tooSlow(b)
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ErrPastDeadline, context.Cause(ctx))
		}
	}
}

// abandon an attempt whose caller does not wait any more. If it wins, or has won
// just now, it is given back.
func (l *Lock) abandon(ctx context.Context, a *attempt) error {
	l.mu.Lock()
	a.abandoned = true
	t := l.term
	l.mu.Unlock()
	if t != nil && t.claim == a.claim {
		return nil // it was won in the nick of time
	}
	return fmt.Errorf("%w: %w", ErrUnsure, context.Cause(ctx))
}

// win makes the attempt, and the term if it succeeds.
func (l *Lock) win(a *attempt) error {
	token, version, err := l.write(a)
	if err != nil {
		a.life.disclaim(a.claim)
		return err
	}
	t := &Term{
		lock: l, life: a.life, token: token, claim: a.claim, version: version, renewed: time.Now(),
		lost: make(chan struct{}), over: make(chan struct{}), gone: make(chan struct{}), proven: make(chan struct{}),
	}
	if !l.managed {
		t.grace = l.cfg.StopTime
	}
	return l.begin(t, a)
}

// begin a term, or give it back at once if nobody waits for it any more, or its answer
// came past the deadline: for the elector it never was.
func (l *Lock) begin(t *Term, a *attempt) error {
	t.life.admit(t)
	l.mu.Lock()
	late := t.Valid()
	unwanted := a.abandoned || late != nil
	l.record = a.record
	if !unwanted {
		l.warnOfOldData(t)
		l.metrics.acquired.Inc()
		l.metrics.leading(l, true) // before anybody can end the term
		l.term = t
		l.place = nil // but an unwanted attempt's may be another by now
	}
	l.mu.Unlock()
	if unwanted {
		t.grace = 0
		t.lose(ErrReleased)
	} else {
		l.log.Info("Acquired the lock", "token", t.token)
	}
	if !t.life.spawn(t.watch) {
		t.lose(ErrSessionEnded)
		close(t.gone)
	}
	return late
}

// warnOfOldData where tokens have gone back, as they do when the ensemble has lost
// its data or was restored from older.
func (l *Lock) warnOfOldData(t *Term) {
	if l.term != nil && t.token <= l.term.token {
		l.metrics.wentBack.Inc()
		l.log.Info("ZooKeeper has lost data: fencing tokens have gone back", "token", t.token, "before", l.term.token)
	}
}

// write the attempt: one multi, repeated just as it is while its outcome is not
// known. Another name in the second would meet the first one's owner.
func (l *Lock) write(a *attempt) (token int64, version int32, err error) {
	ctx, unsure := a.life.ctx, false
	for {
		ops, set := l.acquisition(a)
		results, err := a.life.Multi(ctx, ops...)
		switch {
		case err == nil:
			return results[set].Stat.Mzxid, results[set].Stat.Version, nil
		case retriable(err):
			unsure = true
		case !refused(err):
			return 0, 0, err
		case !unsure && a.queue != "" && len(results) == len(ops) && results[len(ops)-1].Err != nil:
			a.queue = "" // somebody took our place away
			continue
		case !unsure:
			return 0, 0, err
		default:
			won, token, version, lookErr := a.landed(ctx, l.layout)
			if lookErr == nil && won {
				return token, version, nil
			}
			if lookErr == nil || !retriable(lookErr) {
				// Of an attempt that had won and lost its owner since, the claim is left.
				return 0, 0, errors.Join(err, deleteNode(ctx, a.life, l.layout.claim(a.claim)))
			}
		}
		if !pause(ctx, a.life) {
			return 0, 0, errors.Join(ErrSessionEnded, err)
		}
	}
}

// acquisition is the multi that wins, or fails as a whole. The owner's fixed name
// keeps a second one out; the record's version keeps out whoever has read what is
// old; the session's node keeps out a write that was made under another session.
// The answer to set tells the zxid.
func (l *Lock) acquisition(a *attempt) (ops []zookeeper.Op, set int) {
	ops = append(ops, &zookeeper.Check{Path: a.life.node, Version: zookeeper.AnyVersion})
	data, expect := encode(a.record), a.expect
	if !a.exists {
		ops = append(ops, &zookeeper.Create{Path: l.layout.record})
		expect = 0
	}
	set = len(ops)
	ops = append(ops,
		&zookeeper.Set{Path: l.layout.record, Data: data, Version: expect},
		&zookeeper.Create{Path: l.layout.owner(), Data: encode(ownerData{Holder: l.identity, Claim: a.claim}), Ephemeral: true},
		&zookeeper.Create{Path: l.layout.claim(a.claim), Data: []byte(l.identity), Ephemeral: true})
	if a.queue != "" {
		ops = append(ops, &zookeeper.Delete{Path: a.queue, Version: zookeeper.AnyVersion})
	}
	return ops, set
}

// landed reads whether an attempt of unknown outcome has won: its claim, which no
// other attempt has, and the owner are of this session.
func (a *attempt) landed(ctx context.Context, at layout) (won bool, token int64, version int32, err error) {
	_, claim, err := a.life.Get(ctx, at.claim(a.claim))
	if errors.Is(err, zookeeper.ErrNoNode) {
		return false, 0, 0, nil
	}
	if err != nil {
		return false, 0, 0, err
	}
	_, record, err := a.life.Get(ctx, at.record)
	if err != nil {
		return false, 0, 0, err
	}
	_, owner, err := a.life.Get(ctx, at.owner())
	if err != nil {
		return false, 0, 0, err
	}
	mine := claim.EphemeralOwner == a.life.SessionID() && owner.EphemeralOwner == a.life.SessionID()
	return mine && owner.Czxid == claim.Czxid, owner.Czxid, record.Version, nil
}
