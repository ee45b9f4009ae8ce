package leaderelection

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// rereadTime, and up to as much again, is when a blocked Get looks again though
// nothing was notified.
const rereadTime = 30 * time.Second

// Get returns the record. While another leads and ctx has no deadline it blocks
// until this candidate's turn has come or the holder has changed: a LeaderElector
// reports that, and sleeps for a retry period or more before it comes again. Under
// Run, which reports it itself, it blocks until the turn has come.
func (l *Lock) Get(ctx context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	_, bounded := ctx.Deadline()
	if !bounded {
		l.electorStopped()
	}
	if l.Term() != nil {
		return l.own()
	}
	if l.isRefusing() {
		// The elector must not wait for an answer before it stops its work.
		return nil, nil, fmt.Errorf("get %s: %w", l.Describe(), ErrTermOver)
	}
	if bounded {
		return l.getNow(ctx)
	}
	l.stopKeeper()
	v, err := l.await(ctx)
	if err != nil {
		l.keepPlace()
		return nil, nil, l.asAPI("get", err)
	}
	if !v.owned {
		l.keepForTaking()
	} else {
		l.keepPlace()
	}
	return l.forElector(v)
}

// getNow never blocks for another's end: renew and release call with a deadline.
func (l *Lock) getNow(ctx context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	li, _, err := l.cfg.Session.current()
	if err != nil {
		return nil, nil, l.asAPI("get", err)
	}
	for {
		v, err := l.look(ctx, li, false)
		if err == nil && v.stray() {
			if err = l.removeStray(ctx, v); err == nil {
				continue
			}
		}
		if err != nil {
			return nil, nil, l.asAPI("get", err)
		}
		return l.forElector(v)
	}
}

// await a session, and in it our turn or news.
func (l *Lock) await(ctx context.Context) (*view, error) {
	for {
		li, changed, err := l.cfg.Session.current()
		if err == nil {
			var v *view
			if v, err = l.inLine(ctx, l.enter(li), l.wantsNews()); err == nil {
				return v, nil
			}
			if !errors.Is(err, ErrSessionEnded) && !retriable(err) {
				return nil, err
			}
		}
		if ctx.Err() != nil {
			return nil, errors.Join(err, context.Cause(ctx))
		}
		if li != nil && !isOver(li) {
			pause(ctx, li)
			continue
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

func isOver(li *life) bool {
	select {
	case <-li.Ended():
		return true
	default:
		return false
	}
}

// wantsNews is whether anybody is to be told of another holder.
func (l *Lock) wantsNews() bool { return !l.managed || l.news != nil }

// inLine waits until nobody owns the lock and nobody is ahead. If news are wanted, it
// tells a holder that is another than was reported: Run at once, an elector by
// returning. Only the first in line watches the owner; each of the others watches the
// one ahead, and for news the record. Whoever is first stays so, and only looks whether
// there is an owner when that changes: what else an acquire relies on, it checks.
func (l *Lock) inLine(ctx context.Context, p *place, news bool) (*view, error) {
	reread := time.NewTimer(0)
	defer reread.Stop()
	for lost := true; ; {
		reread.Reset(rereadTime + rand.N(rereadTime))
		if lost {
			if err := l.find(ctx, p); err != nil {
				return nil, err
			}
		}
		recordChanged, err := l.watchRecord(ctx, p, news)
		if err != nil {
			return nil, err
		}
		v, err := l.look(ctx, p.life, p.ahead == "")
		if err != nil {
			return nil, err
		}
		lost = true
		if v.stray() {
			if err := l.removeStray(ctx, v); err != nil {
				return nil, err
			}
			continue
		}
		if !v.exists || (!v.owned && p.ahead == "") {
			l.report(v)
			return v, nil
		}
		told, err := l.tell(ctx, p, v, news)
		if told || err != nil {
			return v, err
		}
		if p.node == "" {
			if err := l.ensurePlace(ctx, p); err != nil {
				return nil, err
			}
			continue
		}
		changed, err := l.watchBefore(ctx, p, v)
		if err != nil {
			return nil, err
		}
		l.metrics.standing(l, p.before)
		select {
		case <-changed:
			lost = p.ahead != ""
		case <-recordChanged:
		case <-reread.C:
		case <-p.life.Ended():
			return nil, ErrSessionEnded
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// tell a holder that was not reported yet: Run now, an elector by the Get that is to
// return then.
func (l *Lock) tell(ctx context.Context, p *place, v *view, news bool) (bool, error) {
	if !news || !v.owned || l.reportedHolder() == v.holder(l) {
		return false, nil
	}
	if l.managed {
		l.report(v)
		l.news(v.holder(l))
		return false, nil
	}
	if err := l.ensurePlace(ctx, p); err != nil {
		return false, err
	}
	l.report(v) // once it is sure to be returned
	return true, nil
}

// watchBefore is a channel that is closed when who is before this candidate goes: the
// owner, which look has watched, or the candidate ahead.
func (l *Lock) watchBefore(ctx context.Context, p *place, v *view) (<-chan struct{}, error) {
	if p.ahead == "" {
		return v.changed, nil
	}
	_, exists, changed, err := p.life.Watch(ctx, p.ahead)
	if err == nil && !exists {
		return closed, nil
	}
	return changed, err
}

// watchRecord for a change of the holder, which writes it, unless the owner is watched.
func (l *Lock) watchRecord(ctx context.Context, p *place, news bool) (<-chan struct{}, error) {
	if !news || p.ahead == "" {
		return nil, nil
	}
	_, _, changed, err := p.life.Watch(ctx, l.layout.record)
	return changed, err
}

func (l *Lock) reportedHolder() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.reported
}

func (l *Lock) report(v *view) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reported = v.holder(l)
}
