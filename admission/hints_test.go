package admission

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// outcome of asking for the server.
func (s *stage) outcome(ctx context.Context, server int) Outcome {
	return s.asked(ctx, 0, server, nil).d.Outcome
}

// Of two that wait for a third to come back, the follower goes first, although the
// leader asks first; and then the leader.
func TestLeaderGoesLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, ctx := newStage(t, 3, nil), t.Context()
		defer s.end()
		s.mu.Lock()
		s.crash(2)
		old := s.pods["zk-1"]
		s.mu.Unlock()
		for _, server := range []int{0, 1} {
			if got := s.outcome(ctx, server); got.Allowed() {
				t.Fatalf("got %s for zk-%d, while zk-2 is down", got, server)
			}
		}
		s.until(ctx, func() bool { return s.pods["zk-2"].proc.synced })
		if got := s.outcome(ctx, 0); got != DenyLeaderLast {
			t.Errorf("got %s for the leader, want %s", got, DenyLeaderLast)
		}
		follower := s.asked(ctx, 0, 1, nil)
		if !follower.d.Outcome.Allowed() {
			t.Errorf("got %s for the follower, want it to go", follower.d.Outcome)
		}
		s.lands(follower, false)
		s.back(ctx, 1, old)
		if got := s.outcome(ctx, 0); got != AllowSafe {
			t.Errorf("got %s for the leader when the follower is back, want %s", got, AllowSafe)
		}
	})
}

// A leader does not wait for ever for one that asks and never goes: not for longer than
// half a minute, and not again for five.
func TestLeaderIsHeldBackOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, ctx := newStage(t, 5, nil), t.Context()
		defer s.end()
		for s.outcome(ctx, 1) != DenyRepeats { // a PodDisruptionBudget refuses it
			s.pass(ctx, 5*time.Second)
		}
		// held asks for both every five seconds, and is for how long the leader was held back.
		held := func(most time.Duration) time.Duration {
			for began := time.Now(); ; s.pass(ctx, 5*time.Second) {
				s.outcome(ctx, 1)
				got, since := s.outcome(ctx, 0), time.Since(began)
				if got != DenyLeaderLast || since > most {
					if !got.Allowed() {
						t.Errorf("got %s after %s, want the leader to go", got, since)
					}
					return since
				}
			}
		}
		if d := held(time.Minute); d < 25*time.Second || d > 36*time.Second {
			t.Errorf("held back for %s, want about %s", d, heldBack)
		}
		if d := held(time.Minute); d > 5*time.Second {
			t.Errorf("held back again, for %s", d)
		}
	})
}

// Nobody is held back for somebody who was refused long ago, or who is not in sync.
func TestLeaderWaitsForNobodyElse(t *testing.T) {
	for name, c := range map[string]func(ctx context.Context, s *stage){
		"who gave up": func(ctx context.Context, s *stage) { s.pass(ctx, wanted+time.Second) },
		"who is lost": func(_ context.Context, s *stage) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.crash(1)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, ctx := newStage(t, 7, nil), t.Context()
				defer s.end()
				for s.outcome(ctx, 1) != DenyRepeats {
					s.pass(ctx, 5*time.Second)
				}
				c(ctx, s)
				if got := s.outcome(ctx, 0); got != AllowSafe {
					t.Errorf("got %s for the leader, want %s", got, AllowSafe)
				}
			})
		})
	}
}
