package extender

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/quorate/quorate/ensemble/membership"
	"github.com/quorate/quorate/ensemble/v1alpha1"
)

// Membership shows what is known; a *membership.Informer is it.
type Membership interface {
	// Snapshot is nil until everything was listed once.
	Snapshot() *membership.Snapshot
	// Listen is called before the first snapshot.
	Listen(membership.Listener)
	// Waiting are the resources that were not listed yet.
	Waiting() []string
}

// Poker makes the scheduler try a pod again that it has put aside.
type Poker interface {
	// Poke returns at once.
	Poke(pod types.NamespacedName, uid types.UID)
}

// PlacerConfig is what a Placer needs.
type PlacerConfig struct {
	// Membership has no default.
	Membership Membership
	// Timing of holds; the zero value is its defaults.
	Timing Timing
	// Seen is how long a question waits for its pod and nodes to be seen. The scheduler
	// may have heard of them first. Default 300 ms; below the scheduler's httpTimeout.
	Seen time.Duration
	// Poker is told of pods that were refused and have a place now. Default: none.
	Poker Poker
	// Now is the time. Default time.Now.
	Now func() time.Time
}

// unknownGrace is how long a voter may be older than what we know of its Ensemble.
const unknownGrace = time.Minute

// Placer is the ledger behind one lock: read, decide and hold are one step.
type Placer struct {
	config PlacerConfig

	mu sync.Mutex // guards below
	// ledger is nil until the first snapshot.
	ledger *Ledger
	// orphans are the voters that were told for good that no Ensemble selects them, and
	// when they last were.
	orphans map[types.UID]time.Time
	// examined is the snapshot whose nodes were looked at last.
	examined *membership.Snapshot
	lease    leaseView

	heard *hearing
}

// NewPlacer makes a placer and has it listen. Run must run for it to become ready.
func NewPlacer(c PlacerConfig) *Placer {
	if c.Seen <= 0 {
		c.Seen = 300 * time.Millisecond
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	p := &Placer{config: c, orphans: map[types.UID]time.Time{}, heard: newHearing()}
	c.Membership.Listen(p.heard.hear)
	return p
}

// Ready reports why no question can be answered yet; nil: it can.
func (p *Placer) Ready() error {
	waiting := p.config.Membership.Waiting()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ledger == nil {
		return fmt.Errorf("waiting for the first list of %v", waiting)
	}
	return nil
}

// Filter answers the scheduler: where may the pod go? It waits a moment for the pod
// and its nodes to be seen, and holds what it answers.
func (p *Placer) Filter(ctx context.Context, pod *corev1.Pod, given []string) Answer {
	nominated := pod.Status.NominatedNodeName != "" && len(given) == 1 && given[0] == pod.Status.NominatedNodeName
	deadline := time.NewTimer(p.config.Seen)
	defer deadline.Stop()
	for {
		news := p.heard.next()
		a, seen := p.try(pod, given, nominated)
		if seen {
			return a
		}
		select {
		case <-news:
		case <-deadline.C:
			return a
		case <-ctx.Done():
			return a
		}
	}
}

// try answers from the snapshot of now. Where that doesn't show the pod, or a node
// that the answer depends on, a newer one may: then seen is false.
func (p *Placer) try(pod *corev1.Pod, given []string, nominated bool) (a Answer, seen bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now, s := p.config.Now(), p.config.Membership.Snapshot()
	if p.ledger == nil || s == nil {
		return Answer{Outcome: Unknown, Message: "quorate has not yet seen all pods and nodes; this passes"}, false
	}
	if why := p.lease.stale(now); why != "" {
		return Answer{Outcome: Unknown, Message: why}, true
	}
	e, ok := s.Of(pod.Namespace, pod.Labels)
	if !ok {
		a = orphan(now, pod, given)
		if a.Outcome == Impossible {
			p.orphans[pod.UID] = now
		}
		return a, a.Outcome == Impossible
	}
	delete(p.orphans, pod.UID)
	if find(e, pod.UID) < 0 {
		return Answer{Outcome: Unknown, Message: "quorate has not seen this pod yet; this passes"}, false
	}
	a = p.ledger.Filter(now, s, e, pod.UID, given, nominated)
	return a, a.Outcome != Unknown || !slices.ContainsFunc(given, func(n string) bool { return !s.HasNode(n) })
}

// orphan answers for a pod that asks for a voter's place while no Ensemble selects
// it: soon there may be one.
func orphan(now time.Time, pod *corev1.Pod, given []string) Answer {
	if now.Sub(pod.CreationTimestamp.Time) < unknownGrace {
		return Answer{Outcome: Unknown, Message: "no Ensemble selects this pod yet; this passes if one is on its way"}
	}
	return Answer{Outcome: Impossible, Refused: []Refusal{{Cause: Orphaned, Nodes: given, Reason: "the pod requests " + v1alpha1.VoterResource +
		", but no Ensemble in its namespace selects it: create one, or remove the request"}}}
}

// Prioritize scores the nodes for the pod, from 0 to 10.
func (p *Placer) Prioritize(pod *corev1.Pod, given []string) []int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.config.Membership.Snapshot()
	if p.ledger == nil || s == nil {
		return make([]int64, len(given))
	}
	e, ok := s.Of(pod.Namespace, pod.Labels)
	if !ok {
		return make([]int64, len(given))
	}
	i := find(e, pod.UID)
	if i < 0 {
		return make([]int64, len(given))
	}
	return Prioritize(s, e, i, given, p.ledger.claimsAt(p.config.Now()))
}

// Holds is how many pods hold a place, may still land in a former one, and may be
// anywhere.
func (p *Placer) Holds() (held, lingering, doubted int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ledger == nil {
		return 0, 0, 0
	}
	return p.ledger.count(p.config.Now())
}
