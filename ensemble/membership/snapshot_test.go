package membership

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/quorate/quorate/ensemble/quorum"
	"github.com/quorate/quorate/ensemble/v1alpha1"
)

// picture draws an ensemble in one line per member and judgement.
func picture(e *Ensemble) string {
	var b strings.Builder
	for i := range e.Members {
		m := &e.Members[i]
		fmt.Fprintf(&b, "%s", m.Name)
		for word, on := range map[string]bool{" absent": m.UID == "", " observer": m.Observer} {
			if on {
				b.WriteString(word)
			}
		}
		fmt.Fprintf(&b, " %v\n", m.Occupies)
	}
	for i := range e.Judgements {
		j := &e.Judgements[i]
		fmt.Fprintf(&b, "%s: %d voters, counts", j.Name, j.Voters)
		for m := range j.Counts.Servers() {
			fmt.Fprintf(&b, " %s", e.Members[m].Name)
		}
		b.WriteString("\n")
	}
	if e.Problem != "" {
		fmt.Fprintf(&b, "problem: %s\n", e.Problem)
	}
	if len(e.Overlaps) > 0 {
		fmt.Fprintf(&b, "overlaps: %v\n", e.Overlaps)
	}
	return b.String()
}

// Who counts, and where: each case is one rule of the design.
func TestWhoCountsAndWhere(t *testing.T) {
	three := objects(setOf("zk", 3), zones("a", "b", "c"))
	for name, c := range map[string]struct {
		objects []runtime.Object
		want    string
	}{
		"bound pods count where their nodes are": {
			objects(three, ensembleOf("zk"), podOf("zk-0", "a1"), podOf("zk-1", "b2"), podOf("zk-2", "")),
			"zk-0 [[a1] [a]]\nzk-1 [[b2] [b]]\nzk-2 [[] []]\ndeclared: 3 voters, counts zk-0 zk-1 zk-2\n",
		},
		"a terminating pod counts until it is gone": {
			objects(three, ensembleOf("zk"), podOf("zk-0", "a1", func(p *corev1.Pod) {
				now := metav1.Now()
				p.DeletionTimestamp = &now
			})),
			"zk-0 [[a1] [a]]\ndeclared: 3 voters, counts zk-0\n",
		},
		"a finished pod does not": {
			objects(three, ensembleOf("zk"), podOf("zk-0", "a1", func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed })),
			"declared: 3 voters, counts\n",
		},
		"a volume holds the domain of an absent pod, of the ordinals that there are": {
			objects(three, ensembleOf("zk"), pinned("zk-2", zoneKey, "c"), pinned("zk-3", zoneKey, "c")),
			"zk-2 absent [[] [c]]\ndeclared: 3 voters, counts zk-2\n",
		},
		"ordinals may start elsewhere": {
			objects(zones("a", "b", "c"), ensembleOf("zk"), pinned("zk-2", zoneKey, "c"), pinned("zk-3", zoneKey, "c"),
				setOf("zk", 3, func(s *appsv1.StatefulSet) { s.Spec.Ordinals = &appsv1.StatefulSetOrdinals{Start: 3} })),
			"zk-3 absent [[] [c]]\ndeclared: 3 voters, counts zk-3\n",
		},
		"a local volume pins to its host and to the zone of it": {
			objects(three, ensembleOf("zk"), pinned("zk-1", hostKey, "b3"), podOf("zk-1", "")),
			"zk-1 [[b3] [b]]\ndeclared: 3 voters, counts zk-1\n",
		},
		"a volume that two zones reach pins to none": {
			objects(three, ensembleOf("zk"), pinned("zk-1", zoneKey, "a", "b"), podOf("zk-1", "")),
			"zk-1 [[] []]\ndeclared: 3 voters, counts zk-1\n",
		},
		"a volume still pins to a zone that lost all its nodes": {
			objects(setOf("zk", 3), zones("a", "b"), ensembleOf("zk"), pinned("zk-1", zoneKey, "c")),
			"zk-1 absent [[] [c]]\ndeclared: 3 voters, counts zk-1\n",
		},
		"a pending pod counts at its nominated node and at its claim's selected node": {
			objects(three, ensembleOf("zk"), podOf("zk-0", "", func(p *corev1.Pod) { p.Status.NominatedNodeName = "a1" }),
				&corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{
					Namespace: "data", Name: "data-zk-0", Annotations: map[string]string{selectedNode: "b1"}}}),
			"zk-0 [[a1 b1] [a b]]\ndeclared: 3 voters, counts zk-0\n",
		},
		"a claim's selected node tells where an absent pod's volume is made": {
			objects(three, ensembleOf("zk"), &corev1.PersistentVolumeClaim{
				ObjectMeta: metav1.ObjectMeta{Namespace: "data", Name: "data-zk-0", Annotations: map[string]string{selectedNode: "b1"}},
				Spec:       corev1.PersistentVolumeClaimSpec{VolumeName: "pv-not-seen-yet"}}),
			"zk-0 absent [[b1] [b]]\ndeclared: 3 voters, counts zk-0\n",
		},
		"a node without the label is in no domain of it": {
			objects(three, ensembleOf("zk"), nodeOf("x", ""), podOf("zk-0", "x")),
			"zk-0 [[x] []]\ndeclared: 3 voters, counts zk-0\n",
		},
		"a pod whose node is gone tells the zone that it was in": {
			objects(three, ensembleOf("zk"), podOf("zk-0", "gone", func(p *corev1.Pod) { p.Labels[zoneKey] = "b" })),
			"zk-0 [[gone] [b]]\ndeclared: 3 voters, counts zk-0\n",
		},
		"so does one whose node was registered again without labels": {
			objects(three, ensembleOf("zk"), nodeOf("x", ""), podOf("zk-0", "x", func(p *corev1.Pod) { p.Labels[zoneKey] = "b" })),
			"zk-0 [[x] [b]]\ndeclared: 3 voters, counts zk-0\n",
		},
		"and where both tell, the node knows better": {
			objects(three, ensembleOf("zk"), nodeOf("x", "a"), podOf("zk-0", "x", func(p *corev1.Pod) { p.Labels[zoneKey] = "b" })),
			"zk-0 [[x] [a]]\ndeclared: 3 voters, counts zk-0\n",
		},
		"rack r1 of zone a is not rack r1 of zone b": {
			objects(setOf("zk", 3), nodeOf("n1", "a", rackKey+"=r1"), nodeOf("n2", "b", rackKey+"=r1"),
				podOf("zk-0", "n1"), podOf("zk-1", "n2"),
				ensembleOf("zk", func(e *v1alpha1.Ensemble) {
					e.Spec.Topology = []v1alpha1.TopologyLevel{{TopologyKey: rackKey, Within: zoneKey}, {TopologyKey: rackKey}}
				})),
			"zk-0 [[a/r1] [r1]]\nzk-1 [[b/r1] [r1]]\ndeclared: 3 voters, counts zk-0 zk-1\n",
		},
		"a StatefulSet that is gone does not tell how many voters it meant": {
			objects(zones("a"), setOf("kz", 2, func(s *appsv1.StatefulSet) { s.Spec.Template.Labels["app"] = "zk" }),
				ensembleOf("zk"), podOf("zk-0", "a1")),
			"zk-0 [[a1] [a]]\nproblem: the members' StatefulSets do not tell how many voters there are; set spec.voters\n",
		},
		"several StatefulSets are one ensemble": {
			objects(zones("a"), ensembleOf("zk", func(e *v1alpha1.Ensemble) { e.Spec.Selector = labelled("both") }),
				setOf("one", 2, both), setOf("two", 3, both), podOf("one-0", "a1", bothPod), podOf("two-0", "a2", bothPod)),
			"one-0 [[a1] [a]]\ntwo-0 [[a2] [a]]\ndeclared: 5 voters, counts one-0 two-0\n",
		},
		"observers are members that never count": {
			objects(setOf("zk", 5), zones("a"), podOf("zk-0", "a1"), podOf("zk-4", "a2"), pinned("zk-3", zoneKey, "a"),
				ensembleOf("zk", func(e *v1alpha1.Ensemble) {
					e.Spec.Observers = &v1alpha1.Selector{MatchExpressions: []v1alpha1.SelectorRequirement{{Key: podIndex, Operator: "In", Values: []v1alpha1.LabelValue{"3", "4"}}}}
				})),
			"zk-0 [[a1] [a]]\nzk-4 observer [[a2] [a]]\ndeclared: 3 voters, counts zk-0\n",
		},
		"the live configuration counts only those that are in it": {
			objects(setOf("zk", 5), zones("a"), podOf("zk-0", "a1"), podOf("zk-1", "a1"), podOf("zk-2", "a1"), podOf("zk-3", ""),
				ensembleOf("zk", status(3, "zk-0", "zk-1", "zk-2"))),
			"zk-0 [[a1] [a]]\nzk-1 [[a1] [a]]\nzk-2 [[a1] [a]]\nzk-3 [[] []]\n" +
				"live: 3 voters, counts zk-0 zk-1 zk-2\ndeclared: 5 voters, counts zk-0 zk-1 zk-2 zk-3\n",
		},
		"a member that was not heard may be a voter that nobody named": {
			objects(setOf("zk", 3), zones("a"), podOf("zk-0", "a1"), podOf("zk-1", "a1"), podOf("zk-2", "a1"),
				ensembleOf("zk", status(3, "zk-0", "zk-1", "zk-2"), func(e *v1alpha1.Ensemble) { e.Status.Members[2].Votes = false })),
			"zk-0 [[a1] [a]]\nzk-1 [[a1] [a]]\nzk-2 [[a1] [a]]\n" +
				"live: 3 voters, counts zk-0 zk-1 zk-2\ndeclared: 3 voters, counts zk-0 zk-1 zk-2\n",
		},
		"a follower that does not vote waits to be taken into the configuration": {
			objects(setOf("zk", 3), zones("a"), podOf("zk-0", "a1"), podOf("zk-1", "a1"),
				ensembleOf("zk", status(1, "zk-0", "zk-1"), func(e *v1alpha1.Ensemble) {
					e.Status.Members[1].Votes, e.Status.Members[1].Role = false, "Follower"
				})),
			"zk-0 [[a1] [a]]\nzk-1 [[a1] [a]]\nlive: 1 voters, counts zk-0\ndeclared: 3 voters, counts zk-0 zk-1\n",
		},
		"nothing tells how many voters there are": {
			objects(zones("a"), ensembleOf("zk"), podOf("zk-0", "a1")),
			"zk-0 [[a1] [a]]\nproblem: the members' StatefulSets do not tell how many voters there are; set spec.voters\n",
		},
		"spec.voters tells": {
			objects(zones("a"), ensembleOf("zk", func(e *v1alpha1.Ensemble) { v := int32(3); e.Spec.Voters = &v }), podOf("zk-0", "a1")),
			"zk-0 [[a1] [a]]\ndeclared: 3 voters, counts zk-0\n",
		},
		"a voter without a group where others have one is said": {
			objects(setOf("zk", 3), ensembleOf("zk", func(e *v1alpha1.Ensemble) {
				e.Spec.Quorum = &v1alpha1.QuorumSpec{Members: []v1alpha1.QuorumMember{{Name: "zk-0", Group: "g"}}}
			}), podOf("zk-0", "a1"), podOf("zk-1", "a1")),
			"zk-0 [[a1] []]\nzk-1 [[a1] []]\nproblem: spec.quorum.members: zk-1 names no group, although others do; name it there\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			e, ok := FromObjects(c.objects...).Get(zk)
			if !ok {
				t.Fatal("the ensemble is not known")
			}
			if diff := cmp.Diff(c.want, picture(e)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func both(s *appsv1.StatefulSet) { s.Spec.Template.Labels["app"] = "both" }

func bothPod(p *corev1.Pod) { p.Labels["app"] = "both" }

func status(voters int32, names ...string) func(*v1alpha1.Ensemble) {
	return func(e *v1alpha1.Ensemble) {
		e.Status.Voters = &voters
		for _, n := range names {
			e.Status.Members = append(e.Status.Members, v1alpha1.MemberStatus{Name: n, Votes: true})
		}
	}
}

// A pod that two ensembles select belongs to the older one, both say so, and it
// moves to the younger one when the older one is gone.
func TestOverlap(t *testing.T) {
	young := ensembleOf("young", func(e *v1alpha1.Ensemble) {
		e.Spec.Selector, e.CreationTimestamp = labelled("zk"), metav1.NewTime(time.Unix(2000, 0))
	})
	old := ensembleOf("zk")
	m := newModel(StatusConfig{})
	for _, o := range objects(young, setOf("zk", 3), podOf("zk-0", "a1"), zones("a"), old) {
		m.see(o)
	}
	s, _ := m.publish()
	e, _ := s.Of("data", map[string]string{"app": "zk"})
	if e.Key != zk || len(e.Members) != 1 || len(e.Judgements) != 1 {
		t.Errorf("the pod belongs to %v with\n%s", e.Key, picture(e))
	}
	youngKey := types.NamespacedName{Namespace: "data", Name: "young"}
	if diff := cmp.Diff([]types.NamespacedName{youngKey}, e.Overlaps); diff != "" {
		t.Errorf("overlaps of the older: %s", diff)
	}
	y, _ := s.Get(youngKey)
	if diff := cmp.Diff([]types.NamespacedName{zk}, y.Overlaps); diff != "" || len(y.Members) != 0 {
		t.Errorf("overlaps of the younger: %s\n%s", diff, picture(y))
	}
	m.setEnsemble(zk, nil)
	s, changed := m.publish()
	if y, _ = s.Get(youngKey); len(y.Members) != 1 || len(y.Overlaps) != 0 || len(y.Judgements) != 1 {
		t.Errorf("after the older one is gone:\n%s", picture(y))
	}
	if _, ok := s.Get(zk); ok || len(changed) != 2 {
		t.Errorf("the older one is still there, or unsaid: changed = %v", changed)
	}
}

func TestNested(t *testing.T) {
	host, zone, feed := Level{Key: hostKey}, Level{Key: zoneKey}, Level{Key: "feed"}
	s := FromObjects(nodeOf("a1", "a", "feed=1"), nodeOf("a2", "a", "feed=2"), nodeOf("b1", "b", "feed=1"), nodeOf("x", ""))
	for _, c := range []struct {
		inner, outer Level
		want         bool
	}{{host, zone, true}, {zone, host, false}, {zone, feed, false}, {feed, zone, false}, {host, feed, true}} {
		if got := s.Nested(c.inner, c.outer); got != c.want {
			t.Errorf("Nested(%s, %s) = %v, want %v", c.inner.Key, c.outer.Key, got, c.want)
		}
	}
	if _, ok := s.Domain("x", zone); ok || !s.HasNode("x") || s.HasNode("y") {
		t.Error("a node without a zone has one, or an unknown node is known")
	}
	mixed := FromObjects(nodeOf("a1", "a", "feed=1"), nodeOf("x", "", "feed=1"))
	if mixed.Nested(feed, zone) {
		t.Error("a feed that reaches out of every zone is nested in a zone")
	}
}

// During a scale-down, any of those that are lost may be a voter.
func TestShrinking(t *testing.T) {
	pods := objects(podOf("zk-0", "a1"), podOf("zk-1", "a1"), podOf("zk-2", "b1"), podOf("zk-3", "b1"), podOf("zk-4", "c1"))
	e, _ := FromObjects(objects(setOf("zk", 3), zones("a", "b", "c"), ensembleOf("zk"), pods)...).Get(zk)
	j := &e.Judgements[0]
	if !j.Survives(quorum.SetOf(4)) || j.Survives(quorum.SetOf(3, 4)) {
		t.Error("of 5 members with 3 votes, losing one is not survived, or losing two is")
	}
	weighted := ensembleOf("zk", func(e *v1alpha1.Ensemble) {
		two := int64(2)
		e.Spec.Quorum = &v1alpha1.QuorumSpec{Members: []v1alpha1.QuorumMember{{Name: "zk-0", Weight: &two}}}
	})
	e, _ = FromObjects(objects(setOf("zk", 3), zones("a", "b", "c"), weighted, pods)...).Get(zk)
	j = &e.Judgements[0]
	if j.Survives(quorum.SetOf(0)) || !j.Survives(quorum.SetOf(1)) {
		t.Error("the loss of weight 2 of 4 is survived, or that of 1 of 4 is not")
	}
}

func TestZeroJudgementDenies(t *testing.T) {
	var j Judgement
	if j.Survives(0) || j.Enforced() {
		t.Error("a judgement that nobody made lets something pass")
	}
}

// A former voter that has not left yet does not stand in for one that is absent at the
// moment: any of them may be the three.
func TestWeightOfTheAbsent(t *testing.T) {
	weighted := ensembleOf("zk", func(e *v1alpha1.Ensemble) {
		e.Spec.Quorum = &v1alpha1.QuorumSpec{Members: []v1alpha1.QuorumMember{{Name: "zk-3", Weight: new(int64(3))}}}
	})
	e, _ := FromObjects(objects(setOf("zk", 3), zones("a", "b", "c"), weighted, podOf("zk-1", "a1"), podOf("zk-2", "a2"), podOf("zk-3", "b1"))...).Get(zk)
	if e.Judgements[0].Survives(quorum.SetOf(e.Index("zk-1"), e.Index("zk-2"))) {
		t.Error("two of the three that are meant to vote are lost, and zk-3, which leaves, is taken to outvote them")
	}
}

// Who may be a voter by the status has the weight stated for it, though its pod is
// absent: a stranger of weight 1 in its place would make up for another one.
func TestWeightOfTheUntold(t *testing.T) {
	weighted := ensembleOf("zk", status(3, "zk-0", "zk-1", "zk-2"), func(e *v1alpha1.Ensemble) {
		for i := range e.Status.Members {
			e.Status.Members[i].Votes = false
		}
		e.Spec.Quorum = &v1alpha1.QuorumSpec{Members: []v1alpha1.QuorumMember{{Name: "zk-2", Weight: new(int64(0))}}}
	})
	e, _ := FromObjects(objects(setOf("zk", 3), zones("a", "b", "c"), weighted, podOf("zk-0", "a1"))...).Get(zk)
	if j := &e.Judgements[0]; j.Name != Live || j.Survives(quorum.SetOf(0)) {
		t.Errorf("%s: the loss of one of the two that have a vote is survived", j.Name)
	}
}
