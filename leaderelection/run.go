package leaderelection

import (
	"context"
	"errors"
)

// Callbacks of Run.
type Callbacks struct {
	// OnStartedLeading does the work. Its context carries the Term (TermFrom) and is
	// cancelled the moment the term is over; it must return within Config.StopTime
	// then. The lock is released when it has returned, at once if it returns by
	// itself.
	OnStartedLeading func(ctx context.Context)
	// OnStoppedLeading is called when the work has returned and the lock is released,
	// and only if there was any. It may be nil.
	OnStoppedLeading func()
	// OnNewLeader is called with the identity of every leader seen, this one
	// included. It may be nil.
	OnNewLeader func(identity string)
}

// Run waits until this candidate leads, runs the work, and returns when the work
// has returned and the lock is released: nil if the work returned by itself or ctx
// was cancelled, else why leadership was lost. It needs a shorter session than a
// bare LeaderElector with the same durations, since loss cancels the work at once.
func Run(ctx context.Context, cfg Config, cb Callbacks) error {
	return errors.New("run: not built yet")
}
