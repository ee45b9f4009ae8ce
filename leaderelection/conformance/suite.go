package conformance

import (
	"context"
	"slices"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// LeaseDuration that the locks of a suite are to be made for.
const LeaseDuration = 15 * time.Second

// Defect is a known one of client-go that a lock shares.
type Defect string

const (
	// ReleaseClobbers is D1: whoever has read the record may empty it.
	ReleaseClobbers Defect = "D1: a release by another empties the record"
	// KeepsRaw is that a record which is renewed within one second looks the same, so
	// that an elector takes a live holder for an abandoned lock where lease durations
	// are short.
	KeepsRaw Defect = "raw records have the resolution of seconds"
	// TakesTruncated is D3: a lease duration that was truncated to nothing is written.
	TakesTruncated Defect = "D3: a lease duration of no seconds is accepted"
	// TakesForeign is that a record with another's name may be written.
	TakesForeign Defect = "a record that names another holder is accepted"
	// PanicsEarly is that an event before the first Get or Create panics.
	PanicsEarly Defect = "an event before the first call panics"
)

// Suite runs against one implementation.
type Suite struct {
	// Election makes one that is new, and returns how to make its candidates. They may
	// be closed by t.Cleanup.
	Election func(t *testing.T) func(t *testing.T, identity string) resourcelock.Interface
	// Defects that the implementation shares with client-go's LeaseLock.
	Defects []Defect
	// Except names cases that the store behind the lock, a fake, cannot show.
	Except []string
}

// Run all cases.
func (s Suite) Run(t *testing.T) {
	for _, c := range cases {
		if slices.Contains(s.Except, c.name) {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			candidate := s.Election(t)
			e := &election{T: t, suite: s, candidate: candidate}
			c.run(e)
		})
	}
}

// election under test.
type election struct {
	*testing.T
	suite     Suite
	candidate func(t *testing.T, identity string) resourcelock.Interface
}

func (e *election) join(identity string) resourcelock.Interface { return e.candidate(e.T, identity) }

func (e *election) has(d Defect) bool { return slices.Contains(e.suite.Defects, d) }

// must not happen, except to a lock that is known for it: then it must.
func (e *election) not(d Defect, happened bool, what string) {
	e.Helper()
	switch {
	case happened && !e.has(d):
		e.Errorf("%s (%s)", what, d)
	case !happened && e.has(d):
		e.Errorf("no longer: %s; take the defect off the list", d)
	case happened:
		e.Logf("known defect: %s", d)
	}
}

// bounded as renew and release bound their calls.
func (e *election) bounded() context.Context {
	ctx, cancel := context.WithTimeout(e.Context(), time.Minute)
	e.Cleanup(cancel)
	return ctx
}

func record(identity string) resourcelock.LeaderElectionRecord {
	now := metav1.Now()
	return resourcelock.LeaderElectionRecord{
		HolderIdentity: identity, LeaseDurationSeconds: int(LeaseDuration / time.Second), AcquireTime: now, RenewTime: now,
	}
}

// acquire as a LeaderElector would a free lock.
func (e *election) acquire(l resourcelock.Interface) resourcelock.LeaderElectionRecord {
	e.Helper()
	r := record(l.Identity())
	old, _, err := l.Get(e.Context())
	switch {
	case apierrors.IsNotFound(err):
		err = l.Create(e.Context(), r)
	case err == nil && old.HolderIdentity == "":
		r.LeaderTransitions = old.LeaderTransitions + 1
		err = l.Update(e.Context(), r)
	case err == nil:
		e.Fatalf("lock is held by %q", old.HolderIdentity)
	}
	if err != nil {
		e.Fatalf("acquire: %v", err)
	}
	return r
}

func (e *election) release(l resourcelock.Interface) error {
	now := metav1.Now()
	return l.Update(e.bounded(), resourcelock.LeaderElectionRecord{LeaseDurationSeconds: 1, AcquireTime: now, RenewTime: now})
}

func (e *election) holder(l resourcelock.Interface) string {
	e.Helper()
	r, _, err := l.Get(e.bounded())
	if err != nil {
		e.Fatalf("get: %v", err)
	}
	return r.HolderIdentity
}
