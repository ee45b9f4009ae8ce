// Command demo shows Quorate's jobs at work, on real servers and on this machine
// alone: it starts them on loopback, tells what happens while it happens, and ends
// every process and removes every file that it made, however it ends. Its last line
// is "demo: ok" only if every step really showed what it claims.
//
// KEEP=1 in the environment leaves everything running at the end, until Ctrl-C.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	klog.SetLogger(logr.Discard()) // client-go's retries are no part of the story
	err := run(ctx, newScreen(os.Stdout), os.Getenv("KEEP") == "1")
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// run plays all steps on one stage, and clears the stage.
func run(ctx context.Context, out *screen, keep bool) (err error) {
	began := time.Now()
	s := newStage(out)
	defer func() {
		if closing := s.close(); closing != nil {
			err = errors.Join(err, fmt.Errorf("clear the stage: %w", closing))
		}
		if err == nil {
			out.line("demo: ok")
		}
	}()
	steps := story()
	for i, step := range steps {
		out.title(i+1, len(steps), step.title)
		if err := step.run(ctx, s); err != nil {
			if errors.Is(ctx.Err(), context.Canceled) {
				return fmt.Errorf("interrupted in step %d of %d (%s)", i+1, len(steps), step.title)
			}
			return fmt.Errorf("step %d of %d (%s): %w", i+1, len(steps), step.title, err)
		}
	}
	out.say("%d steps in %s, each seen.", len(steps), time.Since(began).Round(time.Second))
	if keep {
		s.keep(ctx)
	}
	return nil
}
