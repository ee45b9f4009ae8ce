package admission

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorate/quorate/ensemble/v1alpha1"
)

// A pod begins to go between the two reads of a request that names no uid. A yes would
// cost nothing, were it for that pod: it stalls, and hits the next one of the name while
// another member is on its way out.
func TestGoingByNameStartsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, ctx := newStage(t, 3, nil), t.Context()
		old := s.first()
		s.mu.Lock()
		s.afterRead = func() { s.remove(old, time.Now(), false, Decision{}) }
		s.mu.Unlock()
		stalled := s.asked(ctx, 0, 0, bySomeName)
		if stalled.d.Outcome != DenyStale {
			t.Errorf("got %s, want %s", stalled.d.Outcome, DenyStale)
		}
		s.back(ctx, 0, old)
		s.evicted(ctx, 1)
		s.lands(stalled, false)
		s.end()
		for _, b := range s.broken {
			t.Error(b)
		}
	})
}

// given up requests end while the second of two Ensembles is written.
type givenUp struct {
	*world
	giveUp context.CancelFunc
}

func (g *givenUp) UpdateStatus(ctx context.Context, e *v1alpha1.Ensemble) error {
	if e.Name == "zk-two" {
		g.giveUp()
		return ctx.Err()
	}
	return g.world.UpdateStatus(ctx, e)
}

// A request that is given up between its two writes leaves no grant behind: the first is
// taken back all the same.
func TestGrantIsTakenBackAfterTheRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, 3, 0)
		w.calm = true
		w.makeArmed("zk-two")
		ctx, giveUp := context.WithCancel(t.Context())
		defer giveUp()
		g, err := New(Config{Cluster: &givenUp{w, giveUp}, Examiner: w})
		if err != nil {
			t.Fatal(err)
		}
		d := g.Judge(ctx, Request{UID: "r", Verb: Evict, Namespace: "data", Name: "zk-0", PodUID: w.pods["zk-0"].uid})
		w.end()
		if left := w.ensembles["zk"].Status.Grants; d.Outcome != DenyUnsure || len(left) > 0 || w.rv < 4 {
			t.Errorf("got %s and grants %v after %d writes, want %s and none", d.Outcome, left, w.rv, DenyUnsure)
		}
	})
}
