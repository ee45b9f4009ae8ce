package admission

import (
	"bytes"
	"os"
	"slices"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/plugin/cel"
	"k8s.io/apiserver/pkg/admission/plugin/webhook/matchconditions"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/cel/environment"
	"sigs.k8s.io/yaml"

	"github.com/quorate/quorate/ensemble/v1alpha1"
)

// asking is a request as the API server holds it against the conditions of a webhook.
type asking struct {
	verb        admission.Operation
	kind        schema.GroupVersionKind
	resource    string
	subresource string
	object, old runtime.Object
}

var (
	evictionKind = policyv1.SchemeGroupVersion.WithKind("Eviction")
	podKind      = corev1.SchemeGroupVersion.WithKind("Pod")
	setKind      = appsv1.SchemeGroupVersion.WithKind("StatefulSet")
	scaleKind    = autoscalingv1.SchemeGroupVersion.WithKind("Scale")
)

func evicting(o *metav1.DeleteOptions) asking {
	return asking{admission.Create, evictionKind, "pods", "eviction", &policyv1.Eviction{DeleteOptions: o}, nil}
}

func deleting(p *corev1.Pod) asking { return asking{admission.Delete, podKind, "pods", "", nil, p} }

func updating(now, old *appsv1.StatefulSet) asking {
	return asking{admission.Update, setKind, "statefulsets", "", now, old}
}

func scaling(now, old int32) asking {
	scale := func(n int32) *autoscalingv1.Scale {
		return &autoscalingv1.Scale{Spec: autoscalingv1.ScaleSpec{Replicas: n}}
	}
	return asking{admission.Update, scaleKind, "statefulsets", "scale", scale(now), scale(old)}
}

func setOf(replicas, start int32) *appsv1.StatefulSet {
	s := &appsv1.StatefulSet{Spec: appsv1.StatefulSetSpec{Replicas: &replicas}}
	if start > 0 {
		s.Spec.Ordinals = &appsv1.StatefulSetOrdinals{Start: start}
	}
	return s
}

// asked reports whether the API server would ask the webhook of those conditions: it
// evaluates them by its own code.
func (a asking) asked(t *testing.T, conditions []admissionregistrationv1.MatchCondition, who user.Info) bool {
	t.Helper()
	expressions := make([]cel.ExpressionAccessor, len(conditions))
	for i := range conditions {
		c := matchconditions.MatchCondition(conditions[i])
		expressions[i] = &c
	}
	compiler := cel.NewConditionCompiler(environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion()))
	fail := admissionregistrationv1.Fail
	matcher := matchconditions.NewMatcher(compiler.CompileCondition(expressions, cel.OptionalVariableDeclarations{}, environment.StoredExpressions), &fail, "webhook", "test", "test")
	resource := schema.GroupVersionResource{Group: a.kind.Group, Version: "v1", Resource: a.resource}
	if a.resource == "pods" {
		resource.Group = ""
	}
	got := matcher.Match(t.Context(), &admission.VersionedAttributes{
		Attributes:    admission.NewAttributesRecord(a.object, a.old, a.kind, "data", "zk-0", resource, a.subresource, a.verb, nil, false, who),
		VersionedKind: a.kind, VersionedObject: a.object, VersionedOldObject: a.old,
	}, nil, nil)
	if got.Error != nil {
		t.Fatal(got.Error)
	}
	return got.Matches
}

// conditionsOf are those of every webhook that we ship, by its name.
func conditionsOf(t *testing.T) map[string][]admissionregistrationv1.MatchCondition {
	t.Helper()
	var v admissionregistrationv1.ValidatingWebhookConfiguration
	load(t, "../deploy/base/webhook/validating.yaml", &v)
	var m admissionregistrationv1.MutatingWebhookConfiguration
	load(t, "../deploy/base/webhook/mutating.yaml", &m)
	all := map[string][]admissionregistrationv1.MatchCondition{}
	for i := range v.Webhooks {
		all[v.Webhooks[i].Name] = v.Webhooks[i].MatchConditions
	}
	for i := range m.Webhooks {
		all[m.Webhooks[i].Name] = m.Webhooks[i].MatchConditions
	}
	return all
}

// everybody is in this group, impersonated or not: nobody asks without groups.
const everybody = "system:authenticated"

// Whom nothing may block is exempt in the API server, and nobody else.
func TestWhoIsAsked(t *testing.T) {
	requests := map[string][]asking{
		"eviction.quorate.io": {evicting(nil)},
		"bind.quorate.io":     {evicting(nil)},
		"deletion.quorate.io": {deleting(&corev1.Pod{})},
		"statefulset.quorate.io": {
			updating(setOf(3, 0), setOf(5, 0)), scaling(3, 5), {admission.Delete, setKind, "statefulsets", "", nil, setOf(5, 0)},
		},
		"breakglass.quorate.io": {evicting(nil), deleting(&corev1.Pod{}), scaling(3, 5)},
	}
	for name, c := range map[string]struct {
		who          user.DefaultInfo
		judged, seen bool
	}{
		"a kubelet":                       {user.DefaultInfo{Name: "system:node:a", Groups: []string{"system:nodes", everybody}}, false, false},
		"the namespace controller":        {user.DefaultInfo{Name: "system:serviceaccount:kube-system:namespace-controller", Groups: []string{everybody}}, false, false},
		"the garbage collector":           {user.DefaultInfo{Name: "system:serviceaccount:kube-system:generic-garbage-collector", Groups: []string{everybody}}, false, false},
		"pod garbage collection":          {user.DefaultInfo{Name: "system:serviceaccount:kube-system:pod-garbage-collector", Groups: []string{everybody}}, false, false},
		"the taint manager":               {user.DefaultInfo{Name: "system:serviceaccount:kube-system:node-controller", Groups: []string{everybody}}, false, false},
		"all controllers as one":          {user.DefaultInfo{Name: "system:kube-controller-manager", Groups: []string{everybody}}, false, false},
		"who broke the glass":             {user.DefaultInfo{Name: "ada", Groups: []string{BreakGlassGroup, everybody}}, false, true},
		"an administrator":                {user.DefaultInfo{Name: "admin", Groups: []string{"system:masters", everybody}}, true, false},
		"the StatefulSet controller":      {user.DefaultInfo{Name: "system:serviceaccount:kube-system:statefulset-controller", Groups: []string{everybody}}, true, false},
		"a namesake in another namespace": {user.DefaultInfo{Name: "system:serviceaccount:evil:namespace-controller", Groups: []string{everybody}}, true, false},
		"who is only called as a node is": {user.DefaultInfo{Name: "system:nodes", Groups: []string{everybody}}, true, false},
	} {
		for webhook, conditions := range conditionsOf(t) {
			for _, r := range requests[webhook] {
				want := c.judged
				if webhook == "breakglass.quorate.io" {
					want = c.seen
				}
				if got := r.asked(t, conditions, &c.who); got != want {
					t.Errorf("%s: %s %s/%s by %s: got asked=%t, want %t", webhook, r.verb, r.resource, r.subresource, name, got, want)
				}
			}
			if len(requests[webhook]) == 0 {
				t.Errorf("%s: nothing is known of it here", webhook)
			}
		}
	}
}

// What needs no judgement does not reach us.
func TestWhatIsAsked(t *testing.T) {
	preconditions := func(uid, version string) *metav1.DeleteOptions {
		p := &metav1.Preconditions{}
		if uid != "" {
			u := types.UID(uid)
			p.UID = &u
		}
		if version != "" {
			p.ResourceVersion = &version
		}
		return &metav1.DeleteOptions{Preconditions: p}
	}
	terminating := &corev1.Pod{}
	terminating.DeletionTimestamp = &metav1.Time{Time: noon}
	all := conditionsOf(t)
	for name, c := range map[string]struct {
		webhook string
		request asking
		want    bool
	}{
		"not bound":                  {"bind.quorate.io", evicting(nil), true},
		"options, but not bound":     {"bind.quorate.io", evicting(&metav1.DeleteOptions{}), true},
		"bound to nothing":           {"bind.quorate.io", evicting(preconditions("", "")), true},
		"bound to a uid":             {"bind.quorate.io", evicting(preconditions("u", "")), true},
		"bound to a version":         {"bind.quorate.io", evicting(preconditions("", "7")), true},
		"bound to both":              {"bind.quorate.io", evicting(preconditions("u", "7")), false},
		"a pod that runs":            {"deletion.quorate.io", deleting(&corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodRunning}}), true},
		"a pod that terminates":      {"deletion.quorate.io", deleting(terminating), false},
		"a pod that succeeded":       {"deletion.quorate.io", deleting(&corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodSucceeded}}), false},
		"a pod that failed":          {"deletion.quorate.io", deleting(&corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodFailed}}), false},
		"fewer replicas":             {"statefulset.quorate.io", updating(setOf(3, 0), setOf(5, 0)), true},
		"the same":                   {"statefulset.quorate.io", updating(setOf(5, 0), setOf(5, 0)), false},
		"more replicas":              {"statefulset.quorate.io", updating(setOf(7, 0), setOf(5, 0)), false},
		"replicas left to a default": {"statefulset.quorate.io", updating(&appsv1.StatefulSet{}, setOf(5, 0)), true},
		"other ordinals":             {"statefulset.quorate.io", updating(setOf(5, 2), setOf(5, 0)), true},
		"the same ordinals":          {"statefulset.quorate.io", updating(setOf(5, 2), setOf(5, 2)), false},
		"scaled down":                {"statefulset.quorate.io", scaling(3, 5), true},
		"scaled to nothing":          {"statefulset.quorate.io", scaling(0, 5), true},
		"scaled up":                  {"statefulset.quorate.io", scaling(5, 3), false},
	} {
		if got := c.request.asked(t, all[c.webhook], &user.DefaultInfo{Name: "ada", Groups: []string{everybody}}); got != c.want {
			t.Errorf("%s: got asked=%t, want %t", name, got, c.want)
		}
	}
}

// An Ensemble that can spare no voter is told so when it is applied, and applied.
func TestWhoIsWarned(t *testing.T) {
	text, err := os.ReadFile("../deploy/base/crd/warnings.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var policy admissionregistrationv1.ValidatingAdmissionPolicy
	var binding admissionregistrationv1.ValidatingAdmissionPolicyBinding
	for i, part := range bytes.Split(text, []byte("\n---\n")) {
		if err := yaml.UnmarshalStrict(part, []any{&policy, &binding}[i]); err != nil {
			t.Fatal(err)
		}
	}
	if *policy.Spec.FailurePolicy != admissionregistrationv1.Ignore || binding.Spec.PolicyName != policy.Name ||
		!slices.Equal(binding.Spec.ValidationActions, []admissionregistrationv1.ValidationAction{admissionregistrationv1.Warn}) {
		t.Errorf("got the failurePolicy %s and the actions %s of %s", *policy.Spec.FailurePolicy, binding.Spec.ValidationActions, binding.Spec.PolicyName)
	}
	for name, c := range map[string]struct {
		spec v1alpha1.EnsembleSpec
		warn bool
	}{
		"not stated":           {v1alpha1.EnsembleSpec{}, false},
		"one":                  {v1alpha1.EnsembleSpec{Voters: new(int32(1))}, true},
		"two":                  {v1alpha1.EnsembleSpec{Voters: new(int32(2))}, true},
		"three":                {v1alpha1.EnsembleSpec{Voters: new(int32(3))}, false},
		"three, and one spare": {v1alpha1.EnsembleSpec{Voters: new(int32(3)), Disruption: v1alpha1.DisruptionSpec{Spare: 1}}, true},
		"five, and one spare":  {v1alpha1.EnsembleSpec{Voters: new(int32(5)), Disruption: v1alpha1.DisruptionSpec{Spare: 1}}, false},
		"weights are declared": {v1alpha1.EnsembleSpec{Voters: new(int32(2)), Quorum: &v1alpha1.QuorumSpec{}}, false},
	} {
		e := &v1alpha1.Ensemble{Spec: c.spec}
		r := asking{admission.Create, v1alpha1.GroupVersion.WithKind("Ensemble"), "ensembles", "", e, nil}
		fine := r.asked(t, []admissionregistrationv1.MatchCondition{{Name: "valid", Expression: policy.Spec.Validations[0].Expression}}, &user.DefaultInfo{Name: "ada"})
		if fine == c.warn {
			t.Errorf("%s: got warned=%t, want %t", name, !fine, c.warn)
		}
	}
}
