package admission

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"k8s.io/apimachinery/pkg/types"

	"github.com/quorate/quorate/ensemble/v1alpha1"
)

// stored are the grants, and how often anything was written.
func (s *stage) stored() ([]v1alpha1.Grant, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ensembles["zk"].Status.Grants, s.rv
}

var zk = types.NamespacedName{Namespace: "data", Name: "zk"}

// A grant goes without another request once its server is back, or its pod was seen to
// stay; not before, and not by looking too early.
func TestRelease(t *testing.T) {
	for name, c := range map[string]struct {
		tell func(ctx context.Context, s *stage)
		want int
	}{
		"its server is back": {func(ctx context.Context, s *stage) {
			old := s.first()
			s.evicted(ctx, 0)
			s.back(ctx, 0, old)
		}, 0},
		"its server resyncs": {func(ctx context.Context, s *stage) {
			s.slow = time.Hour
			old := s.first()
			s.evicted(ctx, 0)
			s.until(ctx, func() bool { p := s.pods["zk-0"]; return p != nil && p != old && p.running })
		}, 1},
		"nobody used it": {func(ctx context.Context, s *stage) {
			s.asked(ctx, 0, 0, nil)
			s.pass(ctx, 91*time.Second)
		}, 0},
		"it may still be used": {func(ctx context.Context, s *stage) {
			s.asked(ctx, 0, 0, nil)
			s.pass(ctx, 80*time.Second)
		}, 1},
		"there is none": {func(context.Context, *stage) {}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStage(t, 3, nil)
				c.tell(t.Context(), s)
				_, writes := s.stored()
				kept, err := s.replicas[0].guard.Release(t.Context(), zk)
				if got, _ := s.stored(); err != nil || len(kept) != c.want || len(got) != c.want {
					t.Errorf("got %d grants kept and %d stored (%v), want %d", len(kept), len(got), err, c.want)
				}
				_, err = s.replicas[0].guard.Release(t.Context(), zk)
				if _, now := s.stored(); err != nil || now > writes+1 {
					t.Errorf("got %d writes and %v, want one at most", now-writes, err)
				}
				s.end()
			})
		})
	}
}

// What a yes wrote while the release looked stays.
func TestReleaseDropsNoNewGrant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, ctx := newStage(t, 3, nil), t.Context()
		old := s.first()
		s.evicted(ctx, 0)
		s.back(ctx, 0, old)
		s.mutant.after = func() { s.asked(ctx, 1, 1, nil) }
		if _, err := s.replicas[0].guard.Release(ctx, zk); err != nil {
			t.Error(err)
		}
		if got, _ := s.stored(); len(got) != 1 || got[0].Name != "zk-1" {
			t.Errorf("got the grants %v, want that of zk-1", got)
		}
		s.end()
	})
}

// The Ensemble is made anew, or goes, or nothing can be read: nothing is dropped.
func TestReleaseOfNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, ctx := newStage(t, 3, nil), t.Context()
		s.asked(ctx, 0, 0, nil)
		if kept, err := s.replicas[0].guard.Release(ctx, types.NamespacedName{Namespace: "data", Name: "other"}); err != nil || kept != nil {
			t.Errorf("got %v, %v of an Ensemble that is not there", kept, err)
		}
		ended, cancel := context.WithCancel(ctx)
		cancel()
		if _, err := s.replicas[0].guard.Release(ended, zk); err == nil {
			t.Error("got no error, although nothing could be read")
		}
		if got, _ := s.stored(); len(got) != 1 {
			t.Errorf("got the grants %v, want that of zk-0", got)
		}
		s.end()
	})
}

// The gauges show what there is: none after a release, and nothing of what was not
// looked at lately.
func TestGrantGauges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, ctx, reg := newStage(t, 3, nil), t.Context(), prometheus.NewRegistry()
		memory := NewMemory(8)
		g, err := New(Config{Cluster: s.world, Examiner: s.world, Memory: memory, Metrics: reg})
		if err != nil {
			t.Fatal(err)
		}
		gauges := func(want string) {
			t.Helper()
			if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "quorate_admission_grants_active", "quorate_admission_grant_oldest_seconds"); err != nil {
				t.Error(err)
			}
		}
		seen := func() {
			s.asked(ctx, 0, 0, nil)
			s.mu.Lock()
			defer s.mu.Unlock()
			memory.See(s.ensembles["zk"], time.Now())
		}
		seen()
		s.pass(ctx, 91*time.Second)
		gauges(gaugesOf("1", "91"))
		if _, err := g.Release(ctx, zk); err != nil {
			t.Error(err)
		}
		gauges(gaugesOf("0", "0"))
		seen()
		s.pass(ctx, 2*time.Minute)
		gauges(gaugesOf("1", "120"))
		s.pass(ctx, time.Second)
		gauges(gaugesOf("0", "0"))
		s.end()
	})
}

func gaugesOf(active, oldest string) string {
	return `# HELP quorate_admission_grant_oldest_seconds For how long this replica has seen the oldest of them.
# TYPE quorate_admission_grant_oldest_seconds gauge
quorate_admission_grant_oldest_seconds ` + oldest + `
# HELP quorate_admission_grants_active Grants that this replica saw in the last two minutes.
# TYPE quorate_admission_grants_active gauge
quorate_admission_grants_active ` + active + `
`
}
