package audit

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/yaml"

	"github.com/quorate/quorate/deploy"
)

func shipped[T any](t *testing.T, file string) *T {
	t.Helper()
	text, err := deploy.Files.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var object T
	if err := yaml.UnmarshalStrict(text, &object); err != nil {
		t.Fatal(err)
	}
	return &object
}

func validating(t *testing.T) *admissionv1.ValidatingWebhookConfiguration {
	return shipped[admissionv1.ValidatingWebhookConfiguration](t, deploy.ValidatingWebhooks)
}

const deadline = 4500 * time.Millisecond

// live is what a cluster holds of what is shipped: with a CA, and with defaults.
func live(t *testing.T) *admissionv1.ValidatingWebhookConfiguration {
	c := validating(t)
	for i := range c.Webhooks {
		c.Webhooks[i].ClientConfig.CABundle = []byte("CA")
		c.Webhooks[i].ObjectSelector = &metav1.LabelSelector{}
	}
	return c
}

func named(c *admissionv1.ValidatingWebhookConfiguration, name string) *admissionv1.ValidatingWebhook {
	k := slices.IndexFunc(c.Webhooks, func(w admissionv1.ValidatingWebhook) bool { return w.Name == name })
	return &c.Webhooks[k]
}

func TestWhatWeakensTheGuardIsFound(t *testing.T) {
	tests := map[string]struct {
		change func(*admissionv1.ValidatingWebhookConfiguration)
		want   []Check
		says   string
	}{
		"as shipped": {func(*admissionv1.ValidatingWebhookConfiguration) {}, nil, ""},
		"another URL, labels, a longer timeout": {func(c *admissionv1.ValidatingWebhookConfiguration) {
			w := named(c, "eviction.quorate.io")
			w.ClientConfig.Service, w.ClientConfig.URL = nil, new("https://127.0.0.1:9443/validate")
			w.TimeoutSeconds = ptr.To[int32](10)
			c.Labels = map[string]string{"mine": "too"}
		}, nil, ""},
		"failurePolicy Ignore": {func(c *admissionv1.ValidatingWebhookConfiguration) {
			named(c, "eviction.quorate.io").FailurePolicy = ptr.To(admissionv1.Ignore)
		}, []Check{FailurePolicy}, "webhook eviction.quorate.io: failurePolicy is Ignore"},
		"an objectSelector": {func(c *admissionv1.ValidatingWebhookConfiguration) {
			named(c, "eviction.quorate.io").ObjectSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": "zookeeper"}}
		}, []Check{ObjectSelector}, "evictions pass unjudged: remove it"},
		"another namespaceSelector": {func(c *admissionv1.ValidatingWebhookConfiguration) {
			named(c, "deletion.quorate.io").NamespaceSelector = nil
		}, []Check{NamespaceSelector}, "namespaceSelector is empty, not "},
		"an operation less": {func(c *admissionv1.ValidatingWebhookConfiguration) {
			named(c, "statefulset.quorate.io").Rules[0].Operations = []admissionv1.OperationType{admissionv1.Update}
		}, []Check{Rules}, "no rule covers DELETE apps/statefulsets"},
		"every operation": {func(c *admissionv1.ValidatingWebhookConfiguration) {
			named(c, "statefulset.quorate.io").Rules[0].Operations = []admissionv1.OperationType{admissionv1.OperationAll}
		}, nil, ""},
		"pods for pods/eviction": {func(c *admissionv1.ValidatingWebhookConfiguration) {
			named(c, "eviction.quorate.io").Rules[0].Resources = []string{"pods", "*"}
		}, []Check{Rules}, "no rule covers CREATE pods/eviction"},
		"an exemption less": {func(c *admissionv1.ValidatingWebhookConfiguration) {
			w := named(c, "deletion.quorate.io")
			w.MatchConditions = slices.DeleteFunc(w.MatchConditions, func(m admissionv1.MatchCondition) bool { return m.Name == "not-kubelet" })
		}, []Check{MatchConditions}, "the match condition not-kubelet is not there as it was shipped"},
		"a condition more": {func(c *admissionv1.ValidatingWebhookConfiguration) {
			w := named(c, "eviction.quorate.io")
			w.MatchConditions = append(w.MatchConditions, admissionv1.MatchCondition{Name: "not-me", Expression: "request.userInfo.username != 'me'"})
		}, []Check{MatchConditions}, "requests that do not meet not-me pass unjudged"},
		"a condition in other lines": {func(c *admissionv1.ValidatingWebhookConfiguration) {
			w := named(c, "deletion.quorate.io")
			for i := range w.MatchConditions {
				w.MatchConditions[i].Expression = strings.ReplaceAll(w.MatchConditions[i].Expression, " ", "\n  ")
			}
		}, nil, ""},
		"matchPolicy Exact": {func(c *admissionv1.ValidatingWebhookConfiguration) {
			named(c, "eviction.quorate.io").MatchPolicy = ptr.To(admissionv1.Exact)
		}, []Check{MatchPolicy}, "matchPolicy is Exact"},
		"a timeout below the deadline": {func(c *admissionv1.ValidatingWebhookConfiguration) {
			named(c, "eviction.quorate.io").TimeoutSeconds = ptr.To[int32](3)
		}, []Check{Timeout}, "timeoutSeconds is 3, not above the deadline of a decision (4.5s)"},
		"no CA": {func(c *admissionv1.ValidatingWebhookConfiguration) {
			named(c, "eviction.quorate.io").ClientConfig.CABundle = nil
		}, []Check{Authority}, "caBundle is empty"},
		"a webhook less": {func(c *admissionv1.ValidatingWebhookConfiguration) { c.Webhooks = c.Webhooks[1:] },
			[]Check{Missing}, "webhook eviction.quorate.io is not there"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			c := live(t)
			tc.change(c)
			problems := Validating(c, validating(t), deadline)
			var got []Check
			for _, p := range problems {
				got = append(got, p.Check)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Fatalf("problems (-want +got):\n%s%v", diff, problems)
			}
			if len(problems) > 0 && !strings.Contains(problems[0].String(), tc.says) {
				t.Errorf("message: got %s, want %q in it", problems[0], tc.says)
			}
		})
	}
	if got := Validating(nil, validating(t), deadline); len(got) != 1 || got[0].Check != Missing {
		t.Errorf("no configuration: got %v, want %s", got, Missing)
	}
}

func TestDefinition(t *testing.T) {
	want := shipped[apiextensionsv1.CustomResourceDefinition](t, deploy.EnsembleCRD)
	tests := map[string]struct {
		change func(*apiextensionsv1.CustomResourceDefinition)
		want   string
	}{
		"as shipped":      {func(*apiextensionsv1.CustomResourceDefinition) {}, ""},
		"not established": {func(c *apiextensionsv1.CustomResourceDefinition) { c.Status.Conditions = nil }, "is not established"},
		"another schema": {func(c *apiextensionsv1.CustomResourceDefinition) {
			delete(c.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["spec"].Properties, "voters")
		}, "the schema of v1alpha1 is not that of this version"},
		"no status":  {func(c *apiextensionsv1.CustomResourceDefinition) { c.Spec.Versions[0].Subresources = nil }, "users may write grants"},
		"not served": {func(c *apiextensionsv1.CustomResourceDefinition) { c.Spec.Versions[0].Served = false }, "version v1alpha1 is not served"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			live := want.DeepCopy()
			live.Status.Conditions = []apiextensionsv1.CustomResourceDefinitionCondition{{Type: apiextensionsv1.Established, Status: apiextensionsv1.ConditionTrue}}
			tc.change(live)
			got := fmt.Sprint(Definition(live, want))
			if tc.want == "" && got != "[]" || !strings.Contains(got, tc.want) {
				t.Errorf("problems: got %s, want %q", got, tc.want)
			}
		})
	}
}

const goodScheduler = `
apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
extenders:
- urlPrefix: http://127.0.0.1:10270
  filterVerb: filter
  nodeCacheCapable: true
  ignorable: false
  managedResources: [{name: quorate.io/voter, ignoredByScheduler: true}]
`

func TestScheduler(t *testing.T) {
	tests := map[string]struct{ from, to, want string }{
		"as shipped":        {"", "", ""},
		"no extender":       {"extenders:", "parallelism: 16\nextras:", "no extender manages quorate.io/voter"},
		"ignorable":         {"ignorable: false", "ignorable: true", "placed unjudged while we are away"},
		"full nodes":        {"nodeCacheCapable: true", "nodeCacheCapable: false", "thirty times slower"},
		"no filter":         {"filterVerb: filter", "weight: 1", `filterVerb is ""`},
		"somebody else":     {"127.0.0.1", "10.0.0.7", "is not us (127.0.0.1:10270)"},
		"asked for all":     {"managedResources:", "others:", "every pod of the cluster waits for us"},
		"not ignored":       {"ignoredByScheduler: true", "ignoredByScheduler: false", "members stay pending"},
		"not configuration": {"extenders:", "extenders: yes\nx:", "can't be read"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got := Scheduler("scheduler.yaml", []byte(strings.Replace(goodScheduler, tc.from, tc.to, 1)), "127.0.0.1:10270")
			if tc.want == "" && len(got) > 0 || !strings.Contains(fmt.Sprint(got), tc.want) {
				t.Errorf("problems: got %v, want %q", got, tc.want)
			}
		})
	}
}

// recorder keeps what was told.
type recorder struct{ notes []string }

func (r *recorder) Eventf(_, _ runtime.Object, _, reason, _, note string, args ...any) {
	r.notes = append(r.notes, reason+": "+fmt.Sprintf(note, args...))
}

// A problem is told once, counted while it lasts, and over when it is mended.
func TestAuditorTellsOnce(t *testing.T) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{admissionv1.AddToScheme, apiextensionsv1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	bad := live(t)
	named(bad, "eviction.quorate.io").FailurePolicy = ptr.To(admissionv1.Ignore)
	cluster := fake.NewClientBuilder().WithScheme(scheme).WithObjects(bad).Build()
	events, metrics := &recorder{}, prometheus.NewRegistry()
	a := NewAuditor(Config{Reader: cluster, Validating: validating(t), Deadline: deadline, Events: events, Metrics: metrics})
	if a.Report().Looked || (*Auditor)(nil).Report().Looked {
		t.Error("says that it has looked, and has not")
	}
	for range 3 {
		if got := a.Look(t.Context()); len(got) != 1 {
			t.Fatalf("problems: got %v, want one", got)
		}
	}
	changed := func() int {
		select {
		case <-a.Changed():
			return 1
		default:
			return 0
		}
	}
	if got := changed() + changed(); got != 1 {
		t.Errorf("changes told: got %d, want 1", got)
	}
	if len(events.notes) != 1 || !strings.Contains(events.notes[0], "failurePolicy is Ignore") {
		t.Errorf("events: got %q, want one about failurePolicy", events.notes)
	}
	if got := testutil.ToFloat64(a.found.WithLabelValues(string(FailurePolicy))); got != 1 {
		t.Errorf("metric: got %v, want 1", got)
	}
	named(bad, "eviction.quorate.io").FailurePolicy = ptr.To(admissionv1.Fail)
	if err := cluster.Update(t.Context(), bad); err != nil {
		t.Fatal(err)
	}
	if got := a.Look(t.Context()); len(got) != 0 || len(a.Report().Problems) != 0 || !a.Report().Looked {
		t.Errorf("problems once mended: got %v and %+v", got, a.Report())
	}
	if changed() != 1 {
		t.Error("nobody is told that the problem is over")
	}
	if got := testutil.ToFloat64(a.found.WithLabelValues(string(FailurePolicy))); got != 0 {
		t.Errorf("metric once mended: got %v, want 0", got)
	}
	if n, err := testutil.GatherAndCount(metrics, "quorate_self_audit_problem"); err != nil || n != len(Checks) {
		t.Errorf("series: got %d (%v), want %d", n, err, len(Checks))
	}
}

// Whoever waits for a first look is told of it, though it found nothing.
func TestFirstLookIsTold(t *testing.T) {
	a := NewAuditor(Config{})
	a.Look(t.Context())
	select {
	case <-a.Changed():
	default:
		t.Error("nobody is told of the first look")
	}
	if r := a.Report(); !r.Looked || len(r.Problems) > 0 {
		t.Errorf("report: got %+v, want a look that found nothing", r)
	}
}
