package membership

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/quorate/quorate/ensemble/v1alpha1"
)

func voters(n int32) func(*v1alpha1.Ensemble) {
	return func(e *v1alpha1.Ensemble) { e.Spec.Voters = &n }
}

func protect(levels ...v1alpha1.TopologyLevel) func(*v1alpha1.Ensemble) {
	return func(e *v1alpha1.Ensemble) { e.Spec.Topology = levels }
}

func onZones() func(*v1alpha1.Ensemble) { return protect(v1alpha1.TopologyLevel{TopologyKey: zoneKey}) }

func said(c metav1.Condition) string { return fmt.Sprintf("%s/%s: %s", c.Status, c.Reason, c.Message) }

// on binds zk-0, zk-1, ... to the nodes.
func on(nodes ...string) []runtime.Object {
	var pods []runtime.Object
	for i, n := range nodes {
		pods = append(pods, podOf(fmt.Sprint("zk-", i), n))
	}
	return pods
}

// What a person reads when placement is not safe, and when it is.
func TestPlacementSafe(t *testing.T) {
	abc := zones("a", "b", "c")
	for name, c := range map[string]struct {
		objects []runtime.Object
		rules   Rules
		want    string
	}{
		"safe": {
			objects: objects(abc, setOf("zk", 5), ensembleOf("zk"), on("a1", "a1", "b1", "b2", "c1")),
			want:    "True/Safe: at most 2 of 5 voters in one host (a1), at most 2 of 5 voters in one zone (a)",
		},
		"a majority in one zone": {
			objects: objects(abc, setOf("zk", 3), ensembleOf("zk"), on("a1", "a2", "b1")),
			want:    "False/FatalDomain: zone a holds 2 of 3 voters (zk-0, zk-1): quorum is lost with it; move zk-1 to zone c",
		},
		"the member that its volume holds is not the one to move": {
			objects: objects(abc, setOf("zk", 3), ensembleOf("zk", onZones()), on("a1", "a2", "b1"), pinned("zk-1", zoneKey, "a")),
			want:    "False/FatalDomain: zone a holds 2 of 3 voters (zk-0, zk-1): quorum is lost with it; move zk-0 to zone c",
		},
		"all are held": {
			objects: objects(abc, setOf("zk", 3), ensembleOf("zk", onZones()), on("a1", "a2", "b1"), pinned("zk-0", zoneKey, "a"), pinned("zk-1", zoneKey, "a")),
			want:    "False/FatalDomain: zone a holds 2 of 3 voters (zk-0, zk-1): quorum is lost with it; move zk-1, whose volume is pinned here: delete pod and claim together once the others are in sync",
		},
		"nowhere to move to": {
			objects: objects(zones("a", "b"), setOf("zk", 3), ensembleOf("zk", onZones()), on("a1", "a2", "b1")),
			want:    "False/FatalDomain: zone a holds 2 of 3 voters (zk-0, zk-1): quorum is lost with it; no other zone is safe for zk-1: add one",
		},
		"the live configuration is broken, the target is not": {
			objects: objects(abc, setOf("zk", 5), ensembleOf("zk", onZones(), status(3, "zk-0", "zk-1", "zk-2")), on("a1", "a2", "b1", "b1", "c1")),
			want:    "False/FatalDomain: zone a holds 2 of 3 voters of the live configuration (zk-0, zk-1): quorum is lost with it; move zk-1 to zone c",
		},
		"two voters": {
			objects: objects(abc, setOf("zk", 2), ensembleOf("zk"), on("a1", "b1")),
			want:    "False/TooFewVoters: 2 voters: quorum is lost with any one of them, wherever it is; run 3 voters to survive the loss of one",
		},
		"two voters and an oracle, apart": {
			objects: objects(abc, setOf("zk", 2), ensembleOf("zk", onZones(), voters(2), oracle), on("a1", "b1")),
			want:    "True/Safe: at most 1 of 2 voters in one zone (a)",
		},
		"two voters and an oracle, together": {
			objects: objects(abc, setOf("zk", 2), ensembleOf("zk", onZones(), voters(2), oracle), on("a1", "a2")),
			want:    "False/FatalDomain: zone a holds 2 of 2 voters (zk-0, zk-1): quorum is lost with it; move zk-1 to zone b",
		},
		"no label": {
			objects: objects(abc, nodeOf("x", ""), setOf("zk", 3), ensembleOf("zk"), on("a1", "b1", "x")),
			want:    "False/Unlabelled: zk-2 runs on node x, which bears no label topology.kubernetes.io/zone: what is lost with it is not known; label the node",
		},
		"no label, by one that is called an observer": {
			objects: objects(abc, nodeOf("x", ""), setOf("zk", 4), ensembleOf("zk", onZones(), observing), on("a1", "b1", "c1", "x")),
			want:    "True/Safe: at most 1 of 3 voters in one zone (a)",
		},
		"and votes": {
			objects: objects(abc, nodeOf("x", ""), setOf("zk", 4), ensembleOf("zk", onZones(), observing, status(4, "zk-0", "zk-1", "zk-2", "zk-3")), on("a1", "b1", "c1", "x")),
			want:    "False/Unlabelled: zk-3 runs on node x, which bears no label topology.kubernetes.io/zone: what is lost with it is not known; label the node",
		},
		"and votes, without a request": {
			objects: objects(zones("a", "b", "c", "d"), setOf("zk", 4), ensembleOf("zk", onZones(), observing, status(4, "zk-0", "zk-1", "zk-2", "zk-3")), on("a1", "b1", "c1"),
				podOf("zk-3", "d1", func(p *corev1.Pod) { p.Spec.Containers[0].Resources.Requests = nil })),
			want: "False/Unguarded: zk-3: without a request for quorate.io/voter, so that nobody is asked where the pod goes; recreate the pod once the namespace is labelled quorate.io/guard=enabled and the policy that adds the request is applied",
		},
		"older than the policy": {
			objects: objects(abc, setOf("zk", 3), ensembleOf("zk"), podOf("zk-0", "a1"), podOf("zk-1", "b1", func(p *corev1.Pod) { p.Spec.Containers[0].Resources.Requests = nil })),
			want:    "False/Unguarded: zk-1: without a request for quorate.io/voter, so that nobody is asked where the pod goes; recreate the pod once the namespace is labelled quorate.io/guard=enabled and the policy that adds the request is applied",
		},
		"another scheduler": {
			objects: objects(abc, setOf("zk", 3), ensembleOf("zk"), podOf("zk-0", "a1"), podOf("zk-1", "b1", func(p *corev1.Pod) { p.Spec.SchedulerName = "mine" })),
			want:    "False/Unguarded: zk-1 (mine): placed by a scheduler that does not ask for this ensemble; give all members one scheduler that does",
		},
		"a scheduler that is configured": {
			objects: objects(abc, setOf("zk", 3), ensembleOf("zk", onZones()), podOf("zk-0", "a1", func(p *corev1.Pod) { p.Spec.SchedulerName = "mine" })),
			rules:   Rules{Schedulers: []string{"default-scheduler", "mine"}},
			want:    "True/Safe: at most 1 of 3 voters in one zone (a)",
		},
		"overlapping": {
			objects: objects(abc, setOf("zk", 3), ensembleOf("zk"), ensembleOf("zz", func(e *v1alpha1.Ensemble) { e.Spec.Selector = labelled("zk") }), on("a1", "b1", "c1")),
			want:    "False/Overlapping: some pods are selected by zz too, and count for the older Ensemble only; narrow spec.selector of one",
		},
		"not known": {
			objects: objects(abc, ensembleOf("zk"), on("a1")),
			want:    "Unknown/Unknown: the members' StatefulSets do not tell how many voters there are; set spec.voters",
		},
		"not resolved": {
			objects: objects(abc, ensembleOf("zk", protect()), setOf("zk", 3)),
			want:    "Unknown/Unknown: status.topology has not been resolved yet",
		},
		"a preferred level is no promise": {
			objects: objects(zones("a", "b"), setOf("zk", 3), on("a1", "a2", "b1"), ensembleOf("zk", protect(
				v1alpha1.TopologyLevel{TopologyKey: hostKey}, v1alpha1.TopologyLevel{TopologyKey: zoneKey, WhenUnsatisfiable: v1alpha1.ScheduleAnyway}))),
			want: "True/Safe: at most 1 of 3 voters in one host (a1)",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := FromObjects(c.objects...)
			e, _ := s.Get(zk)
			if diff := cmp.Diff(c.want, said(PlacementSafe(s, e, c.rules))); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// observing calls the fourth member an observer.
func observing(e *v1alpha1.Ensemble) {
	e.Spec.Observers = &v1alpha1.Selector{MatchExpressions: []v1alpha1.SelectorRequirement{{Key: podIndex, Operator: "In", Values: []v1alpha1.LabelValue{"3"}}}}
}

func oracle(e *v1alpha1.Ensemble) { e.Spec.Quorum = &v1alpha1.QuorumSpec{Oracle: true} }

func grouped(groups ...string) func(*v1alpha1.Ensemble) {
	return func(e *v1alpha1.Ensemble) {
		e.Spec.Quorum = &v1alpha1.QuorumSpec{}
		for i, g := range groups {
			e.Spec.Quorum.Members = append(e.Spec.Quorum.Members, v1alpha1.QuorumMember{Name: fmt.Sprint("zk-", i), Group: g})
		}
	}
}

// What a person reads when no placement can be safe.
func TestPlacementFeasible(t *testing.T) {
	for name, c := range map[string]struct {
		objects []runtime.Object
		want    string
	}{
		"five in three zones": {
			objects(zones("a", "b", "c"), setOf("zk", 5), ensembleOf("zk")),
			"True/Feasible: 5 voters fit 9 hosts, 5 voters fit 3 zones",
		},
		"three in two zones": {
			objects(zones("a", "b"), setOf("zk", 3), ensembleOf("zk")),
			"False/TooFewDomains: 3 voters over 2 zones (a, b): at most 1 may share a zone, or its loss leaves fewer than the 2 of 3 that are a quorum, so that 3 zones are needed; add a zone, or set whenUnsatisfiable: ScheduleAnyway for topology.kubernetes.io/zone in spec.topology",
		},
		"four in three zones": {
			objects(zones("a", "b", "c"), setOf("zk", 4), ensembleOf("zk")),
			"False/TooFewDomains: 4 voters over 3 zones (a, b, c): at most 1 may share a zone, or its loss leaves fewer than the 3 of 4 that are a quorum, so that 4 zones are needed; add a zone, or set whenUnsatisfiable: ScheduleAnyway for topology.kubernetes.io/zone in spec.topology, or run 3 voters, which survive as many losses",
		},
		"a taint takes a zone away": {
			objects(nodeOf("a1", "a"), nodeOf("b1", "b"), tainted(nodeOf("c1", "c")), setOf("zk", 3), ensembleOf("zk", onZones())),
			"False/TooFewDomains: 3 voters over 2 zones (a, b): at most 1 may share a zone, or its loss leaves fewer than the 2 of 3 that are a quorum, so that 3 zones are needed; add a zone, or set whenUnsatisfiable: ScheduleAnyway for topology.kubernetes.io/zone in spec.topology",
		},
		"a toleration gives it back": {
			objects(nodeOf("a1", "a"), nodeOf("b1", "b"), tainted(nodeOf("c1", "c")), setOf("zk", 3, tolerant), ensembleOf("zk", onZones())),
			"True/Feasible: 3 voters fit 3 zones",
		},
		"volumes hold two of three together": {
			objects(zones("a", "b", "c"), setOf("zk", 3), ensembleOf("zk", onZones()), pinned("zk-0", zoneKey, "a"), pinned("zk-1", zoneKey, "a")),
			"False/Pinned: 3 voters over 3 zones (a, b, c): at most 1 may share a zone, but their volumes, selectors, affinities or tolerations allow no such placement; free one of them to go elsewhere",
		},
		"more members than voters": {
			objects(zones("a", "b", "c"), setOf("zk", 5), ensembleOf("zk", onZones(), voters(3)), on("a1", "a2", "b1", "b2", "c1")),
			"False/TooManyMembers: 5 members count although there are 3 voters, each of them may be one, and at most 1 may share a zone: 3 zones (a, b, c) cannot take them; set spec.voters, or select those that never vote with spec.observers",
		},
		"three groups of three fit three zones": {
			objects(zones("a", "b", "c"), setOf("zk", 9), ensembleOf("zk", onZones(), grouped("x", "x", "x", "y", "y", "y", "z", "z", "z"))),
			"True/Feasible: 9 voters fit 3 zones",
		},
		"and do not fit two": {
			objects(zones("a", "b"), setOf("zk", 9), ensembleOf("zk", onZones(), grouped("x", "x", "x", "y", "y", "y", "z", "z", "z"))),
			"False/TooFewDomains: 9 voters of different weights or groups over 2 zones (a, b): however they are placed, the loss of one zone loses quorum; add a zone, or set whenUnsatisfiable: ScheduleAnyway for topology.kubernetes.io/zone in spec.topology",
		},
		"zones alone, feeds alone, but not both": {
			objects(nodeOf("n1", "a", "feed=1"), nodeOf("n2", "b", "feed=2"), nodeOf("n3", "c", "feed=1"), nodeOf("n4", "b", "feed=3"), setOf("zk", 3),
				ensembleOf("zk", protect(v1alpha1.TopologyLevel{TopologyKey: zoneKey}, v1alpha1.TopologyLevel{TopologyKey: "feed"}))),
			"False/TooFewDomains: 3 voters fit each protected level alone but not all at once: no placement leaves a quorum whichever domain is lost; add nodes, or set whenUnsatisfiable: ScheduleAnyway for one level in spec.topology",
		},
		"one voter": {
			objects(zones("a"), setOf("zk", 1), ensembleOf("zk")),
			"True/Feasible: 1 voter: nothing is refused for them",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := FromObjects(c.objects...)
			e, _ := s.Get(zk)
			if diff := cmp.Diff(c.want, said(PlacementFeasible(s, e))); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func tainted(n *corev1.Node) *corev1.Node {
	n.Spec.Taints = []corev1.Taint{
		{Key: "dedicated", Value: "gpu", Effect: corev1.TaintEffectNoSchedule},
		{Key: corev1.TaintNodeNotReady, Effect: corev1.TaintEffectNoSchedule},
	}
	return n
}

func tolerant(s *appsv1.StatefulSet) {
	s.Spec.Template.Spec.Tolerations = []corev1.Toleration{{Key: "dedicated", Operator: corev1.TolerationOpExists}}
}

// The defaults protect zones where there are enough of them, never loosen what was
// protected, and take an explicit list literally.
func TestResolve(t *testing.T) {
	hard := func(key string) v1alpha1.TopologyLevel {
		return v1alpha1.TopologyLevel{TopologyKey: key, WhenUnsatisfiable: v1alpha1.DoNotSchedule}
	}
	soft := func(key string) v1alpha1.TopologyLevel {
		return v1alpha1.TopologyLevel{TopologyKey: key, WhenUnsatisfiable: v1alpha1.ScheduleAnyway}
	}
	resolved := func(levels ...v1alpha1.TopologyLevel) func(*v1alpha1.Ensemble) {
		return func(e *v1alpha1.Ensemble) { e.Spec.Topology, e.Status.Topology = nil, levels }
	}
	for name, c := range map[string]struct {
		objects []runtime.Object
		want    []v1alpha1.TopologyLevel
	}{
		"three zones for three":  {objects(zones("a", "b", "c"), setOf("zk", 3), ensembleOf("zk", resolved())), []v1alpha1.TopologyLevel{hard(hostKey), hard(zoneKey)}},
		"three zones for five":   {objects(zones("a", "b", "c"), setOf("zk", 5), ensembleOf("zk", resolved())), []v1alpha1.TopologyLevel{hard(hostKey), hard(zoneKey)}},
		"three zones for four":   {objects(zones("a", "b", "c"), setOf("zk", 4), ensembleOf("zk", resolved())), []v1alpha1.TopologyLevel{hard(hostKey), soft(zoneKey)}},
		"four zones for four":    {objects(zones("a", "b", "c", "d"), setOf("zk", 4), ensembleOf("zk", resolved())), []v1alpha1.TopologyLevel{hard(hostKey), hard(zoneKey)}},
		"two zones for three":    {objects(zones("a", "b"), setOf("zk", 3), ensembleOf("zk", resolved())), []v1alpha1.TopologyLevel{hard(hostKey), soft(zoneKey)}},
		"one zone":               {objects(zones("a"), setOf("zk", 3), ensembleOf("zk", resolved())), []v1alpha1.TopologyLevel{hard(hostKey)}},
		"no voters known":        {objects(zones("a", "b", "c"), ensembleOf("zk", resolved())), nil},
		"a zone that is tainted": {objects(zones("a", "b"), tainted(nodeOf("c1", "c")), setOf("zk", 3), ensembleOf("zk", resolved())), []v1alpha1.TopologyLevel{hard(hostKey), soft(zoneKey)}},
		"a selector that leaves two zones": {objects(zones("a", "b", "c"), ensembleOf("zk", resolved()), setOf("zk", 3, func(s *appsv1.StatefulSet) {
			s.Spec.Template.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
				NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: zoneKey, Operator: corev1.NodeSelectorOpNotIn, Values: []string{"c"}}}}}}}}
		})), []v1alpha1.TopologyLevel{hard(hostKey), soft(zoneKey)}},
		"volumes all in one zone": {objects(zones("a", "b", "c"), setOf("zk", 3), ensembleOf("zk", resolved()),
			pinned("zk-0", zoneKey, "a"), pinned("zk-1", zoneKey, "a")), []v1alpha1.TopologyLevel{hard(hostKey), soft(zoneKey)}},
		"a lost zone loosens nothing": {objects(zones("a", "b"), setOf("zk", 3), ensembleOf("zk", resolved(hard(hostKey), hard(zoneKey)))), []v1alpha1.TopologyLevel{hard(hostKey), hard(zoneKey)}},
		"a third zone tightens":       {objects(zones("a", "b", "c"), setOf("zk", 3), ensembleOf("zk", resolved(hard(hostKey), soft(zoneKey)))), []v1alpha1.TopologyLevel{hard(hostKey), hard(zoneKey)}},
		"an explicit list is literal": {objects(zones("a", "b", "c"), setOf("zk", 3), ensembleOf("zk", resolved(hard(hostKey), hard(zoneKey)), protect(soft(rackKey)))), []v1alpha1.TopologyLevel{soft(rackKey)}},
	} {
		t.Run(name, func(t *testing.T) {
			s := FromObjects(c.objects...)
			e, _ := s.Get(zk)
			if diff := cmp.Diff(c.want, Resolve(s, e)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}
