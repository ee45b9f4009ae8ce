package leaderelection

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Operations whose latency is measured.
const (
	opProof   = "proof"
	opAcquire = "acquire"
	opRelease = "release"
	opRead    = "read"
)

// metrics of one Session and its locks. The label "election" is the configuration's
// own namespace/name, of which a process has as many as it has locks.
type metrics struct {
	registerer  prometheus.Registerer
	collectors  []prometheus.Collector
	leader      *prometheus.GaugeVec
	position    *prometheus.GaugeVec
	acquired    prometheus.Counter
	lost        prometheus.Counter
	wentBack    prometheus.Counter
	ended       prometheus.Counter
	open        prometheus.Gauge
	latency     *prometheus.HistogramVec
	established prometheus.GaugeFunc
	age         prometheus.GaugeFunc

	mu      sync.Mutex // guards below
	session *Session   // nil once it is closed
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	const namespace, subsystem = "quorate", "leaderelection"
	m := &metrics{registerer: reg}
	opts := func(name, help string) prometheus.Opts {
		return prometheus.Opts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help}
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts(opts(name, help)))
	}
	m.leader = prometheus.NewGaugeVec(prometheus.GaugeOpts(opts("leader", "Whether this process leads the election.")), []string{"election"})
	m.position = prometheus.NewGaugeVec(prometheus.GaugeOpts(opts("standby_position", "Candidates before this one in the queue.")), []string{"election"})
	m.acquired = counter("acquired_total", "Terms that began.")
	m.lost = counter("lost_total", "Terms that ended otherwise than by a release.")
	m.wentBack = counter("token_went_back_total", "Terms whose fencing token was not higher than that of the term before: ZooKeeper has lost data.")
	m.ended = counter("session_ended_total", "ZooKeeper sessions that expired or were given up.")
	m.open = prometheus.NewGauge(prometheus.GaugeOpts(opts("open_access", "Whether the nodes are open to whoever reaches ZooKeeper.")))
	m.latency = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: namespace, Subsystem: subsystem, Name: "operation_duration_seconds",
		Help: "Time that operations on ZooKeeper took, by outcome.", Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16),
	}, []string{"operation", "outcome"})
	m.established = prometheus.NewGaugeFunc(prometheus.GaugeOpts(opts("session_established", "Whether there is a ZooKeeper session.")), m.hasSession)
	m.age = prometheus.NewGaugeFunc(prometheus.GaugeOpts(opts("session_proof_age_seconds", "Time since the sending of the newest write that was answered; -1 without a session.")), m.proofAge)
	m.collectors = []prometheus.Collector{m.leader, m.position, m.acquired, m.lost, m.wentBack, m.ended, m.open, m.latency, m.established, m.age}
	if reg == nil {
		return m, nil
	}
	for i, c := range m.collectors {
		if err := reg.Register(c); err != nil {
			for _, done := range m.collectors[:i] {
				reg.Unregister(done)
			}
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) watch(s *Session) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.session = s
}

// unwatch takes the metrics away, so that another session may have them.
func (m *metrics) unwatch() {
	m.watch(nil)
	if m.registerer == nil {
		return
	}
	for _, c := range m.collectors {
		m.registerer.Unregister(c)
	}
}

func (m *metrics) life() *life {
	m.mu.Lock()
	s := m.session
	m.mu.Unlock()
	if s == nil {
		return nil
	}
	li, _, err := s.current()
	if err != nil {
		return nil
	}
	return li
}

func (m *metrics) hasSession() float64 {
	if m.life() == nil {
		return 0
	}
	return 1
}

func (m *metrics) proofAge() float64 {
	li := m.life()
	if li == nil {
		return -1
	}
	return li.age().Seconds()
}

// candidate shows an election that this process takes part in. Another lock of it may
// lead.
func (m *metrics) candidate(l *Lock) { m.leader.WithLabelValues(l.Describe()) }

func (m *metrics) leading(l *Lock, leads bool) {
	v := 0.0
	if leads {
		v = 1
		m.position.DeleteLabelValues(l.Describe())
	}
	m.leader.WithLabelValues(l.Describe()).Set(v)
}

// standing in the queue with so many before; negative: not in it.
func (m *metrics) standing(l *Lock, before int) {
	if before < 0 {
		m.position.DeleteLabelValues(l.Describe())
		return
	}
	m.position.WithLabelValues(l.Describe()).Set(float64(before))
}

func (m *metrics) observe(op string, begin time.Time, err error) {
	outcome := "ok"
	switch {
	case err == nil:
	case retriable(err):
		outcome = "unsure"
	default:
		outcome = "refused"
	}
	m.latency.WithLabelValues(op, outcome).Observe(time.Since(begin).Seconds())
}
