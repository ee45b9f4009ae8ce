package admission

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of one guard. Labels are constants of this package, never names.
type metrics struct {
	decisions *prometheus.CounterVec
	seconds   *prometheus.HistogramVec
	evidence  prometheus.Histogram
	probes    prometheus.Histogram
	grants    prometheus.Counter
	conflicts prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, memory *Memory, now func() time.Time) (*metrics, error) {
	buckets := []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5}
	m := &metrics{
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "quorate_admission_decisions_total", Help: "Requests judged, by what they do and what was decided.",
		}, []string{"operation", "outcome"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "quorate_admission_decision_seconds", Help: "Time that a decision took.", Buckets: buckets,
		}, []string{"operation"}),
		evidence: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "quorate_admission_evidence_age_seconds", Help: "Age of the oldest evidence of a decision.", Buckets: buckets,
		}),
		probes: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "quorate_admission_probe_seconds", Help: "Time that asking all members of an ensemble took.", Buckets: buckets,
		}),
		grants: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "quorate_admission_grants_total", Help: "Grants written, repeats included.",
		}),
		conflicts: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "quorate_admission_conflicts_total", Help: "Yeses that could not be written, because somebody changed what they rested on.",
		}),
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.decisions, m.seconds, m.evidence, m.probes, m.grants, m.conflicts,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "quorate_admission_grants_active", Help: "Grants that this replica saw in the last two minutes.",
		}, func() float64 { n, _ := memory.active(now()); return float64(n) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "quorate_admission_grant_oldest_seconds", Help: "For how long this replica has seen the oldest of them.",
		}, func() float64 { _, age := memory.active(now()); return age.Seconds() }),
	} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return m, nil
}
