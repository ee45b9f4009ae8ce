package wrapper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"k8s.io/klog/v2"

	"github.com/quorate/quorate/cmd/quorate/internal/guardian"
)

// Exit codes that are the wrapper's own. All others are the command's.
const (
	// CodeLost says that leadership was lost and the command was stopped.
	CodeLost = 124
	// CodeFailed says that the wrapper itself failed: its flags, its store.
	CodeFailed = 125
)

// Wrapper runs one command for as long as it leads, once.
type Wrapper struct {
	// Candidacy to lead.
	Candidacy Candidacy
	// Guardian is the command line of a process that calls guardian.Serve with the
	// command and GraceOf(StopTime).
	Guardian []string
	// StopTime is how long before the term's deadline the command is asked to stop.
	StopTime time.Duration
	// Signals for the command. One that comes before it runs ends the candidacy.
	Signals <-chan os.Signal

	state atomic.Int32

	mu      sync.Mutex // guards below
	command *guardian.Guarded
	early   syscall.Signal // came before the command
}

// The states of a Wrapper.
const (
	standing int32 = iota
	leading
	stopping
)

var errSignal = errors.New("signal")

// marginOf the stop time is kept for SIGKILL to take effect; the rest is the grace
// between SIGTERM and SIGKILL.
func marginOf(stopTime time.Duration) time.Duration { return stopTime / 4 }

// GraceOf is the grace that a guardian must be started with.
func GraceOf(stopTime time.Duration) time.Duration { return stopTime - marginOf(stopTime) }

// Run stands until it leads, runs the command, and returns the exit code when
// nothing of it is left and the lock is given back. The error says why it is
// CodeLost or CodeFailed.
func (w *Wrapper) Run(ctx context.Context) (int, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := make(chan struct{})
	var passing sync.WaitGroup
	passing.Go(func() { w.passSignals(done, cancel) })
	defer passing.Wait()
	defer close(done)

	code, ran := 0, false
	var failed error
	err := w.Candidacy.Run(ctx, func(ctx context.Context, t Term) {
		ran = true
		code, failed = w.lead(ctx, t)
	})
	switch {
	case failed != nil && code != CodeLost:
		return code, failed
	case errors.Is(err, context.Canceled):
		err = nil
	}
	if w.earlySignal() != 0 && !w.ran() {
		return 128 + int(w.earlySignal()), nil
	}
	if !ran && err == nil {
		return CodeFailed, context.Cause(ctx)
	}
	if !ran {
		return CodeFailed, err
	}
	return code, errors.Join(failed, err)
}

// passSignals until done.
func (w *Wrapper) passSignals(done <-chan struct{}, cancel context.CancelCauseFunc) {
	for {
		select {
		case <-done:
			return
		case s := <-w.Signals:
			if sig, ok := s.(syscall.Signal); ok {
				w.pass(sig, cancel)
			}
		}
	}
}

func (w *Wrapper) pass(sig syscall.Signal, cancel context.CancelCauseFunc) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.command != nil {
		w.command.Signal(sig)
		return
	}
	switch sig { //nolint:exhaustive // others have nobody to reach
	case syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGHUP:
		w.early = sig
		cancel(fmt.Errorf("%w %v", errSignal, sig))
	}
}

func (w *Wrapper) earlySignal() syscall.Signal {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.early
}

func (w *Wrapper) ran() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.command != nil
}

// lead runs the command under a term.
func (w *Wrapper) lead(ctx context.Context, t Term) (int, error) {
	log := klog.FromContext(ctx).WithValues("identity", t.Identity(), "token", t.Token())
	proven := t.Proven()
	g, err := w.start(ctx, t)
	if err != nil {
		return CodeFailed, err
	}
	if g == nil {
		return CodeLost, nil
	}
	w.state.Store(leading)
	defer w.state.Store(stopping)
	log.Info("Leading, command started")
	stop := ctx.Done()
	for {
		select {
		case <-proven:
			proven = t.Proven()
			g.Feed(t.Deadline())
		case <-stop:
			stop = nil
			w.state.Store(stopping)
			log.Info("Leadership ends, stopping the command", "why", context.Cause(ctx), "left", time.Until(t.Deadline()).Round(time.Millisecond))
			g.Stop()
		case <-g.Gone():
			return w.outcome(log, g.Exit(), stop == nil || t.Err() != nil || time.Until(t.Deadline()) < w.StopTime)
		}
	}
}

// outcome of a command that is gone.
func (w *Wrapper) outcome(log klog.Logger, exit guardian.Exit, lost bool) (int, error) {
	log.Info("Command is gone", "code", exit.Code(), "lost", lost)
	switch {
	case exit.Err != nil:
		return exit.Code(), fmt.Errorf("start command: %w", exit.Err)
	case lost:
		return CodeLost, nil
	}
	return exit.Code(), nil
}

// start the command, unless a signal came first.
func (w *Wrapper) start(ctx context.Context, t Term) (*guardian.Guarded, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.early != 0 || ctx.Err() != nil {
		return nil, nil
	}
	g, err := guardian.Start(guardian.Config{
		Guardian: w.Guardian, Deadline: t.Deadline(), Grace: GraceOf(w.StopTime), Margin: marginOf(w.StopTime),
		Env: []string{
			"QUORATE_IDENTITY=" + t.Identity(),
			"QUORATE_FENCING_TOKEN=" + strconv.FormatInt(t.Token(), 10),
		},
	})
	w.command = g
	return g, err
}
