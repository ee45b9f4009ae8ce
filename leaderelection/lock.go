package leaderelection

import (
	"context"
	"errors"
	"time"

	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// Config of one candidate in one election. Session, Namespace, Name and Identity
// have no default.
type Config struct {
	// Session that holds the lock.
	Session *Session
	// Namespace of the election, a DNS label, as that of a Lease.
	Namespace string
	// Name of the election, as that of a Lease.
	Name string
	// Identity of the candidate, for people. A nonce is added to it: a process that
	// was started again must not take its predecessor's term for its own.
	Identity string
	// LeaseDuration that the elector runs with, in whole seconds: client-go truncates
	// others. Default 15 s.
	LeaseDuration time.Duration
	// RenewDeadline that the elector runs with. Default 10 s.
	RenewDeadline time.Duration
	// RetryPeriod that the elector runs with. Default 2 s.
	RetryPeriod time.Duration
	// StopTime is how long the work may take to stop once its context is cancelled.
	// Default 2 s. Danger: work that takes longer may overlap with its successor's.
	StopTime time.Duration
	// StopsFirst says that the work has stopped before the elector releases, as it has
	// under controller-runtime's graceful shutdown. Otherwise a release waits StopTime.
	StopsFirst bool
	// Events receives those of the elector, or nil.
	Events resourcelock.EventRecorder
}

// Lock is a candidate in an election: a resourcelock.Interface for one
// LeaderElector at a time. Every call returns by the time its context ends.
type Lock struct{}

var _ resourcelock.Interface = (*Lock)(nil)

// New returns a Lock for a LeaderElector that runs with the durations of cfg. All
// problems of cfg are reported at once, ErrBudget with all its numbers among them
// if the session's timeout is too short.
func New(cfg Config) (*Lock, error) { return nil, errors.New("new lock: not built yet") }

// Get returns the record. While another leads and ctx has no deadline it blocks
// until this candidate's turn has come or the holder has changed.
func (l *Lock) Get(ctx context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	return nil, nil, errors.New("get: not built yet")
}

// Create acquires the lock of an election that never was.
func (l *Lock) Create(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	return errors.New("create: not built yet")
}

// Update acquires the lock, renews it, which asks nobody and is refused past the
// deadline, or releases it if the record names no holder.
func (l *Lock) Update(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	return errors.New("update: not built yet")
}

// RecordEvent records an event of the elector.
func (l *Lock) RecordEvent(string) {}

// Identity of the candidate: that of the Config and a nonce.
func (l *Lock) Identity() string { return "" }

// Describe names the election: namespace/name.
func (l *Lock) Describe() string { return "" }

// Term that this lock is in, or nil.
func (l *Lock) Term() *Term { return nil }

// Lost is closed when the current term is over, and closed already if there is
// none.
func (l *Lock) Lost() <-chan struct{} { return nil }
