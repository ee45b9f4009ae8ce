package lab

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Await asks condition, ten times a second, until it returns nil. It gives up
// after limit, when ctx ends, or when condition returns Stop; the error names what
// was awaited and what condition said last.
func Await(ctx context.Context, limit time.Duration, what string, condition func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	poll := time.NewTicker(100 * time.Millisecond)
	defer poll.Stop()
	var last error
	for {
		err := condition(ctx)
		if err == nil {
			return nil
		}
		if stop := (*stopError)(nil); errors.As(err, &stop) {
			return fmt.Errorf("await %s: %w", what, stop.error)
		}
		if last == nil || ctx.Err() == nil {
			last = err // what the condition said before the time was up says more
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("await %s: %w (last: %w)", what, ctx.Err(), last)
		case <-poll.C:
		}
	}
}

// Stop makes Await give up at once: the condition can no longer come true.
func Stop(err error) error { return &stopError{err} }

type stopError struct{ error }
