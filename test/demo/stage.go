package main

import (
	"context"
	"errors"
	"io"
	"slices"
)

// stage holds what runs: whatever a step leaves for later ones, and how to end it.
type stage struct {
	out *screen
	// controlPlane yields the folder of the control plane's binaries, once built.
	controlPlane func(context.Context) (string, error)
	// kubeconfig of the control plane; empty before it runs.
	kubeconfig string
	// cluster is what startCluster leaves for later steps.
	cluster *cluster

	closers []io.Closer
}

func newStage(out *screen) *stage { return &stage{out: out, controlPlane: buildBehind(out)} }

// onClose has c closed when the story ends, before everything that was there already.
func (s *stage) onClose(c io.Closer) { s.closers = append(s.closers, c) }

// close ends everything, last things first.
func (s *stage) close() error {
	var errs []error
	for _, c := range slices.Backward(s.closers) {
		errs = append(errs, c.Close())
	}
	s.closers = nil
	return errors.Join(errs...)
}

// keep leaves everything running until ctx ends.
func (s *stage) keep(ctx context.Context) {
	s.out.say("Everything goes on running until Ctrl-C. Look at it from another terminal:")
	s.out.line("export KUBECONFIG=" + s.kubeconfig)
	<-ctx.Done()
}
