package leaderelection

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"github.com/quorate/quorate/leaderelection/zookeeper"
)

const (
	// takeTime is how long a free lock is kept for the elector that was told of it.
	takeTime = time.Second
	// rereadTime, and up to as much again, is when a blocked Get looks again though
	// nothing was notified.
	rereadTime = 30 * time.Second
)

// place of a candidate in the queue of standbys.
type place struct {
	life   *life
	guid   string
	node   string // empty until the queue node exists
	taken  bool   // an acquire deletes it
	cancel context.CancelFunc
	done   chan struct{} // the keeper has stopped; nil: there is none
}

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
	v, err := l.look(ctx, li, false)
	if err != nil {
		return nil, nil, l.asAPI("get", err)
	}
	return l.forElector(v)
}

// await a session, and in it our turn or news.
func (l *Lock) await(ctx context.Context) (*view, error) {
	for {
		li, changed, err := l.cfg.Session.current()
		if err == nil {
			var v *view
			if v, err = l.inLine(ctx, li, l.enter(li), l.wantsNews()); err == nil {
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
			if !pause(ctx, li) {
				continue
			}
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

// enter the queue of a session, or go on in it.
func (l *Lock) enter(li *life) *place {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.place == nil || l.place.life != li || l.place.taken {
		l.place = &place{life: li, guid: uuid.NewString()}
	}
	return l.place
}

// wantsNews is whether anybody is to be told of another holder.
func (l *Lock) wantsNews() bool { return !l.managed || l.news != nil }

// inLine waits until nobody owns the lock and nobody is ahead. If news are wanted, it
// tells a holder that is another than was reported: Run at once, an elector by
// returning. Only the first in line watches the owner; each of the others watches the
// one ahead.
func (l *Lock) inLine(ctx context.Context, li *life, p *place, news bool) (*view, error) {
	reread := time.NewTimer(0)
	defer reread.Stop()
	for {
		reread.Reset(rereadTime + rand.N(rereadTime))
		recordChanged, err := l.watchRecord(ctx, li, news)
		if err != nil {
			return nil, err
		}
		ahead, position, err := l.ahead(ctx, li, p)
		if err != nil {
			return nil, err
		}
		v, err := l.look(ctx, li, ahead == "")
		if err != nil {
			return nil, err
		}
		if v.stray() {
			if err := l.removeStray(ctx, v); err != nil {
				return nil, err
			}
			continue
		}
		if news && v.owned && l.reportedHolder() != v.holder(l) {
			if !l.managed {
				if err := l.ensurePlace(ctx, li, p); err != nil {
					return nil, err
				}
				l.report(v) // once it is sure to be returned
				return v, nil
			}
			l.report(v)
			l.news(v.holder(l))
		}
		if !v.exists || (!v.owned && ahead == "") {
			l.report(v)
			return v, nil
		}
		if p.node == "" {
			if err := l.ensurePlace(ctx, li, p); err != nil {
				return nil, err
			}
			continue
		}
		l.metrics.standing(l, position)
		changed := v.changed
		if ahead != "" {
			_, exists, gone, err := li.Watch(ctx, l.layout.child(ahead))
			if err != nil {
				return nil, err
			}
			if !exists {
				continue
			}
			changed = gone
		}
		select {
		case <-changed:
		case <-recordChanged:
		case <-reread.C:
		case <-li.Ended():
			return nil, ErrSessionEnded
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// watchRecord for a change of the holder, which writes it.
func (l *Lock) watchRecord(ctx context.Context, li *life, news bool) (<-chan struct{}, error) {
	if !news {
		return nil, nil
	}
	_, _, changed, err := li.Watch(ctx, l.layout.record)
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

// ahead is the node of the candidate right before this one, empty if it is the
// first, and how many are before it. Nodes of this place but its first are deleted:
// they come of creations that were repeated.
func (l *Lock) ahead(ctx context.Context, li *life, p *place) (string, int, error) {
	children, err := li.Children(ctx, l.layout.record)
	if errors.Is(err, zookeeper.ErrNoNode) {
		p.node = ""
		return "", 0, nil
	}
	if err != nil {
		return "", 0, err
	}
	order := queueOrder(children)
	mine := slices.IndexFunc(order, p.made)
	if mine < 0 {
		p.node = ""
		mine = len(order)
	} else {
		p.node = l.layout.child(order[mine])
		for _, again := range order[mine+1:] {
			if p.made(again) {
				if err := deleteNode(ctx, li, l.layout.child(again)); err != nil {
					return "", 0, err
				}
			}
		}
	}
	if mine == 0 {
		return "", 0, nil
	}
	return order[mine-1], mine, nil
}

func (p *place) made(name string) bool { return strings.HasPrefix(name, queuePrefix+p.guid+"-") }

// ensurePlace makes the queue node. If it is not known whether it was made, ahead
// finds it.
func (l *Lock) ensurePlace(ctx context.Context, li *life, p *place) error {
	if p.node != "" {
		return nil
	}
	results, err := li.Multi(ctx, &zookeeper.Create{
		Path: l.layout.queue(p.guid), Data: []byte(l.identity), Ephemeral: true, Sequential: true,
	})
	switch {
	case err == nil:
		p.node = results[0].Path
		return nil
	case errors.Is(err, zookeeper.ErrNoNode):
		return nil // the election was deleted
	}
	return fmt.Errorf("queue up: %w", err)
}

// keepPlace in the queue while no Get runs, for a lease duration at most, and give
// it up at once when its turn comes: nobody would take it.
func (l *Lock) keepPlace() { l.keep(l.cfg.LeaseDuration, true) }

// keepForTaking keeps the place of an elector that was told that the lock is free.
// Its acquire deletes it.
func (l *Lock) keepForTaking() { l.keep(takeTime, false) }

func (l *Lock) keep(d time.Duration, watch bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.place
	if p == nil || p.done != nil {
		return
	}
	if p.node == "" {
		l.place = nil
		return
	}
	ctx, cancel := context.WithCancel(p.life.ctx)
	p.cancel, p.done = cancel, make(chan struct{})
	p.taken = false
	done := p.done
	started := p.life.spawn(func() {
		defer close(done)
		l.keepUntil(ctx, p, d, watch)
	})
	if !started {
		cancel()
		l.place = nil
	}
}

// keepUntil its turn comes, or d is over, then delete the queue node, unless ctx
// ends: somebody else sees to it then.
func (l *Lock) keepUntil(ctx context.Context, p *place, d time.Duration, watch bool) {
	bounded, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	for watch && bounded.Err() == nil {
		if _, err := l.inLine(bounded, p.life, p, false); err == nil || !retriable(err) {
			break
		}
		if !pause(bounded, p.life) {
			break
		}
	}
	if !watch {
		<-bounded.Done()
	}
	if ctx.Err() == nil {
		l.leave(ctx, p)
	}
}

// leave the queue, unless an acquire does.
func (l *Lock) leave(ctx context.Context, p *place) {
	l.mu.Lock()
	node := p.node
	if p.taken || node == "" {
		l.mu.Unlock()
		return
	}
	if l.place == p {
		l.place = nil
	}
	l.mu.Unlock()
	l.metrics.standing(l, -1)
	if err := deleteNode(ctx, p.life, node); err != nil {
		l.log.V(2).Info("Queue node was not deleted", "node", node, "err", err)
	}
}

// stopKeeper before a call goes on with the place.
func (l *Lock) stopKeeper() {
	l.mu.Lock()
	p := l.place
	var done chan struct{}
	if p != nil && p.done != nil {
		p.cancel()
		done = p.done
	}
	l.mu.Unlock()
	if done == nil {
		return
	}
	<-done
	l.mu.Lock()
	p.done = nil
	l.mu.Unlock()
}
