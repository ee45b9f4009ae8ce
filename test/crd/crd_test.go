// Package crd_test applies the Ensemble API to a real API server: what it refuses
// and in which words, what it fills in, what kubectl shows, and that an informer
// and a topology keeper work on it.
package crd_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/test/lab"
)

const manifest = "../../deploy/base/crd/quorate.io_ensembles.yaml"

var plane *lab.ControlPlane

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	ctx, cancel := context.WithTimeout(context.Background(), 25*time.Minute)
	defer cancel()
	var err error
	if plane, err = lab.StartControlPlane(ctx, lab.ControlPlaneConfig{Progress: os.Stderr}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer plane.Close()
	for _, args := range [][]string{
		{"apply", "-f", manifest},
		{"wait", "--for=condition=Established", "--timeout=60s", "crd/ensembles.quorate.io"},
	} {
		if out, err := plane.Kubectl(ctx, args...); err != nil {
			fmt.Fprintln(os.Stderr, out, err)
			return 1
		}
	}
	return m.Run()
}

// apply is what kubectl says to the Ensemble with this spec.
func apply(t *testing.T, name, spec string) (string, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "ensemble.yaml")
	body := fmt.Sprintf("apiVersion: quorate.io/v1alpha1\nkind: Ensemble\nmetadata: {name: %s, namespace: default}\nspec: %s\n", name, spec)
	if err := os.WriteFile(file, []byte(body), 0o600); err != nil {
		t.Fatal(err)
	}
	return plane.Kubectl(t.Context(), "apply", "-f", file)
}

func kubectl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := plane.Kubectl(t.Context(), args...)
	if err != nil {
		t.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// What can be refused is refused at apply time, with the field and the fix.
func TestRefusals(t *testing.T) {
	const good = "selector: {matchLabels: {app: zk}}"
	for name, c := range map[string]struct {
		spec string
		want []string
	}{
		"no selector":         {"{voters: 3}", []string{"spec.selector", "Required value"}},
		"empty selector":      {"{selector: {}}", []string{"spec.selector", "would make every pod of the namespace a member", "name the labels of the member pods, e.g."}},
		"empty labels":        {"{selector: {matchLabels: {}}}", []string{"spec.selector", "name the labels of the member pods"}},
		"values with Exists":  {"{selector: {matchExpressions: [{key: a, operator: Exists, values: [b]}]}}", []string{"spec.selector.matchExpressions[0]", "values go with the operators In and NotIn, and only with those"}},
		"In without values":   {"{selector: {matchExpressions: [{key: a, operator: In}]}}", []string{"spec.selector.matchExpressions[0]", "values go with the operators In and NotIn"}},
		"unknown operator":    {"{selector: {matchExpressions: [{key: a, operator: Near}]}}", []string{"spec.selector.matchExpressions[0].operator", `supported values: "In", "NotIn", "Exists", "DoesNotExist"`}},
		"empty observers":     {"{" + good + ", observers: {}}", []string{"spec.observers", "must not be empty", "remove spec.observers"}},
		"label key":           {"{selector: {matchLabels: {'a b': c}}}", []string{"spec.selector", "not a label's name", "letters, digits"}},
		"label value":         {"{selector: {matchLabels: {app: 'a b'}}}", []string{"spec.selector.matchLabels.app", "should match"}},
		"unknown system":      {"{" + good + ", system: Raft}", []string{"spec.system", `supported values: "ZooKeeper", "Etcd", "Generic"`}},
		"no voters":           {"{" + good + ", voters: 0}", []string{"spec.voters", "should be greater than or equal to 1"}},
		"too many voters":     {"{" + good + ", voters: 64}", []string{"spec.voters", "should be less than or equal to 63"}},
		"empty topology":      {"{" + good + ", topology: []}", []string{"spec.topology", "should have at least 1 items"}},
		"no topology key":     {"{" + good + ", topology: [{whenUnsatisfiable: DoNotSchedule}]}", []string{"spec.topology[0].topologyKey", "Required value"}},
		"a level twice":       {"{" + good + ", topology: [{topologyKey: zone}, {topologyKey: zone, whenUnsatisfiable: ScheduleAnyway}]}", []string{"spec.topology", "names a level twice; remove one"}},
		"within itself":       {"{" + good + ", topology: [{topologyKey: zone, within: zone}]}", []string{"spec.topology[0]", "lies within itself", "within"}},
		"topology key":        {"{" + good + ", topology: [{topologyKey: 'my zone'}]}", []string{"spec.topology[0].topologyKey", "should match"}},
		"enclosing key":       {"{" + good + ", topology: [{topologyKey: rack, within: 'my zone'}]}", []string{"spec.topology[0].within", "should match"}},
		"unknown action":      {"{" + good + ", topology: [{topologyKey: zone, whenUnsatisfiable: Maybe}]}", []string{"spec.topology[0].whenUnsatisfiable", `supported values: "DoNotSchedule", "ScheduleAnyway"`}},
		"probe of another":    {"{" + good + ", system: Etcd, probe: {zooKeeper: {}}}", []string{"spec.probe.zooKeeper goes with spec.system: ZooKeeper; set spec.system, or remove spec.probe.zooKeeper"}},
		"etcd probe":          {"{" + good + ", probe: {etcd: {}}}", []string{"spec.probe.etcd goes with spec.system: Etcd; set spec.system, or remove spec.probe.etcd"}},
		"generic probe":       {"{" + good + ", probe: {generic: {}}}", []string{"spec.probe.generic goes with spec.system: Generic"}},
		"port":                {"{" + good + ", probe: {zooKeeper: {clientPort: 70000}}}", []string{"spec.probe.zooKeeper.clientPort", "should be less than or equal to 65535"}},
		"oracle for three":    {"{" + good + ", voters: 3, quorum: {oracle: true}}", []string{"spec.quorum.oracle goes with exactly two voters; set spec.voters: 2, or remove spec.quorum.oracle"}},
		"oracle for unknown":  {"{" + good + ", quorum: {oracle: true}}", []string{"set spec.voters: 2, or remove spec.quorum.oracle"}},
		"a voter in no group": {"{" + good + ", quorum: {members: [{name: a, group: g}, {name: b}]}}", []string{"spec.quorum", "either every member names its group or none does"}},
		"negative weight":     {"{" + good + ", quorum: {members: [{name: a, weight: -1}]}}", []string{"spec.quorum.members[0].weight", "should be greater than or equal to 0"}},
		"a member twice":      {"{" + good + ", quorum: {members: [{name: a}, {name: a}]}}", []string{"spec.quorum.members[1]", "Duplicate value"}},
		"spare of three":      {"{" + good + ", voters: 3, disruption: {spare: 2}}", []string{"spec.disruption.spare is more than this many voters can ever spare; set it to at most (spec.voters - 1) / 2"}},
		"negative spare":      {"{" + good + ", disruption: {spare: -1}}", []string{"spec.disruption.spare", "should be greater than or equal to 0"}},
		"unknown policy":      {"{" + good + ", disruption: {whenQuorumIsLost: Pray}}", []string{"spec.disruption.whenQuorumIsLost", `supported values: "DenySynced", "AllowAll"`}},
		"a misspelt field":    {"{" + good + ", voter: 3}", []string{`unknown field "spec.voter"`}},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := apply(t, "refused", c.spec)
			if err == nil {
				t.Fatalf("it was taken: %s", out)
			}
			for _, want := range c.want {
				if !strings.Contains(out+err.Error(), want) {
					t.Errorf("it was refused without %q:\n%s%v", want, out, err)
				}
			}
		})
	}
}
