package admission

import (
	"os"
	"slices"
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"sigs.k8s.io/yaml"
)

// What we ship registers what we judge, fails closed, and exempts exactly whom the
// guard would not block either.
func TestValidatingConfiguration(t *testing.T) {
	var c admissionregistrationv1.ValidatingWebhookConfiguration
	load(t, "../deploy/base/webhook/validating.yaml", &c)
	want := map[string]string{
		"eviction.quorate.io":    "CREATE pods/eviction",
		"deletion.quorate.io":    "DELETE pods",
		"statefulset.quorate.io": "UPDATE,DELETE statefulsets; UPDATE statefulsets/scale",
		"breakglass.quorate.io":  "CREATE pods/eviction; DELETE pods; UPDATE,DELETE statefulsets; UPDATE statefulsets/scale",
	}
	for _, w := range c.Webhooks {
		if got := rules(w.Rules); got != want[w.Name] {
			t.Errorf("%s: got the rules %q, want %q", w.Name, got, want[w.Name])
		}
		delete(want, w.Name)
		if w.ObjectSelector != nil {
			t.Errorf("%s: an objectSelector lets evictions pass unseen", w.Name)
		}
		if *w.SideEffects != admissionregistrationv1.SideEffectClassNoneOnDryRun {
			t.Errorf("%s: got the side effects %s", w.Name, *w.SideEffects)
		}
		if w.Name == "breakglass.quorate.io" {
			if *w.FailurePolicy != admissionregistrationv1.Ignore || *w.ClientConfig.Service.Path != BreakGlassPath {
				t.Errorf("%s: got %s at %s, want it to only record", w.Name, *w.FailurePolicy, *w.ClientConfig.Service.Path)
			}
			continue
		}
		if *w.FailurePolicy != admissionregistrationv1.Fail || *w.TimeoutSeconds != 5 || *w.ClientConfig.Service.Path != ValidatePath {
			t.Errorf("%s: got %s after %d s at %s", w.Name, *w.FailurePolicy, *w.TimeoutSeconds, *w.ClientConfig.Service.Path)
		}
		exempts(t, w.Name, w.MatchConditions)
	}
	if len(want) > 0 {
		t.Errorf("not registered: %v", want)
	}
}

func TestMutatingConfiguration(t *testing.T) {
	var c admissionregistrationv1.MutatingWebhookConfiguration
	load(t, "../deploy/base/webhook/mutating.yaml", &c)
	if len(c.Webhooks) != 1 {
		t.Fatalf("got %d webhooks, want 1", len(c.Webhooks))
	}
	w := c.Webhooks[0]
	if got := rules(w.Rules); got != "CREATE pods/eviction" || *w.ClientConfig.Service.Path != BindPath {
		t.Errorf("got %q at %s", got, *w.ClientConfig.Service.Path)
	}
	exempts(t, w.Name, w.MatchConditions)
}

func load(t *testing.T, path string, into any) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.UnmarshalStrict(text, into); err != nil {
		t.Fatal(err)
	}
}

func rules(all []admissionregistrationv1.RuleWithOperations) string {
	var words []string
	for _, r := range all {
		var ops []string
		for _, op := range r.Operations {
			ops = append(ops, string(op))
		}
		words = append(words, strings.Join(ops, ",")+" "+strings.Join(r.Resources, ","))
	}
	return strings.Join(words, "; ")
}

// exempts compares who is named in the conditions with whom the guard exempts.
func exempts(t *testing.T, name string, conditions []admissionregistrationv1.MatchCondition) {
	t.Helper()
	var named []string
	for _, c := range conditions {
		for i, word := range strings.Split(c.Expression, "'") {
			if i%2 == 1 && (strings.HasPrefix(word, "system:") || word == BreakGlassGroup) {
				named = append(named, word)
			}
		}
	}
	want := append(append(slices.Clone(exemptGroups), exemptUsers...), BreakGlassGroup)
	slices.Sort(named)
	slices.Sort(want)
	if !slices.Equal(named, want) {
		t.Errorf("%s: got %q exempt, want %q", name, named, want)
	}
}
