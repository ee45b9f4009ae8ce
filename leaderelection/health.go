package leaderelection

import (
	"fmt"
	"net/http"
	"time"
)

// Health is a health check of a lock, in the shape of client-go's HealthzAdaptor:
// give it to whatever takes named checks. It fails where the process had better be
// started again: a term was lost and its work has not stopped for so long that it
// never may, or the session was not proven for its whole timeout and longer.
type Health struct {
	name      string
	lock      *Lock
	tolerance time.Duration
}

// NewHealth returns a check that waits for the tolerance, 20 s in Kubernetes' own
// components, before it fails.
func NewHealth(name string, lock *Lock, tolerance time.Duration) *Health {
	return &Health{name: name, lock: lock, tolerance: tolerance}
}

// Name of the check.
func (h *Health) Name() string { return h.name }

// Check is nil while the process does as it should.
func (h *Health) Check(*http.Request) error {
	if t := h.lock.lastTerm(); t != nil {
		if since, ok := t.lingers(); ok && since > h.lock.cfg.StopTime+h.tolerance {
			return fmt.Errorf("%s: the term was lost %v ago and its work has not stopped", h.lock.Describe(), since.Round(time.Second))
		}
	}
	li := h.lock.metrics.life()
	if li == nil {
		return nil // a new one is being opened; nobody leads meanwhile
	}
	if age := li.age(); age > li.Timeout()+h.tolerance {
		return fmt.Errorf("%w: the session was last proven %v ago", ErrPastDeadline, age.Round(time.Second))
	}
	return nil
}

// lingers is how long ago the term was lost, while whoever acted under it has not
// said that it has stopped.
func (t *Term) lingers() (time.Duration, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err == nil || t.stopped || t.ended.IsZero() {
		return 0, false
	}
	return time.Since(t.ended), true
}
