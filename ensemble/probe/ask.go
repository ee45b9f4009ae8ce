package probe

import (
	"context"
)

// Ask probes all targets at once and returns their answers in the same order,
// by the time ctx ends. The caller bounds ctx: half of the time that remains for
// the request, at most.
func Ask(ctx context.Context, p Prober, targets []Target) []Answer {
	answers := make([]Answer, len(targets))
	done := make(chan int, len(targets))
	for i := range targets {
		go func() {
			answers[i] = p.Probe(ctx, targets[i])
			done <- i
		}()
	}
	for range targets {
		<-done
	}
	return answers
}
