package deploy

import "testing"

// AKS adds to the namespaceSelector of every webhook, again and again, but of those that
// say no by this label: the self-audit would tell of it for ever.
func TestAKSLeavesTheSelectorsAlone(t *testing.T) {
	for _, folder := range []string{"base", "examples/install"} {
		objects, err := Render(root, folder)
		if err != nil {
			t.Fatal(err)
		}
		for _, kind := range []string{"ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"} {
			if got := find(t, objects, kind, "quorate-guard").GetLabels()["admissions.enforcer/disabled"]; got != "true" {
				t.Errorf("%s: %s: admissions.enforcer/disabled is %q, want true", folder, kind, got)
			}
		}
	}
}
