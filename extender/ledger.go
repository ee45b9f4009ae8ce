package extender

import (
	"iter"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/quorate/quorate/ensemble/membership"
)

// Timing is how long a Ledger believes what.
type Timing struct {
	// Landing is how long a bind that was given up on may still land: at least the
	// API server's request timeout. Default 60 s.
	Landing time.Duration
	// Lag is how long what has landed may take to be seen. Default 5 s.
	Lag time.Duration
	// Failed is how long a hold outlives the sign that the attempt failed: the sign
	// may be of an older attempt. Default 120 s; never below Landing and Lag.
	Failed time.Duration
	// Silence is how long a hold lives without any sign of its pod. Default 40 min;
	// binding may wait 10 min for volumes and 15 min for permission.
	Silence time.Duration
	// Waiting is how long a refused sibling is taken to wait without having asked
	// again. Default 30 s: three times the scheduler's longest backoff.
	Waiting time.Duration
}

// Defaults fills in what is zero, and raises Failed to Landing and Lag.
func (t Timing) Defaults() Timing {
	for _, d := range []struct {
		of    *time.Duration
		value time.Duration
	}{{&t.Landing, time.Minute}, {&t.Lag, 5 * time.Second}, {&t.Failed, 2 * time.Minute}, {&t.Silence, 40 * time.Minute}, {&t.Waiting, 30 * time.Second}} {
		if *d.of <= 0 {
			*d.of = d.value
		}
	}
	t.Failed = max(t.Failed, t.late())
	return t
}

// late is when a bind that was given up on, if it landed, has been seen to.
func (t Timing) late() time.Duration { return t.Landing + t.Lag }

// maxOutside is after how many samples of the nodes without a safe one a pod is
// told so, instead of being tried again at once.
const maxOutside = 12

// takeoverSlack is for how long after another instance may have scheduled a pod
// that is new to us may be one that it saw.
const takeoverSlack = 5 * time.Second

// Ledger is the rule of placement over time: it remembers where every pod that it
// answered for may still land. It has no lock and no clock; calls are one at a
// time, with the time and the snapshots growing.
type Ledger struct {
	timing Timing
	pods   map[types.UID]*record
	// strangersUntil is until when a pod that is new to us is doubted.
	strangersUntil time.Time
}

// record is what is remembered of one unbound pod.
type record struct {
	// held is where it may land by the last answer; nil: none.
	held Place
	// lingering is where it may land by earlier ones.
	lingering []lingering
	// doubtUntil is until when it may land anywhere by an answer that isn't ours.
	doubtUntil time.Time
	// refused is the PodScheduled condition as last seen.
	refused string
	// promised says that it was last seen with a nominated or selected node, gated with a
	// scheduling gate.
	promised, gated bool
	// failed is when that first changed since the hold was made; zero: not since.
	failed time.Time
	// waiting is when it was last refused only for what siblings hold; zero: never,
	// or it was served since.
	waiting time.Time
	// impossible is the last question, if that was the answer.
	impossible *asked
	// sign is the last sign of the pod.
	sign time.Time
	// outside counts the attempts whose nodes were all unsafe while others are safe.
	outside int
}

type lingering struct {
	place Place
	until time.Time
}

// NewLedger is a ledger that holds nothing. Call Doubt with the first snapshot:
// what another instance answered before is not in it.
func NewLedger(t Timing) *Ledger {
	return &Ledger{timing: t.Defaults(), pods: map[types.UID]*record{}}
}

// Filter decides where the pod may go and holds what it answers. The snapshot must
// show the pod; nominated says that the scheduler asks about the pod's nominated
// node alone, and will ask again about the others.
func (l *Ledger) Filter(now time.Time, nodes Nodes, e *membership.Ensemble, uid types.UID, given []string, nominated bool) Answer {
	i := find(e, uid)
	switch why := unanswerable(e); {
	case i < 0:
		return Answer{Outcome: Unknown, Message: "the pod is not seen yet"}
	case e.Members[i].Bound():
		return Answer{Outcome: Unknown, Message: "the pod is already bound to " + e.Members[i].Node}
	case why != "":
		return Answer{Outcome: Unknown, Message: why}
	}
	r := l.record(now, &e.Members[i])
	r.sign = now
	l.expire(now, r)
	c := Candidate{Member: i, Holds: r.held, Sampled: len(given) >= 100 && r.outside < maxOutside}
	c.Stay = len(r.lingering) > 0 && l.siblingWaits(now, e, i)
	a := Filter(nodes, e, c, given, l.claimsAt(now))
	l.keep(now, r, a, nominated)
	r.impossible = nil
	if a.Outcome == Impossible {
		r.impossible = c.asked(e, given)
	}
	return a
}

// unanswerable says what is not known yet of an ensemble to place its members.
func unanswerable(e *membership.Ensemble) string {
	switch {
	case !e.Resolved:
		return "the topology of ensemble " + e.Key.String() + " is not resolved yet"
	case len(e.Judgements) == 0:
		return "the voters of ensemble " + e.Key.String() + " are not known: " + e.Problem
	}
	return ""
}

// keep turns the answer into a hold, before it is given. Where none was given yet
// what the pod held is held.
func (l *Ledger) keep(now time.Time, r *record, a Answer, nominated bool) {
	if a.Outcome == Unknown {
		return
	}
	switch a.Outcome {
	case Placed, Free:
		l.linger(now, r, r.held.minus(a.Place))
		r.held, r.failed, r.outside = a.Place, time.Time{}, 0
	case Outside:
		r.outside++
	case Impossible:
		r.outside = 0
	case Unknown, Held, Yielding:
	}
	if a.Outcome < Free && !nominated {
		l.linger(now, r, r.held)
		r.held, r.failed = nil, time.Time{}
	}
	switch a.Outcome {
	case Held:
		r.waiting = now
	case Placed, Impossible, Free:
		r.waiting = time.Time{}
	case Unknown, Yielding, Outside:
	}
}

func (l *Ledger) linger(now time.Time, r *record, p Place) {
	if p != nil {
		r.lingering = slices.DeleteFunc(r.lingering, func(g lingering) bool { return g.place.equal(p) })
		r.lingering = append(r.lingering, lingering{place: p, until: now.Add(l.timing.late())})
	}
}

func (l *Ledger) claimsAt(now time.Time) Claims {
	return func(m *membership.Member) Claim { return l.claim(now, m) }
}

// claim is where a pod may land by what was answered.
func (l *Ledger) claim(now time.Time, m *membership.Member) Claim {
	r := l.record(now, m)
	l.expire(now, r)
	c := Claim{Anywhere: now.Before(r.doubtUntil)}
	if r.held != nil {
		c.Places = append(c.Places, r.held)
	}
	for _, g := range r.lingering {
		c.Places = append(c.Places, g.place)
	}
	return c
}

// record of the pod. One that is new to us, or whose gates we have only now seen go, is
// doubted where another instance may have seen it before, and answered for it.
func (l *Ledger) record(now time.Time, m *membership.Member) *record {
	r := l.pods[m.UID]
	fresh := r == nil || r.gated && !m.Gated
	if r == nil {
		r = &record{sign: now, refused: m.Unscheduled, promised: m.Nominated}
		l.pods[m.UID] = r
	}
	if fresh && now.Before(l.strangersUntil) {
		r.doubtUntil = now.Add(l.timing.late())
	}
	r.gated = m.Gated
	return r
}

// expire ends what has lasted long enough. What lingers ends by its own time alone,
// for no sign of an attempt tells of those before it.
func (l *Ledger) expire(now time.Time, r *record) {
	left := r.lingering[:0]
	for _, g := range r.lingering {
		if now.Before(g.until) {
			left = append(left, g)
		}
	}
	r.lingering = left
	failed := !r.failed.IsZero() && !now.Before(r.failed.Add(l.timing.Failed))
	if failed || !now.Before(r.sign.Add(l.timing.Silence)) {
		r.held, r.failed = nil, time.Time{}
	}
}

// siblingWaits reports whether another pod of the ensemble was refused only for
// what is held, and would ask again.
func (l *Ledger) siblingWaits(now time.Time, e *membership.Ensemble, candidate int) bool {
	for i := range e.Members {
		m := &e.Members[i]
		if i == candidate || m.UID == "" || m.Bound() || m.Terminating {
			continue
		}
		if r := l.pods[m.UID]; r != nil && !r.waiting.IsZero() && now.Before(r.waiting.Add(l.timing.Waiting)) {
			return true
		}
	}
	return false
}

// Doubt is told that another instance may have answered for pods until now: at the
// start, and whenever the scheduler's Lease changes hands. Every unbound pod may
// then land anywhere, until what it was told can't land any more.
func (l *Ledger) Doubt(now time.Time, ensembles iter.Seq[*membership.Ensemble]) {
	for e := range ensembles {
		for i := range e.Members {
			if m := &e.Members[i]; m.UID != "" && !m.Bound() && !m.Gated {
				r := l.record(now, m)
				r.doubtUntil = now.Add(l.timing.late())
			}
		}
	}
}

// Strangers is told, with Doubt, that pods may not have been seen yet, or not without
// their gates, that the other instance has seen.
func (l *Ledger) Strangers(now time.Time) { l.strangersUntil = now.Add(takeoverSlack) }

// See follows an ensemble: pods that are bound hold nothing more, and a change of
// what the scheduler says about a pod tells that an attempt failed, unless a node
// was nominated or selected for it since.
func (l *Ledger) See(now time.Time, e *membership.Ensemble) {
	for i := range e.Members {
		m := &e.Members[i]
		switch {
		case m.UID == "":
		case m.Bound():
			delete(l.pods, m.UID)
		default:
			l.follow(now, l.record(now, m), m)
		}
	}
}

func (l *Ledger) follow(now time.Time, r *record, m *membership.Member) {
	if m.Nominated != r.promised {
		r.promised, r.sign = m.Nominated, now
		if m.Nominated {
			r.failed = time.Time{}
		}
	}
	if m.Unscheduled != r.refused {
		r.refused, r.sign = m.Unscheduled, now
		if m.Unscheduled != "" && r.failed.IsZero() {
			r.failed = now
		}
	}
	l.expire(now, r)
}

// Sweep drops what is remembered of pods that gave no sign for long: those that are
// gone. What is left of a pod counts only while an ensemble shows the pod.
func (l *Ledger) Sweep(now time.Time) {
	for uid, r := range l.pods {
		if !now.Before(r.sign.Add(l.timing.Silence)) && !now.Before(r.doubtUntil) {
			delete(l.pods, uid)
		}
	}
}

// count is how many pods hold a place, may still land in a former one, and may be
// anywhere.
func (l *Ledger) count(now time.Time) (held, left, doubted int) {
	for _, r := range l.pods {
		if r.held != nil {
			held++
		}
		if len(r.lingering) > 0 {
			left++
		}
		if now.Before(r.doubtUntil) {
			doubted++
		}
	}
	return held, left, doubted
}
