package leaderelection

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/quorate/quorate/leaderelection/zookeeper"
)

// takeTime is how long a free lock is kept for the elector that was told of it.
const takeTime = time.Second

// place of a candidate in the queue of standbys.
type place struct {
	life   *life
	guid   string
	node   string // empty until the queue node exists
	unsure bool   // a queue node was asked for that may be there, though node is empty
	ahead  string // the node of the candidate right before, empty for the first
	before int    // candidates before
	taken  bool   // an acquire deletes it
	cancel context.CancelFunc
	done   chan struct{} // the keeper has stopped; nil: there is none
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

// find the place in the queue. Nodes of it but the first are deleted: they come of
// creations that were repeated.
func (l *Lock) find(ctx context.Context, p *place) error {
	children, err := p.life.Children(ctx, l.layout.record)
	if err != nil && !errors.Is(err, zookeeper.ErrNoNode) {
		return err
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
				if err := deleteNode(ctx, p.life, l.layout.child(again)); err != nil {
					return err
				}
			}
		}
	}
	p.ahead, p.before, p.unsure = "", mine, false
	if mine > 0 {
		p.ahead = l.layout.child(order[mine-1])
	}
	return nil
}

func (p *place) made(name string) bool { return strings.HasPrefix(name, queuePrefix+p.guid+"-") }

// ensurePlace makes the queue node. If it is not known whether it was made, find does.
func (l *Lock) ensurePlace(ctx context.Context, p *place) error {
	if p.node != "" {
		return nil
	}
	results, err := p.life.Multi(ctx, &zookeeper.Create{
		Path: l.layout.queue(p.guid), Data: []byte(l.identity), Ephemeral: true, Sequential: true,
	})
	p.unsure = retriable(err)
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
		if !p.unsure {
			l.place = nil
			return
		}
		d, watch = 0, false // what may be there is looked for, and left
	}
	ctx, cancel := context.WithCancel(p.life.ctx)
	p.cancel, p.done = cancel, make(chan struct{})
	p.taken = false
	done := p.done
	started := p.life.spawn(func() {
		defer close(done)
		defer cancel()
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
		if _, err := l.inLine(bounded, p, false); err == nil || !retriable(err) {
			break
		}
		if !pause(bounded, p.life) {
			break
		}
	}
	if !watch {
		<-bounded.Done()
	}
	l.leave(ctx, p)
}

// leave the queue, unless an acquire does, or ctx has ended: a call that goes on with
// the place ends it, and finds the place whole or not at all.
func (l *Lock) leave(ctx context.Context, p *place) {
	l.mu.Lock()
	if p.taken || ctx.Err() != nil {
		l.mu.Unlock()
		return
	}
	if l.place == p {
		l.place = nil
	}
	l.mu.Unlock()
	l.metrics.standing(l, -1)
	if err := l.deletePlace(ctx, p); err != nil {
		l.log.V(2).Info("Queue node was not deleted", "node", p.node, "err", err)
	}
}

// deletePlace looks for the node first where it is not known whether there is one.
func (l *Lock) deletePlace(ctx context.Context, p *place) error {
	for p.unsure {
		err := l.find(ctx, p)
		if err != nil && (!retriable(err) || !pause(ctx, p.life)) {
			return err
		}
	}
	if p.node == "" {
		return nil
	}
	return deleteNode(ctx, p.life, p.node)
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
