package extender

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"github.com/quorate/quorate/ensemble/membership"
)

// Run follows snapshots until ctx ends.
func (p *Placer) Run(ctx context.Context) error {
	minute, second := time.NewTicker(time.Minute), time.NewTicker(time.Second)
	defer minute.Stop()
	defer second.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.heard.wake:
			p.follow(ctx)
		case <-second.C:
			p.examineNodes()
		case <-minute.C:
			p.sweep()
		}
	}
}

func (p *Placer) follow(ctx context.Context) {
	p.mu.Lock()
	defer p.mu.Unlock()
	// What was heard first, the snapshot after it: it shows all of that. The other way
	// round, what comes in between is followed in the snapshot before it, and never again.
	changed := p.heard.take()
	s, now := p.config.Membership.Snapshot(), p.config.Now()
	if s == nil {
		return
	}
	if p.ledger == nil {
		p.start(now, s)
		klog.FromContext(ctx).Info("Placing voters from now on", "doubtUntil", now.Add(p.ledger.timing.late()))
	}
	for key := range changed {
		if e, ok := s.Get(key); ok {
			p.ledger.See(now, e)
			p.adopt(e)
			p.reopen(s, e)
		}
	}
}

// start begins with whoever waits: another process may have told them that no node
// is safe, and what would have had it poke them may have come to pass since.
func (p *Placer) start(now time.Time, s *membership.Snapshot) {
	p.ledger, p.examined = NewLedger(p.config.Timing), s
	p.ledger.Doubt(now, s.Ensembles())
	for e := range s.Ensembles() {
		for i := range e.Members {
			if m := &e.Members[i]; m.UID != "" && m.Guarded && m.Unscheduled != "" {
				p.poke(e, m)
			}
		}
	}
}

// adopt pokes members that asked before an Ensemble selected them.
func (p *Placer) adopt(e *membership.Ensemble) {
	if len(p.orphans) == 0 {
		return
	}
	for i := range e.Members {
		m := &e.Members[i]
		if _, orphan := p.orphans[m.UID]; orphan {
			delete(p.orphans, m.UID)
			p.poke(e, m)
		}
	}
}

// reopen pokes members that were told that no node is safe, where one is now.
func (p *Placer) reopen(s *membership.Snapshot, e *membership.Ensemble) {
	for _, m := range p.ledger.Reopened(s, e) {
		p.poke(e, m)
	}
}

func (p *Placer) poke(e *membership.Ensemble, m *membership.Member) {
	if p.config.Poker != nil && !m.Bound() && !m.Terminating && !m.Gated {
		p.config.Poker.Poke(types.NamespacedName{Namespace: e.Key.Namespace, Name: m.Name}, m.UID)
	}
}

// examineNodes looks at nodes that came, or got a label, for whoever was refused: no
// ensemble is another one for that. Once a second is soon enough, however many nodes
// change.
func (p *Placer) examineNodes() {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.config.Membership.Snapshot()
	if p.ledger == nil || s == nil {
		return
	}
	before := p.examined
	p.examined = s // the old one is not kept longer than this
	if s.SameNodes(before) {
		return
	}
	for key := range p.ledger.turnedDown() {
		if e, ok := s.Get(key); ok {
			p.reopen(s, e)
		}
	}
}

func (p *Placer) sweep() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ledger == nil {
		return
	}
	now := p.config.Now()
	p.ledger.Sweep(now)
	for uid, told := range p.orphans {
		if now.Sub(told) >= p.ledger.timing.Silence {
			delete(p.orphans, uid)
		}
	}
}
