package crd_test

import (
	"slices"
	"strings"
	"testing"
)

// What was not said is filled in, and kubectl shows an ensemble by its short name.
func TestDefaultsAndColumns(t *testing.T) {
	if out, err := apply(t, "shown", "{selector: {matchLabels: {app: zk}}, topology: [{topologyKey: zone}], probe: {zooKeeper: {}}, disruption: {}, quorum: {members: [{name: zk-0}]}}"); err != nil {
		t.Fatal(out, err)
	}
	for path, want := range map[string]string{
		"{.spec.system}":                        "ZooKeeper",
		"{.spec.topology[0].whenUnsatisfiable}": "DoNotSchedule",
		"{.spec.probe.zooKeeper.clientPort}":    "2181",
		"{.spec.probe.zooKeeper.adminPort}":     "8080",
		"{.spec.disruption.spare}":              "0",
		"{.spec.disruption.whenQuorumIsLost}":   "DenySynced",
		"{.spec.quorum.members[0].weight}":      "1",
	} {
		if got := kubectl(t, "get", "ensemble", "shown", "-o", "jsonpath="+path); got != want {
			t.Errorf("%s = %q, want %q", path, got, want)
		}
	}
	kubectl(t, "patch", "ens", "shown", "--subresource=status", "--type=merge", "-p", `{"status": {"voters": 5, "synced": 4, "quorum": 3, "disruptionsAllowed": 1,
		"conditions": [{"type": "PlacementSafe", "status": "True", "reason": "Safe", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}}`)
	lines := strings.Split(strings.TrimSpace(kubectl(t, "get", "ens", "shown")), "\n")
	if len(lines) != 2 {
		t.Fatalf("kubectl get ens: %q", lines)
	}
	if got, want := strings.Fields(lines[0]), []string{"NAME", "VOTERS", "SYNCED", "QUORUM", "ALLOWED", "PLACEMENT", "AGE"}; !slices.Equal(got, want) {
		t.Errorf("columns are %v, want %v", got, want)
	}
	if got, want := strings.Fields(lines[1])[:6], []string{"shown", "5", "4", "3", "1", "True"}; !slices.Equal(got, want) {
		t.Errorf("the row is %v, want %v", got, want)
	}
	if out := kubectl(t, "explain", "ensemble.spec.topology"); !strings.Contains(out, "hosts always, and zones where the nodes show enough of them") {
		t.Errorf("kubectl explain says nothing of the default:\n%s", out)
	}
}
