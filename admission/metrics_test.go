package admission

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/quorate/quorate/ensemble/probe"
	"github.com/quorate/quorate/ensemble/v1alpha1"
)

// measured is an office by a clock that stands still but for its members: each look at
// them takes 300 ms, and what they say is 700 ms old by then. The first writes of
// grants are conflicts.
type measured struct {
	*office
	now       time.Time
	conflicts int
}

func newMeasured(t *testing.T, conflicts int) *measured {
	t.Helper()
	m := &measured{office: newOffice(t), now: noon, conflicts: conflicts}
	m.reg, m.mux = prometheus.NewRegistry(), http.NewServeMux()
	g, err := New(Config{Cluster: m, Examiner: m, Metrics: m.reg, Now: func() time.Time { return m.now }})
	if err != nil {
		t.Fatal(err)
	}
	g.Register(muxOf{m.mux})
	return m
}

func (m *measured) Examine(ctx context.Context, e *v1alpha1.Ensemble, pods []corev1.Pod) probe.View {
	v := m.world.Examine(ctx, e, pods)
	m.now = m.now.Add(300 * time.Millisecond)
	v.At = m.now.Add(-700 * time.Millisecond)
	return v
}

func (m *measured) UpdateStatus(ctx context.Context, e *v1alpha1.Ensemble) error {
	if len(e.Status.Grants) > 0 && m.conflicts > 0 {
		m.conflicts--
		return apierrors.NewConflict(ensemblesResource, e.Name, errors.New("injected"))
	}
	return m.world.UpdateStatus(ctx, e)
}

// counted compares a counter.
func (m *measured) counted(t *testing.T, name, help string, want int) {
	t.Helper()
	text := fmt.Sprintf("# HELP %[1]s %[2]s\n# TYPE %[1]s counter\n%[1]s %[3]d\n", name, help, want)
	if err := testutil.GatherAndCompare(m.reg, strings.NewReader(text), name); err != nil {
		t.Error(err)
	}
}

// observed compares a histogram, all of whose values are the same.
func (m *measured) observed(t *testing.T, name, labels, help string, n int, each float64) {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "# HELP %[1]s %[2]s\n# TYPE %[1]s histogram\n", name, help)
	for _, le := range []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5} {
		below := 0
		if each <= le {
			below = n
		}
		fmt.Fprintf(&b, "%s_bucket{%sle=\"%g\"} %d\n", name, labels, le, below)
	}
	fmt.Fprintf(&b, "%s_bucket{%sle=\"+Inf\"} %d\n", name, labels, n)
	if labels != "" {
		labels = "{" + strings.TrimSuffix(labels, ",") + "}"
	}
	fmt.Fprintf(&b, "%[1]s_sum%[2]s %[3]g\n%[1]s_count%[2]s %[4]d\n", name, labels, each*float64(n), n)
	if err := testutil.GatherAndCompare(m.reg, strings.NewReader(b.String()), name); err != nil {
		t.Error(err)
	}
}

const conflictsHelp = "Yeses that could not be written, because somebody changed what they rested on."

// How long a decision took, and asking the members for it, and how old its evidence was.
func TestMeasures(t *testing.T) {
	m := newMeasured(t, 0)
	for _, pod := range []string{"zk-0", "zk-1"} {
		m.review(t, ValidatePath, evict(pod, `{}`))
	}
	m.observed(t, "quorate_admission_decision_seconds", `operation="evict",`, "Time that a decision took.", 2, .3)
	m.observed(t, "quorate_admission_probe_seconds", "", "Time that asking all members of an ensemble took.", 2, .3)
	m.observed(t, "quorate_admission_evidence_age_seconds", "", "Age of the oldest evidence of a decision.", 2, .7)
	m.counted(t, "quorate_admission_conflicts_total", conflictsHelp, 0)
	m.counted(t, "quorate_admission_grants_total", "Grants written, repeats included.", 1)
}

// A conflict is a yes that somebody was faster than: not whatever makes a decision
// begin anew, as a guard that is armed on the way, or a pod that goes meanwhile.
func TestConflicts(t *testing.T) {
	for name, c := range map[string]struct {
		conflicts int
		before    func(m *measured)
		want      int
	}{
		"two":                   {2, func(*measured) {}, 2},
		"the guard is armed":    {0, func(m *measured) { m.ensembles["zk"].Status.Guard = nil }, 0},
		"the pod goes":          {0, func(m *measured) { m.afterRead = func() { delete(m.pods, "zk-0") } }, 0},
		"nothing is in the way": {0, func(*measured) {}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMeasured(t, c.conflicts)
			m.mu.Lock()
			c.before(m)
			m.mu.Unlock()
			m.review(t, ValidatePath, evict("zk-0", `{}`))
			m.counted(t, "quorate_admission_conflicts_total", conflictsHelp, c.want)
		})
	}
}
