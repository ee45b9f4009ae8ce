package leaderelection

import (
	"errors"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// Defaults of a Config: the LeaderElector's own.
const (
	DefaultLeaseDuration = 15 * time.Second
	DefaultRenewDeadline = 10 * time.Second
	DefaultRetryPeriod   = 2 * time.Second
	DefaultStopTime      = 2 * time.Second
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
	// After a loss, of which the work hears from the elector, that is waited for all the
	// same.
	StopsFirst bool
	// Events receives those of the elector, or nil.
	Events resourcelock.EventRecorder
}

func (c *Config) complete() {
	setDefault(&c.LeaseDuration, DefaultLeaseDuration)
	setDefault(&c.RenewDeadline, DefaultRenewDeadline)
	setDefault(&c.RetryPeriod, DefaultRetryPeriod)
	setDefault(&c.StopTime, DefaultStopTime)
}

// validate reports every problem, each with its numbers.
func (c *Config) validate(managed bool) error {
	var errs []error
	for _, msg := range validation.IsDNS1123Label(c.Namespace) {
		errs = append(errs, fmt.Errorf("namespace %q: %s", c.Namespace, msg))
	}
	for _, msg := range validation.IsDNS1123Subdomain(c.Name) {
		errs = append(errs, fmt.Errorf("name %q: %s", c.Name, msg))
	}
	if c.Identity == "" {
		errs = append(errs, errors.New("identity is empty"))
	}
	errs = append(errs, c.validateDurations(managed)...)
	if c.Session == nil {
		return errors.Join(append(errs, errors.New("session is nil"))...)
	}
	li, _, err := c.Session.current()
	if err == nil {
		err = li.budgetFor(reserveOf(c, managed)).check()
	}
	return errors.Join(append(errs, err)...)
}

func (c *Config) validateDurations(managed bool) (errs []error) {
	if c.LeaseDuration%time.Second != 0 || c.LeaseDuration <= 0 {
		errs = append(errs, fmt.Errorf("lease duration %v is not in whole seconds, to which client-go truncates it", c.LeaseDuration))
	}
	if c.LeaseDuration <= c.RenewDeadline {
		errs = append(errs, fmt.Errorf("lease duration %v does not exceed the renew deadline %v", c.LeaseDuration, c.RenewDeadline))
	}
	if least := time.Duration(leaderelection.JitterFactor * float64(c.RetryPeriod)); c.RenewDeadline <= least {
		errs = append(errs, fmt.Errorf("renew deadline %v does not exceed %v times the retry period %v", c.RenewDeadline, leaderelection.JitterFactor, c.RetryPeriod))
	}
	if c.StopTime < 0 || c.RetryPeriod <= 0 {
		errs = append(errs, fmt.Errorf("stop time %v or retry period %v is negative", c.StopTime, c.RetryPeriod))
	}
	if !managed && !c.StopsFirst && c.StopTime >= c.RenewDeadline {
		errs = append(errs, fmt.Errorf("stop time %v does not fit into the renew deadline %v, which bounds a release", c.StopTime, c.RenewDeadline))
	}
	return errs
}
