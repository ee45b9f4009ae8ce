package status

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// metrics of one controller. Labels are constants, never names.
type metrics struct {
	looks  *prometheus.CounterVec
	look   prometheus.Histogram
	writes prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, r *rhythms) (*metrics, error) {
	m := &metrics{
		looks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "quorate_status_looks_total", Help: "Looks at an ensemble, by whether a quorum was in sync.",
		}, []string{"quorate"}),
		look: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "quorate_status_look_seconds", Help: "Time that asking all members of an ensemble took.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5},
		}),
		writes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "quorate_status_writes_total", Help: "Writes of an Ensemble's status.",
		}),
	}
	if reg == nil {
		return m, nil
	}
	all := []prometheus.Collector{m.looks, m.look, m.writes}
	for _, status := range []metav1.ConditionStatus{metav1.ConditionTrue, metav1.ConditionFalse, metav1.ConditionUnknown} {
		all = append(all, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "quorate_status_ensembles", Help: "Ensembles by whether a quorum was last seen in sync, on the elected replica.",
			ConstLabels: prometheus.Labels{"quorate": string(status)},
		}, func() float64 { return float64(r.counts()[string(status)]) }))
	}
	for _, c := range all {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return m, nil
}
