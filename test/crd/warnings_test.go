package crd_test

import (
	"strings"
	"testing"
)

// Who can spare no voter is told so by kubectl apply, and gets what was applied.
func TestWarnings(t *testing.T) {
	kubectl(t, "apply", "-f", "../../deploy/base/crd/warnings.yaml")
	warned := func(voters string) bool {
		t.Helper()
		spec := "{selector: {matchLabels: {app: warned}}, voters: " + voters + "}"
		out, err := apply(t, "warned", spec)
		if err != nil {
			t.Fatalf("apply: %v\n%s", err, out)
		}
		kubectl(t, "delete", "ensemble", "warned")
		return strings.Contains(out, "Warning:") && strings.Contains(out, "no voter may ever be evicted")
	}
	await(t, "the policy to be in force", func() bool { return warned("2") })
	if warned("3") {
		t.Error("three voters are warned about")
	}
}
