package admission

import (
	"slices"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/quorate/quorate/ensemble/probe"
	"github.com/quorate/quorate/ensemble/v1alpha1"
)

// Ages of what an Ensemble's status says, by the observer's own clock: for how
// long it has seen it so. Never longer than true.
type Ages struct {
	// Guard is for how long status.guard has been of this object.
	Guard time.Duration
	// Grants by uid of the pod.
	Grants map[string]GrantAge
	// Lost is for how long no quorum was seen to serve, at each look.
	Lost time.Duration
}

// GrantAge is the age of one grant. The zero value was just seen for the first time.
type GrantAge struct {
	// First is since the first sight of the grant, repeats or not.
	First time.Duration
	// Unchanged is since its last change: its last yes is at least as old.
	Unchanged time.Duration
	// Synced is the time between the first and the latest probe that found the
	// successor synced, without one in between that did not.
	Synced time.Duration
}

// Memory is what one process has seen of grants. It is bounded; what it forgets
// or never saw begins at zero again, which only lengthens a grant's life. It is
// safe for concurrent use.
type Memory struct {
	mu        sync.Mutex // guards what entries point at
	ensembles *lru.Cache[types.UID, *sighting]
}

type sighting struct {
	latest    time.Time
	guard     string
	since     time.Time
	grants    map[string]*grantSighting
	probed    time.Time // the latest view
	lost      time.Time // since when no view showed a quorum that serves; zero: one did
	agreement probe.Agreement
}

type grantSighting struct {
	grant          v1alpha1.Grant
	first, changed time.Time
	successor      string // uid and process of the pod that was seen synced
	synced, latest time.Time
}

// Remembered is for how many Ensembles a process has a Memory, unless told otherwise. It
// is meant to be more than there are: what is looked at in turn, and is one too many, is
// forgotten each time just before its next look.
const Remembered = 1 << 16

// NewMemory remembers up to size Ensembles.
func NewMemory(size int) *Memory {
	c, err := lru.New[types.UID, *sighting](max(1, size))
	if err != nil {
		panic("admission: a memory holds at least one Ensemble")
	}
	return &Memory{ensembles: c}
}

// See notes what was read and returns its ages. now is the observer's own clock,
// taken after the read.
func (m *Memory) See(e *v1alpha1.Ensemble, now time.Time) Ages {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.of(e.UID)
	s.latest = now
	guard := ""
	if e.Status.Guard != nil {
		guard = e.Status.Guard.UID
	}
	if s.guard != guard || s.since.IsZero() {
		s.guard, s.since = guard, now
	}
	s.see(e.Status.Grants, now)
	return s.ages(now)
}

// of is what was seen of the Ensemble.
func (m *Memory) of(ensemble types.UID) *sighting {
	s, ok := m.ensembles.Get(ensemble)
	if !ok {
		s = &sighting{}
		m.ensembles.Add(ensemble, s)
	}
	return s
}

// Settle tells the view for how long its members and their leader have agreed.
func (m *Memory) Settle(ensemble types.UID, v *probe.View) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.of(ensemble).agreement.See(v)
}

func (s *sighting) see(grants []v1alpha1.Grant, now time.Time) {
	seen := make(map[string]*grantSighting, len(grants))
	for i := range grants {
		g := &grants[i]
		old := s.grants[g.PodUID]
		switch {
		case old == nil || !sameGrant(&old.grant, g):
			old = &grantSighting{grant: *g.DeepCopy(), first: now, changed: now}
		case !slices.Equal(old.grant.RequestUIDs, g.RequestUIDs) || old.grant.Reason != g.Reason:
			old.grant, old.changed = *g.DeepCopy(), now
		}
		seen[g.PodUID] = old
	}
	s.grants = seen
}

// sameGrant reports whether both are one grant, repeated perhaps.
func sameGrant(a, b *v1alpha1.Grant) bool {
	return a.PodUID == b.PodUID && sameSecond(a.Since, b.Since) &&
		len(a.RequestUIDs) > 0 && len(b.RequestUIDs) > 0 && a.RequestUIDs[0] == b.RequestUIDs[0]
}

// sameSecond compares as the API stores: without fractions.
func sameSecond(a, b metav1.Time) bool { return a.Unix() == b.Unix() }

func (s *sighting) ages(now time.Time) Ages {
	a := Ages{Guard: now.Sub(s.since), Grants: make(map[string]GrantAge, len(s.grants))}
	for uid, g := range s.grants {
		a.Grants[uid] = GrantAge{First: now.Sub(g.first), Unchanged: now.Sub(g.changed), Synced: g.latest.Sub(g.synced)}
	}
	return a
}

// Probed notes which successors the evidence shows synced, and brings its ages up
// to date.
func (m *Memory) Probed(ev *Evidence) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, ok := m.ensembles.Get(ev.Ensemble.UID)
	if !ok {
		return
	}
	overtaken := ev.View.At.Before(s.probed) // by a view that was asked for later
	if !overtaken {
		s.lose(ev)
		s.probed = ev.View.At
	}
	if !s.lost.IsZero() {
		ev.Ages.Lost = s.probed.Sub(s.lost)
	}
	for i := range ev.Ensemble.Status.Grants {
		g := &ev.Ensemble.Status.Grants[i]
		seen, ok := s.grants[g.PodUID]
		if !ok || !sameGrant(&seen.grant, g) {
			continue
		}
		k, who := ev.successor(g), ""
		if k >= 0 {
			who = string(ev.Pods[k].UID) + " " + ev.Pods[k].Process
		}
		switch {
		case k < 0:
			seen.successor, seen.synced, seen.latest = "", time.Time{}, time.Time{}
		case overtaken:
		case seen.successor != who:
			seen.successor, seen.synced, seen.latest = who, ev.View.At, ev.View.At
		case ev.View.At.After(seen.latest):
			seen.latest = ev.View.At
		}
		age := ev.Ages.Grants[g.PodUID]
		age.Synced = seen.latest.Sub(seen.synced)
		ev.Ages.Grants[g.PodUID] = age
	}
}

// lose notes since when no quorum serves. Who has not looked for so long as counts
// as a loss begins anew: there may have been one in between.
func (s *sighting) lose(ev *Evidence) {
	switch {
	case !ev.quorumLost():
		s.lost = time.Time{}
	case s.lost.IsZero() || ev.View.At.Sub(s.probed) >= lostFor:
		s.lost = ev.View.At
	}
}

// current is how old a sighting may be to say what is so now: whoever leads the status
// controller looks more often at an Ensemble with grants, and sees when they end.
const current = 2 * time.Minute

// active is how many grants there are, as far as was seen lately, and for how long the
// oldest of them has been seen.
func (m *Memory) active(now time.Time) (n int, oldest time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.ensembles.Values() {
		if now.Sub(s.latest) > current {
			continue
		}
		for _, g := range s.grants {
			n, oldest = n+1, max(oldest, now.Sub(g.first))
		}
	}
	return n, oldest
}
