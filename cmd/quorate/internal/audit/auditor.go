package audit

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Recorder is an events.EventRecorder of client-go.
type Recorder interface {
	Eventf(regarding, related runtime.Object, eventtype, reason, action, note string, args ...any)
}

// Config of an Auditor.
type Config struct {
	// Reader reads from the API server, not from a cache.
	Reader client.Reader
	// Validating, Mutating and Definition are as they should be. Nil: not looked at.
	Validating *admissionv1.ValidatingWebhookConfiguration
	Mutating   *admissionv1.MutatingWebhookConfiguration
	Definition *apiextensionsv1.CustomResourceDefinition
	// Deadline of a decision of the guard.
	Deadline time.Duration
	// SchedulerFile is the configuration of the scheduler beside us, and
	// ExtenderAddress where it is to ask. Empty: not looked at.
	SchedulerFile, ExtenderAddress string
	// Events, or nil.
	Events Recorder
	// Metrics to register with, or nil.
	Metrics prometheus.Registerer
}

// Auditor looks from time to time. It is safe for concurrent use.
type Auditor struct {
	cfg     Config
	found   *prometheus.GaugeVec
	changed chan struct{}

	mu   sync.Mutex         // guards below
	last map[string]Problem // nil before the first look
}

// NewAuditor returns an Auditor that has not looked yet.
func NewAuditor(cfg Config) *Auditor {
	a := &Auditor{cfg: cfg, changed: make(chan struct{}, 1), found: prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "quorate_self_audit_problem",
		Help: "How many things of a kind are not as they should be in what the cluster holds of Quorate.",
	}, []string{"check"})}
	for _, check := range Checks {
		a.found.WithLabelValues(string(check)).Set(0)
	}
	if cfg.Metrics != nil {
		cfg.Metrics.MustRegister(a.found)
	}
	return a
}

// Run looks at once, and again after every interval, which is asked for each time,
// until ctx ends.
func (a *Auditor) Run(ctx context.Context, interval func() time.Duration) error {
	for {
		a.Look(ctx)
		timer := time.NewTimer(interval())
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
}

// Changed has something to receive once Report says other than before; it is for one
// receiver. A nil Auditor never has.
func (a *Auditor) Changed() <-chan struct{} {
	if a == nil {
		return nil
	}
	return a.changed
}

// Report is what a look found. The zero value is that of nobody who looked.
type Report struct {
	// Looked is false where nothing is known yet.
	Looked bool
	// Problems that the look found, in no order.
	Problems []Problem
}

// Report of the last look. A nil Auditor never looks.
func (a *Auditor) Report() Report {
	if a == nil {
		return Report{}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return Report{Looked: a.last != nil, Problems: slices.Collect(maps.Values(a.last))}
}

// Look looks once, tells what is new and what is over, and returns what is wrong.
func (a *Auditor) Look(ctx context.Context) []Problem {
	problems := a.look(ctx)
	if ctx.Err() != nil {
		return problems
	}
	now, counts := map[string]Problem{}, map[Check]int{}
	for _, p := range problems {
		now[p.String()] = p
		counts[p.Check]++
	}
	for _, check := range Checks {
		a.found.WithLabelValues(string(check)).Set(float64(counts[check]))
	}
	a.mu.Lock()
	before := a.last
	a.last = now
	a.mu.Unlock()
	if before == nil || !maps.Equal(before, now) {
		select {
		case a.changed <- struct{}{}:
		default: // not yet received: it will see these, too
		}
	}
	log := klog.FromContext(ctx)
	for key, p := range now {
		if _, known := before[key]; !known {
			log.Error(nil, "Self-audit found a problem", "check", p.Check, "object", p.Object, "problem", p.Message)
			a.tell(p)
		}
	}
	for key, p := range before {
		if _, still := now[key]; !still {
			log.Info("Self-audit: a problem is over", "check", p.Check, "object", p.Object, "problem", p.Message)
		}
	}
	return problems
}

func (a *Auditor) tell(p Problem) {
	if a.cfg.Events == nil || a.cfg.Validating == nil {
		return
	}
	// Events of the same action are one series, which keeps the first note.
	about := &admissionv1.ValidatingWebhookConfiguration{}
	about.APIVersion, about.Kind, about.Name = "admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration", a.cfg.Validating.Name
	a.cfg.Events.Eventf(about, nil, corev1.EventTypeWarning, "SelfAudit", string(p.Check), "%s", p.String())
}

func (a *Auditor) look(ctx context.Context) []Problem {
	var problems []Problem
	if want := a.cfg.Validating; want != nil {
		live, failed := read(ctx, a.cfg.Reader, want.Name, &admissionv1.ValidatingWebhookConfiguration{})
		if problems = append(problems, failed...); failed == nil {
			problems = append(problems, Validating(live, want, a.cfg.Deadline)...)
		}
	}
	if want := a.cfg.Mutating; want != nil {
		live, failed := read(ctx, a.cfg.Reader, want.Name, &admissionv1.MutatingWebhookConfiguration{})
		if problems = append(problems, failed...); failed == nil {
			problems = append(problems, Mutating(live, want)...)
		}
	}
	if want := a.cfg.Definition; want != nil {
		live, failed := read(ctx, a.cfg.Reader, want.Name, &apiextensionsv1.CustomResourceDefinition{})
		if problems = append(problems, failed...); failed == nil {
			problems = append(problems, Definition(live, want)...)
		}
	}
	if file := a.cfg.SchedulerFile; file != "" {
		text, err := os.ReadFile(file)
		if err != nil {
			return append(problems, problem(Unreadable, "KubeSchedulerConfiguration "+file, "can't be read: %v", err))
		}
		problems = append(problems, Scheduler(file, text, a.cfg.ExtenderAddress)...)
	}
	return problems
}

// read returns nil for an object that is not there, and a problem where that can't be
// told.
func read[T client.Object](ctx context.Context, from client.Reader, name string, into T) (found T, failed []Problem) {
	err := from.Get(ctx, client.ObjectKey{Name: name}, into)
	var none T
	switch {
	case err == nil:
		return into, nil
	case apierrors.IsNotFound(err):
		return none, nil
	default:
		return none, []Problem{problem(Unreadable, fmt.Sprintf("%T/%s", into, name), "can't be read: %v", err)}
	}
}
