package extender

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of a Server.
type metrics struct {
	answers *prometheus.CounterVec
	seconds *prometheus.HistogramVec
	refused *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer, p *Placer) *metrics {
	m := &metrics{
		answers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "quorate_extender_answers_total", Help: "Answers to the scheduler, by verb and outcome.",
		}, []string{"verb", "outcome"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "quorate_extender_answer_seconds", Help: "Time from a question read to its answer written, by verb.",
			Buckets: prometheus.ExponentialBuckets(0.0002, 2, 14),
		}, []string{"verb"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "quorate_extender_refused_nodes_total", Help: "Nodes that a pod was not sent to, by reason; of a temporary answer, all nodes by its outcome.",
		}, []string{"reason"}),
	}
	for c := Fatal; c <= Orphaned; c++ { // shown before the first one is refused
		m.refused.WithLabelValues(c.String())
	}
	if reg == nil {
		return m
	}
	reg.MustRegister(m.answers, m.seconds, m.refused, holdsOf(p))
	return m
}

func holdsOf(p *Placer) *holdsCollector {
	return &holdsCollector{placer: p, desc: prometheus.NewDesc(
		"quorate_extender_pods", "Unbound pods that hold a place, may still land in a former one, or may be anywhere.",
		[]string{"state"}, nil)}
}

func (m *metrics) answered(verb, outcome string, d time.Duration) {
	m.answers.WithLabelValues(verb, outcome).Inc()
	if d > 0 {
		m.seconds.WithLabelValues(verb).Observe(d.Seconds())
	}
}

// filtered counts the nodes of those given that the answer refuses.
func (m *metrics) filtered(a *Answer, given int) {
	if a.Outcome.Temporary() {
		m.refused.WithLabelValues(a.Outcome.String()).Add(float64(given))
		return
	}
	for _, r := range a.Refused {
		m.refused.WithLabelValues(r.Cause.String()).Add(float64(len(r.Nodes)))
	}
}

// holdsCollector counts when it is asked.
type holdsCollector struct {
	placer *Placer
	desc   *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (c *holdsCollector) Describe(ch chan<- *prometheus.Desc) { ch <- c.desc }

// Collect implements prometheus.Collector.
func (c *holdsCollector) Collect(ch chan<- prometheus.Metric) {
	held, lingering, doubted := c.placer.Holds()
	for _, v := range []struct {
		state string
		n     int
	}{{"holding", held}, {"lingering", lingering}, {"doubted", doubted}} {
		ch <- prometheus.MustNewConstMetric(c.desc, prometheus.GaugeValue, float64(v.n), v.state)
	}
}
