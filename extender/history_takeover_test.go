package extender

import (
	"iter"
	"time"

	"github.com/quorate/quorate/ensemble/membership"
)

// standby is the extender beside the scheduler that is not active. It follows the
// same watches, one delivery later, and never hears what the active one answers.
type standby struct {
	d decider
	sight
	saw time.Time // the delivery that it saw last
}

// follow shows it what the active one saw until now.
func (s *standby) follow(now time.Time, seen sight) {
	if seen.snapshot == nil || !seen.delivered.After(s.saw) {
		return // at the start, or right after a takeover: it has seen more
	}
	s.sight, s.saw = seen, seen.delivered
	s.d.See(now, s.ensemble())
}

// doubter is a decider that learns of others who may have answered.
type doubter interface {
	Doubt(time.Time, iter.Seq[*membership.Ensemble])
	Strangers(time.Time)
}

// restart is the extender starting anew; what it knew is gone.
func (h *history) restart() {
	h.note("restart")
	h.deliver()
	h.d = h.decider()
	if l, ok := h.d.(doubter); ok {
		l.Doubt(h.now, h.snapshot.Ensembles())
	}
	clear(h.parked) // whoever waits is poked
}

// takeover is the other scheduler becoming active, with the extender beside it: that
// has seen the Lease change hands, and of pods maybe less than this one has. What the
// former scheduler began goes on, and the new one tries the same pods. It happens in the
// midst of things: pods are new, and just answered for.
func (h *history) takeover() {
	h.kill()
	h.busy()
	h.note("takeover")
	seen := h.idle.sight
	if seen.snapshot == nil || h.now.Sub(seen.delivered) >= maxLag {
		h.deliver()
		h.idle.follow(h.now, h.sight)
		seen = h.sight
	}
	former := standby{d: h.d, sight: h.sight, saw: h.delivered}
	h.d, h.sight, *h.idle = h.idle.d, seen, former
	if l, ok := h.d.(doubter); ok {
		l.Doubt(h.now, h.snapshot.Ensembles())
		l.Strangers(h.now)
	}
	h.hurry(58 * time.Second) // the API server's
	for _, f := range h.flights {
		f.gaveUp, f.orphaned = earlier(f.gaveUp, h.now), true
	}
	clear(h.parked)
	clear(h.ready)
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
