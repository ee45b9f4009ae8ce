package admission

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

// Paths that Register serves; the webhook configurations in deploy/base/webhook
// name them.
const (
	ValidatePath   = "/validate"
	BindPath       = "/bind"
	BreakGlassPath = "/break-glass"
)

// Mux is where handlers are registered: a webhook.Server of controller-runtime is one.
type Mux interface {
	Register(path string, hook http.Handler)
}

// Register serves the guard's webhooks.
func (g *Guard) Register(m Mux) {
	m.Register(ValidatePath, &admission.Webhook{Handler: admission.HandlerFunc(g.validate), WithContextFunc: withTimeout})
	m.Register(BindPath, &admission.Webhook{Handler: admission.HandlerFunc(g.bind), WithContextFunc: withTimeout})
	m.Register(BreakGlassPath, &admission.Webhook{Handler: admission.HandlerFunc(g.validate), WithContextFunc: withTimeout})
}

type untilKey struct{}

// withTimeout passes on until when the API server will wait: it says for how long in the
// query.
func withTimeout(ctx context.Context, r *http.Request) context.Context {
	d, err := time.ParseDuration(r.URL.Query().Get("timeout"))
	if err != nil || d <= 0 {
		return ctx
	}
	return context.WithValue(ctx, untilKey{}, time.Now().Add(d))
}

// awaited is for how long the API server will still wait, where it said so.
func awaited(ctx context.Context) (d time.Duration, told bool) {
	until, told := ctx.Value(untilKey{}).(time.Time)
	return time.Until(until), told
}

// validate judges one review.
func (g *Guard) validate(ctx context.Context, review admission.Request) admission.Response {
	began := g.now()
	if d, told := awaited(ctx); told {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d*9/10)
		defer cancel()
	}
	req, d, done, err := parse(&review.AdmissionRequest)
	switch {
	case err != nil:
		d = Decision{Outcome: DenyError, Message: err.Error()}
	case !done:
		d = g.Judge(ctx, req)
	}
	g.deliver(ctx, &review.AdmissionRequest, &req, &d, g.now().Sub(began))
	return response(&d)
}

// deliver is everything that a decision is told to but the answer: once each.
func (g *Guard) deliver(ctx context.Context, review *admissionv1.AdmissionRequest, req *Request, d *Decision, took time.Duration) {
	op := operation(review)
	g.metrics.decisions.WithLabelValues(op, string(d.Outcome)).Inc()
	g.metrics.seconds.WithLabelValues(op).Observe(took.Seconds())
	level := 2
	if !d.Outcome.Allowed() || d.Outcome == AllowBreakGlass {
		level = 0
	}
	klog.FromContext(ctx).V(level).Info("Judged request", "operation", op, "namespace", review.Namespace, "name", or(req.Name, review.Name),
		"user", review.UserInfo.Username, "dryRun", req.DryRun, "ensemble", d.Ensemble, "outcome", d.Outcome, "message", d.Message, "took", took)
	g.tell(req, d)
}

func operation(r *admissionv1.AdmissionRequest) string {
	for _, known := range []struct{ op, resource, sub, name string }{
		{"CREATE", "pods", "eviction", "evict"}, {"DELETE", "pods", "", "delete-pod"}, {"UPDATE", "statefulsets", "", "shrink"},
		{"UPDATE", "statefulsets", "scale", "shrink"}, {"DELETE", "statefulsets", "", "delete-statefulset"},
	} {
		if string(r.Operation) == known.op && r.Resource.Resource == known.resource && r.SubResource == known.sub {
			return known.name
		}
	}
	return "other"
}

// response is the answer as the API server passes it on.
func response(d *Decision) admission.Response {
	r := admission.Response{AdmissionResponse: admissionv1.AdmissionResponse{
		Allowed: d.Outcome.Allowed(),
		Result:  &metav1.Status{Code: d.Code(), Reason: d.Reason(), Message: d.Message},
		AuditAnnotations: map[string]string{
			"outcome": string(d.Outcome),
		},
	}}
	if !r.Allowed {
		r.Result.Status = metav1.StatusFailure
		r.Result.Details = &metav1.StatusDetails{
			RetryAfterSeconds: d.RetryAfter(),
			Causes: []metav1.StatusCause{
				{Type: policyv1.DisruptionBudgetCause, Message: d.Message},
				{Type: metav1.CauseType("quorate.io/" + string(d.Outcome)), Message: d.Ensemble},
			},
		}
	}
	annotate(r.AuditAnnotations, d)
	if d.Warning != "" {
		r.Warnings = []string{bounded(d.Warning, 119)}
	}
	return r
}

func annotate(a map[string]string, d *Decision) {
	if d.Ensemble != "" {
		a["ensemble"] = d.Ensemble
	}
	if d.Message != "" {
		a["message"] = bounded(d.Message, 1024)
	}
	if d.Judged {
		a["numbers"] = fmt.Sprintf("voters=%d quorum=%d spare=%d left=%d", d.Voters, d.Quorum, d.Spare, d.Left)
		a["evidence-age-ms"] = strconv.FormatInt(d.Age.Milliseconds(), 10)
	}
	if n := len(d.Grants); n > 0 {
		a["grant"] = d.Grants[n-1].PodUID
	}
}
