package leaderelection_test

import (
	"context"
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/quorate/quorate/leaderelection"
	"github.com/quorate/quorate/leaderelection/zookeeper"
	"github.com/quorate/quorate/leaderelection/zookeepertest"
)

// gauged is a process whose metrics are gathered.
func gauged(t *testing.T, tree *zookeepertest.Tree) (*process, *prometheus.Registry) {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	s, err := leaderelection.Dial(t.Context(), leaderelection.SessionConfig{
		Timeout: timeout, Tick: tick, Registerer: reg,
		Open: func(context.Context) (leaderelection.Conn, error) { return tree.Open(), nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return &process{name: "a", session: s}, reg
}

// gather all metrics: their values, and of latencies how many there were.
func gather(t *testing.T, reg *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		for _, m := range f.Metric {
			name := strings.TrimPrefix(f.GetName(), "quorate_leaderelection_")
			for _, label := range m.Label {
				name += " " + label.GetValue()
			}
			out[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return out
}

func TestMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tree := zookeepertest.NewTree(timeout)
		p, reg := gauged(t, tree)
		l, second := lockOf(t, p), lockOf(t, p)
		want := map[string]float64{
			"leader ns/x": 0, "acquired_total": 0, "lost_total": 0, "token_went_back_total": 0,
			"session_established": 1, "session_ended_total": 0, "session_proof_age_seconds": 1, "open_access": 1,
		}
		check := func(when string, changes map[string]float64) {
			t.Helper()
			synctest.Wait()
			maps.Copy(want, changes)
			got := gather(t, reg)
			for name := range got { // how often a standby looks is told elsewhere
				if strings.HasPrefix(name, "operation_duration_seconds ") {
					if _, ok := want[name]; !ok {
						delete(got, name)
					}
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", when, diff)
			}
		}
		pass(3 * time.Second)
		check("at the beginning", map[string]float64{"operation_duration_seconds proof ok": 2})

		acquire(t, l)
		standBy(t, second)
		check("leading, with a standby", map[string]float64{
			"leader ns/x": 1, "acquired_total": 1, "standby_position ns/x": 0, "operation_duration_seconds acquire ok": 1,
		})
		if err := second.Update(t.Context(), recordOf(second)); err == nil {
			t.Fatal("a second owner")
		}
		check("a second was refused", map[string]float64{"operation_duration_seconds acquire refused": 1})
		if _, err := tree.Do(&zookeeper.Delete{Path: election1 + "/owner", Version: zookeeper.AnyVersion}); err != nil {
			t.Fatal(err)
		}
		delete(want, "standby_position ns/x") // its turn has come, and it did not take it
		check("lost", map[string]float64{"leader ns/x": 0, "lost_total": 1})

		l.RecordEvent("stopped leading")
		before := tree.Writes()
		tree.Wipe()
		await(t, time.Minute, "another session", func() bool { return p.session.Check() == nil && tree.Writes() > before })
		acquire(t, l)
		if err := release(t.Context(), l); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		got := gather(t, reg)
		check("in an ensemble that lost its data", map[string]float64{
			"acquired_total": 2, "token_went_back_total": 1, "session_ended_total": 1, "operation_duration_seconds acquire ok": 2,
			"operation_duration_seconds release ok": 1,
			"session_proof_age_seconds":             got["session_proof_age_seconds"], "operation_duration_seconds proof ok": got["operation_duration_seconds proof ok"],
		})
	})
}

// Metrics end with their session, so that another may have them.
func TestMetricsEndWithTheirSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, reg := gauged(t, zookeepertest.NewTree(timeout))
		if err := p.session.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := gather(t, reg); len(got) != 0 {
			t.Errorf("metrics of a closed session: %v", got)
		}
	})
}

// A process may have two candidates in one election: that the second is made does not
// say that the first has stopped leading.
func TestSecondCandidateLeavesTheGaugeAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, reg := gauged(t, zookeepertest.NewTree(timeout))
		first := lockOf(t, p)
		acquire(t, first)
		lockOf(t, p)
		if got := gather(t, reg)["leader ns/x"]; got != 1 {
			t.Errorf("leader: got %v, want 1", got)
		}
	})
}
