package admission

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
)

// office is a guard behind its webhooks, in a quiet world.
type office struct {
	*world
	mux    *http.ServeMux
	reg    *prometheus.Registry
	events *recorder
}

type recorder struct {
	mu    sync.Mutex // guards below
	lines []string
}

func (r *recorder) Eventf(regarding, _ runtime.Object, kind, reason, action, note string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := regarding.(metav1.Object)
	r.lines = append(r.lines, fmt.Sprintf("%s/%s %s %s %s: ", e.GetNamespace(), e.GetName(), kind, reason, action)+fmt.Sprintf(note, args...))
}

type muxOf struct{ *http.ServeMux }

func (m muxOf) Register(path string, h http.Handler) { m.Handle(path, h) }

func newOffice(t *testing.T) *office {
	t.Helper()
	w := newWorld(t, 1, 3, 0)
	w.calm = true
	t.Cleanup(w.end)
	o := &office{world: w, mux: http.NewServeMux(), reg: prometheus.NewRegistry(), events: &recorder{}}
	g, err := New(Config{Cluster: w, Examiner: w, Events: o.events, Metrics: o.reg})
	if err != nil {
		t.Fatal(err)
	}
	g.Register(muxOf{o.mux})
	return o
}

// review is what the API server posts.
func (o *office) review(t *testing.T, path string, r admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
	t.Helper()
	r.UID = types.UID(fmt.Sprintf("review-%d", o.next()))
	body, err := json.Marshal(admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"}, Request: &r,
	})
	if err != nil {
		t.Fatal(err)
	}
	req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path+"?timeout=5s", bytes.NewReader(body))
	req.Header.Set("Content-Type", "application/json")
	rec := httptest.NewRecorder()
	o.mux.ServeHTTP(rec, req)
	var answer admissionv1.AdmissionReview
	if err := json.Unmarshal(rec.Body.Bytes(), &answer); err != nil {
		t.Fatalf("got %s: %v", rec.Body, err)
	}
	if answer.Response.UID != r.UID {
		t.Errorf("got the uid %q, want %q", answer.Response.UID, r.UID)
	}
	return answer.Response
}

// evict is the review of an eviction with that body.
func evict(name, body string) admissionv1.AdmissionRequest {
	return admissionv1.AdmissionRequest{
		Operation: admissionv1.Create, Resource: metav1.GroupVersionResource{Version: "v1", Resource: "pods"}, SubResource: "eviction",
		Namespace: "data", Name: name, Object: runtime.RawExtension{Raw: []byte(body)},
	}
}

// grantsOf are the pods that are granted.
func (o *office) grantsOf() (names []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, g := range o.ensembles["zk"].Status.Grants {
		names = append(names, g.Name+" "+g.Reason)
	}
	return names
}

// A yes is written, told and counted; a no says why, in every place that a client
// looks at.
func TestValidate(t *testing.T) {
	o := newOffice(t)
	uid, writes := string(o.pods["zk-0"].uid), o.rv
	yes := o.review(t, ValidatePath, evict("zk-0", `{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":"zk-0"},"deleteOptions":{"preconditions":{"uid":"`+uid+`"}}}`))
	if !yes.Allowed || yes.AuditAnnotations["outcome"] != string(AllowSafe) || yes.AuditAnnotations["grant"] != uid {
		t.Errorf("got %+v, want it allowed, with the grant in the audit annotations", yes)
	}
	no := o.review(t, ValidatePath, evict("zk-1", `{"apiVersion":"policy/v1beta1","kind":"Eviction","metadata":{"name":"zk-1"}}`))
	const want = "evicting zk-1 would leave 1 of 3 voters synced (quorum 2): zk-0 is being evicted since "
	if no.Allowed || no.Result.Code != http.StatusTooManyRequests || !strings.HasPrefix(no.Result.Message, want) {
		t.Errorf("got %+v, want 429 and a message that begins %q", no.Result, want)
	}
	if c := no.Result.Details; c.RetryAfterSeconds != 0 || c.Causes[0].Type != policyv1.DisruptionBudgetCause || c.Causes[0].Message != no.Result.Message {
		t.Errorf("got %+v, want the cause DisruptionBudget and no Retry-After", c)
	}
	if got := no.AuditAnnotations["numbers"]; got != "voters=3 quorum=2 spare=0 left=1" {
		t.Errorf("got the numbers %q", got)
	}
	if o.rv != writes+1 {
		t.Errorf("got %d writes, want one for the yes and none for the no", o.rv-writes)
	}
	if diff := cmp.Diff([]string{"zk-0 Eviction"}, o.grantsOf()); diff != "" {
		t.Errorf("grants (-want +got):\n%s", diff)
	}
	if n := len(o.events.lines); n != 2 || !strings.HasPrefix(o.events.lines[1], "data/zk Warning DisruptionDenied evict: evict zk-1 for ") {
		t.Errorf("got the events %q", o.events.lines)
	}
	err := testutil.GatherAndCompare(o.reg, strings.NewReader(`
# HELP quorate_admission_conflicts_total Yeses that could not be written, because somebody changed what they rested on.
# TYPE quorate_admission_conflicts_total counter
quorate_admission_conflicts_total 0
# HELP quorate_admission_decisions_total Requests judged, by what they do and what was decided.
# TYPE quorate_admission_decisions_total counter
quorate_admission_decisions_total{operation="evict",outcome="allow-safe"} 1
quorate_admission_decisions_total{operation="evict",outcome="deny-unsafe"} 1
# HELP quorate_admission_grants_active Grants that this replica saw in the last two minutes.
# TYPE quorate_admission_grants_active gauge
quorate_admission_grants_active 1
# HELP quorate_admission_grants_total Grants written, repeats included.
# TYPE quorate_admission_grants_total counter
quorate_admission_grants_total 1
`), "quorate_admission_conflicts_total", "quorate_admission_decisions_total", "quorate_admission_grants_active", "quorate_admission_grants_total")
	if err != nil {
		t.Error(err)
	}
}

// A warning is below 120 characters, as the API asks for, whoever is named in it; and the
// audit log tells how old the evidence was.
func TestResponse(t *testing.T) {
	got := response(&Decision{Outcome: AllowSafe, Warning: "quorate: without " + strings.Repeat("zk-0, ", 100), Judged: true, Age: 1234567 * time.Microsecond})
	if w := got.Warnings; len(w) != 1 || len(w[0]) >= 120 || !strings.HasPrefix(w[0], "quorate: without zk-0, ") {
		t.Errorf("got the warnings %q", w)
	}
	if age := got.AuditAnnotations["evidence-age-ms"]; age != "1234" {
		t.Errorf("got the age %q, want 1234", age)
	}
	if _, told := response(&Decision{Outcome: AllowExempt}).AuditAnnotations["evidence-age-ms"]; told {
		t.Error("got an age of no evidence")
	}
}

// An eviction that is bound to an older version of its pod can only fail: it is told to
// come again, bound anew, and takes no grant. So is one whose pod changes while it is
// judged, or goes; a deletion is judged again by the API server itself.
func TestOutdated(t *testing.T) {
	bound := func(o *office) admissionv1.AdmissionRequest {
		p := o.pods["zk-0"]
		return evict("zk-0", fmt.Sprintf(`{"deleteOptions":{"preconditions":{"uid":%q,"resourceVersion":%q}}}`, p.uid, p.version()))
	}
	for name, c := range map[string]struct {
		before, meanwhile, late func(o *office) // before the request, the list, and the answer
		want                    Outcome
	}{
		"as it was":                  {want: AllowSafe},
		"it changed":                 {before: func(o *office) { o.pods["zk-0"].running = false }, want: DenyChanged},
		"it changes meanwhile":       {meanwhile: func(o *office) { o.pods["zk-0"].running = false }, want: DenyChanged},
		"it changes under the probe": {late: func(o *office) { o.pods["zk-0"].running = false }, want: DenyChanged},
		"it is on its way out":       {before: func(o *office) { o.pods["zk-0"].terminating = true }, want: DenyChanged},
		"it goes meanwhile":          {meanwhile: func(o *office) { o.pods["zk-0"].terminating = true }, want: DenyChanged},
		"it goes under the probe":    {late: func(o *office) { delete(o.pods, "zk-0") }, want: DenyChanged},
		"another pod has its name":   {before: func(o *office) { o.pods["zk-0"].uid = "next" }, want: DenyStale},
		"another pod, and it is old": {before: func(o *office) { o.pods["zk-0"].uid, o.pods["zk-0"].running = "next", false }, want: DenyStale},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOffice(t)
			r := bound(o)
			if c.before != nil {
				c.before(o)
			}
			if c.meanwhile != nil {
				o.afterRead = func() { c.meanwhile(o) }
			}
			if c.late != nil {
				o.afterLook = func() { c.late(o) }
			}
			got := o.review(t, ValidatePath, r)
			if got.AuditAnnotations["outcome"] != string(c.want) {
				t.Fatalf("got %+v %v, want %s", got.Result, got.AuditAnnotations, c.want)
			}
			if grants := o.grantsOf(); len(grants) > 0 != got.Allowed {
				t.Errorf("got the grants %q", grants)
			}
			if c.want == DenyChanged && (got.Result.Code != http.StatusTooManyRequests || got.Result.Details.RetryAfterSeconds != 1) {
				t.Errorf("got %+v, want it retried at once", got.Result)
			}
		})
	}
}

// Neither form of dry run writes, and both answer honestly.
func TestDryRun(t *testing.T) {
	yes := true
	for name, r := range map[string]admissionv1.AdmissionRequest{
		"of the request":  evict("zk-0", `{}`),
		"of the eviction": evict("zk-0", `{"deleteOptions":{"dryRun":["All"]}}`),
	} {
		t.Run(name, func(t *testing.T) {
			o := newOffice(t)
			if name == "of the request" {
				r.DryRun = &yes
			}
			if got := o.review(t, ValidatePath, r); !got.Allowed {
				t.Errorf("got %+v, want it allowed", got.Result)
			}
			o.mu.Lock()
			down := o.pods["zk-1"].proc // and stays so, whatever time this takes
			down.alive, down.synced = false, false
			o.mu.Unlock()
			if got := o.review(t, ValidatePath, r); got.Allowed {
				t.Error("got it allowed, want an honest no")
			}
			if grants := o.grantsOf(); len(grants) > 0 {
				t.Errorf("got the grants %q, want none", grants)
			}
		})
	}
}

// The StatefulSet of voters stays as long as its Ensemble does; that of observers may
// go, if it is known that they are.
func TestDeleteStatefulSet(t *testing.T) {
	for name, c := range map[string]struct {
		member string // that it owns
		before func(o *office)
		want   Outcome
		code   int32
	}{
		"of a voter":              {"zk-1", nil, DenyStatefulSet, http.StatusForbidden},
		"of one that terminates":  {"zk-1", func(o *office) { o.pods["zk-1"].terminating = true }, AllowGoing, http.StatusOK},
		"of an observer":          {"zk-3", nil, AllowNoVoter, http.StatusOK},
		"while nobody leads":      {"zk-3", func(o *office) { o.leader = -1 }, DenyStatefulSet, http.StatusForbidden},
		"while the Ensemble goes": {"zk-1", func(o *office) { o.ensembles["zk"].DeletionTimestamp = &metav1.Time{Time: noon} }, AllowNoMember, http.StatusOK},
		"of nobody's":             {"", nil, AllowNoMember, http.StatusOK},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOffice(t)
			observer := o.start(3, netip.Addr{}) // in no configuration
			observer.running, observer.proc.alive, observer.proc.synced = true, true, true
			if c.member != "" {
				o.pods[c.member].owner = "set"
			}
			if c.before != nil {
				c.before(o)
			}
			got := o.review(t, ValidatePath, admissionv1.AdmissionRequest{
				Operation: admissionv1.Delete, Resource: metav1.GroupVersionResource{Group: "apps", Version: "v1", Resource: "statefulsets"},
				Namespace: "data", Name: "set", OldObject: runtime.RawExtension{Raw: []byte(`{"metadata":{"name":"set","uid":"set"}}`)},
			})
			if got.AuditAnnotations["outcome"] != string(c.want) || got.Result.Code != c.code {
				t.Errorf("got %v %d %s, want %s %d", got.AuditAnnotations, got.Result.Code, got.Result.Message, c.want, c.code)
			}
			if grants := o.grantsOf(); len(grants) > 0 {
				t.Errorf("got the grants %q, want none", grants)
			}
		})
	}
}

// Each kind of request, and who asks: what is judged how, without looking further.
func TestParse(t *testing.T) {
	sets := func(op admissionv1.Operation, sub, object, old, options string) admissionv1.AdmissionRequest {
		return admissionv1.AdmissionRequest{
			Operation: op, Resource: metav1.GroupVersionResource{Group: "apps", Version: "v1", Resource: "statefulsets"}, SubResource: sub, Namespace: "data", Name: "zk",
			Object: runtime.RawExtension{Raw: []byte(object)}, OldObject: runtime.RawExtension{Raw: []byte(old)}, Options: runtime.RawExtension{Raw: []byte(options)},
		}
	}
	pod := func(old, options string) admissionv1.AdmissionRequest {
		return admissionv1.AdmissionRequest{
			Operation: admissionv1.Delete, Resource: metav1.GroupVersionResource{Version: "v1", Resource: "pods"}, Namespace: "data",
			OldObject: runtime.RawExtension{Raw: []byte(old)}, Options: runtime.RawExtension{Raw: []byte(options)},
		}
	}
	as := func(user string, groups ...string) admissionv1.AdmissionRequest {
		r := evict("zk-0", `{}`)
		r.UserInfo.Username, r.UserInfo.Groups = user, groups
		return r
	}
	five := `{"metadata":{"name":"zk","uid":"s"},"spec":{"replicas":5}}`
	for name, c := range map[string]struct {
		review admissionv1.AdmissionRequest
		want   string
	}{
		"eviction":                        {evict("zk-0", `{"deleteOptions":{"preconditions":{"uid":"u","resourceVersion":"7"}}}`), "evict zk-0 uid=u version=7"},
		"eviction by name":                {evict("zk-0", `{}`), "evict zk-0 uid= version="},
		"eviction, garbage":               {evict("zk-0", `[]`), "error"},
		"deletion":                        {pod(`{"metadata":{"name":"zk-0","uid":"u","resourceVersion":"7"}}`, ""), "delete-pod zk-0 uid=u version=7"},
		"deletion of what terminates":     {pod(`{"metadata":{"name":"zk-0","deletionTimestamp":"2030-01-01T00:00:00Z"}}`, ""), "allow-going"},
		"deletion, dry":                   {pod(`{"metadata":{"name":"zk-0","uid":"u"}}`, `{"dryRun":["All"]}`), "delete-pod zk-0 uid=u version= dry"},
		"fewer replicas":                  {sets(admissionv1.Update, "", `{"spec":{"replicas":3}}`, five, ""), "shrink zk owner=s [0,3)"},
		"replicas left to their default":  {sets(admissionv1.Update, "", `{"spec":{}}`, five, ""), "shrink zk owner=s [0,1)"},
		"other ordinals":                  {sets(admissionv1.Update, "", `{"spec":{"replicas":5,"ordinals":{"start":2}}}`, five, ""), "shrink zk owner=s [2,7)"},
		"more replicas":                   {sets(admissionv1.Update, "", `{"spec":{"replicas":7}}`, five, ""), "allow-safe"},
		"scale down":                      {sets(admissionv1.Update, "scale", `{"spec":{"replicas":1}}`, `{"spec":{"replicas":5}}`, ""), "shrink zk owner= [0,1)"},
		"scale to nothing":                {sets(admissionv1.Update, "scale", `{"spec":{}}`, `{"spec":{"replicas":5}}`, ""), "shrink zk owner= [0,0)"},
		"scale up":                        {sets(admissionv1.Update, "scale", `{"spec":{"replicas":6}}`, `{"spec":{"replicas":5}}`, ""), "allow-safe"},
		"deletion of the set":             {sets(admissionv1.Delete, "", "", five, `{"propagationPolicy":"Background"}`), "delete-statefulset zk owner=s [0,0)"},
		"orphaning":                       {sets(admissionv1.Delete, "", "", five, `{"propagationPolicy":"Orphan"}`), "allow-orphan"},
		"orphaning, as it used to be":     {sets(admissionv1.Delete, "", "", five, `{"orphanDependents":true}`), "allow-orphan"},
		"something else":                  {sets(admissionv1.Create, "", five, "", ""), "error"},
		"a kubelet":                       {as("system:node:a", "system:nodes"), "allow-exempt"},
		"the namespace controller":        {as("system:serviceaccount:kube-system:namespace-controller"), "allow-exempt"},
		"the StatefulSet controller":      {as("system:serviceaccount:kube-system:statefulset-controller"), "evict zk-0 uid= version="},
		"an administrator":                {as("admin", "system:masters"), "evict zk-0 uid= version="},
		"a member of the breaking group":  {as("ada", BreakGlassGroup), "allow-break-glass"},
		"a namesake in another namespace": {as("system:serviceaccount:evil:namespace-controller"), "evict zk-0 uid= version="},
	} {
		t.Run(name, func(t *testing.T) {
			r, d, done, err := parse(&c.review)
			got := fmt.Sprintf("%s %s owner=%s [%d,%d)", r.Verb, r.Name, r.Range.Owner, r.Range.Start, r.Range.Start+r.Range.Replicas)
			if r.Verb == Evict || r.Verb == DeletePod {
				got = fmt.Sprintf("%s %s uid=%s version=%s", r.Verb, r.Name, r.PodUID, r.PodVersion)
			}
			switch {
			case err != nil:
				got = "error"
			case done:
				got = string(d.Outcome)
			case r.DryRun:
				got += " dry"
			}
			if got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// Who may run is not down: any container of it may be the server, but for those that
// run beside or before them.
func TestRunning(t *testing.T) {
	up := corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	loops := corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}}
	ended := corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 1}}
	states := func(all ...corev1.ContainerState) (s []corev1.ContainerStatus) {
		for _, one := range all {
			s = append(s, corev1.ContainerStatus{State: one})
		}
		return s
	}
	for name, c := range map[string]struct {
		status corev1.PodStatus
		want   bool
	}{
		"it runs":                          {corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: states(up)}, true},
		"it crash-loops":                   {corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: states(loops)}, false},
		"it has ended":                     {corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: states(ended)}, false},
		"nothing is reported":              {corev1.PodStatus{Phase: corev1.PodRunning}, true},
		"it is pending":                    {corev1.PodStatus{Phase: corev1.PodPending}, false},
		"crash-looping beside another":     {corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: states(loops, up)}, true},
		"crash-looping beside a sidecar":   {corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: states(loops), InitContainerStatuses: states(up)}, false},
		"both crash-loop, so nothing runs": {corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: states(loops, ended)}, false},
	} {
		if got := running(&corev1.Pod{Status: c.status}); got != c.want {
			t.Errorf("%s: got running=%t, want %t", name, got, c.want)
		}
	}
}

// An eviction is bound to the pod that bears the name, and to its version while it
// does not run; what the client sent stays.
func TestBind(t *testing.T) {
	o := newOffice(t)
	o.pods["zk-1"].running = false
	o.pods["zk-2"].running, o.pods["zk-2"].relabelled = false, true
	for name, c := range map[string]struct{ pod, body, want string }{
		"nothing there":  {"zk-0", `{"metadata":{"name":"zk-0"}}`, `{"deleteOptions":{"preconditions":{"uid":"UID"}}}`},
		"options there":  {"zk-0", `{"deleteOptions":{"gracePeriodSeconds":5}}`, `{"preconditions":{"uid":"UID"}}`},
		"bound already":  {"zk-0", `{"deleteOptions":{"preconditions":{"uid":"mine"}}}`, ``},
		"does not run":   {"zk-1", `{}`, `{"deleteOptions":{"preconditions":{"resourceVersion":"VERSION","uid":"UID"}}}`},
		"no member":      {"zk-2", `{}`, `{"deleteOptions":{"preconditions":{"uid":"UID"}}}`},
		"its own uid":    {"zk-1", `{"deleteOptions":{"preconditions":{"uid":"mine"}}}`, `"VERSION"`},
		"no such pod":    {"zk-9", `{}`, ``},
		"not an object":  {"zk-0", `[]`, ``},
		"null within it": {"zk-0", `{"deleteOptions":null}`, `{"preconditions":{"uid":"UID"}}`},
	} {
		t.Run(name, func(t *testing.T) {
			got := o.review(t, BindPath, evict(c.pod, c.body))
			if !got.Allowed {
				t.Fatalf("got %+v, want it allowed", got.Result)
			}
			var ops []struct {
				Path  string          `json:"path"`
				Value json.RawMessage `json:"value"`
			}
			if len(got.Patch) > 0 {
				if err := json.Unmarshal(got.Patch, &ops); err != nil {
					t.Fatal(err)
				}
			}
			var all string
			for _, op := range ops {
				keys := strings.Split(strings.TrimPrefix(op.Path, "/"), "/")
				value := string(op.Value)
				if len(keys) == 1 && c.want != "" && strings.HasPrefix(c.want, `{"deleteOptions"`) {
					value = `{"deleteOptions":` + value + `}`
				}
				if len(keys) == 2 {
					value = `{"` + keys[1] + `":` + value + `}`
				}
				all += value
			}
			want := c.want
			if p := o.pods[c.pod]; p != nil {
				want = strings.NewReplacer("VERSION", p.version(), "UID", string(p.uid)).Replace(want)
			}
			if all != want {
				t.Errorf("got the patch %s (%s), want %s", all, got.Patch, want)
			}
		})
	}
}
