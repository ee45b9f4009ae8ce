package membership

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"pgregory.net/rapid"

	"github.com/quorate/quorate/ensemble/v1alpha1"
)

// world is a cluster in a random history, by kind and name.
type world struct {
	informer *Informer
	objects  map[string]map[string]runtime.Object
}

func newWorld() *world {
	w := &world{informer: NewInformer(newCluster().sources(), nil), objects: map[string]map[string]runtime.Object{}}
	for _, r := range w.informer.resources() {
		w.objects[r.name] = map[string]runtime.Object{}
		_ = (&store{w.informer, r}).Replace(nil, "") // of nothing: it cannot fail
	}
	return w
}

func (w *world) all() []runtime.Object {
	var all []runtime.Object
	for _, kind := range slices.Sorted(maps.Keys(w.objects)) {
		for _, name := range slices.Sorted(maps.Keys(w.objects[kind])) {
			all = append(all, w.objects[kind][name])
		}
	}
	return all
}

// step changes, adds or deletes one object.
func (w *world) step(t *rapid.T) string {
	resources := w.informer.resources()
	r := resources[rapid.IntRange(0, len(resources)-1).Draw(t, "kind")]
	o := draw(t, r.name)
	key := o.(metav1.Object).GetNamespace() + "/" + o.(metav1.Object).GetName()
	s := &store{w.informer, r}
	if old, there := w.objects[r.name][key]; there && rapid.IntRange(0, 3).Draw(t, "delete") == 0 {
		delete(w.objects[r.name], key)
		if err := s.Delete(old); err != nil {
			t.Fatal(err)
		}
		return "delete " + r.name + " " + key
	}
	w.objects[r.name][key] = o
	if err := s.Update(o); err != nil {
		t.Fatal(err)
	}
	return "put " + r.name + " " + key
}

func pick[T any](t *rapid.T, label string, of ...T) T {
	return of[rapid.IntRange(0, len(of)-1).Draw(t, label)]
}

func draw(t *rapid.T, kind string) runtime.Object {
	ordinal := rapid.IntRange(0, 4).Draw(t, "ordinal")
	pod := fmt.Sprintf("%s-%d", pick(t, "set", "zk", "kz"), ordinal)
	switch kind {
	case "ensembles":
		return drawEnsemble(t)
	case "pods":
		return podOf(pod, pick(t, "node", "", "", "n0", "n1", "n2", "n3", "gone"), func(p *corev1.Pod) {
			p.Labels["app"] = pick(t, "app", "zk", "kz", "none")
			if now := metav1.NewTime(time.Unix(3000, 0)); rapid.Bool().Draw(t, "terminating") {
				p.DeletionTimestamp = &now
			}
			p.Status.Phase = pick(t, "phase", corev1.PodRunning, corev1.PodRunning, corev1.PodFailed)
			p.Status.NominatedNodeName = pick(t, "nominated", "", "", "n1", "gone")
			if rapid.Bool().Draw(t, "zoned") {
				p.Labels[zoneKey] = "b"
			}
		})
	case "statefulsets":
		return setOf(pick(t, "set", "zk", "kz"), rapid.Int32Range(0, 4).Draw(t, "replicas"), func(s *appsv1.StatefulSet) {
			s.Spec.Template.Labels["app"] = pick(t, "app", "zk", "kz", "none")
			s.Spec.Ordinals = pick(t, "start", nil, nil, &appsv1.StatefulSetOrdinals{Start: 1})
		})
	case "nodes":
		return nodeOf(pick(t, "node", "n0", "n1", "n2", "n3"), pick(t, "zone", "", "a", "b", "c"), rackKey+"="+pick(t, "rack", "r1", "r2"))
	case "persistentvolumeclaims":
		return &corev1.PersistentVolumeClaim{
			ObjectMeta: metav1.ObjectMeta{Namespace: "data", Name: "data-" + pod, Annotations: map[string]string{selectedNode: pick(t, "selected", "", "n0", "gone")}},
			Spec:       corev1.PersistentVolumeClaimSpec{VolumeName: pick(t, "volume", "", "pv-"+pod, "pv-zk-0")},
		}
	default:
		return drawVolume(t, pod)
	}
}

func drawEnsemble(t *rapid.T) *v1alpha1.Ensemble {
	key, anything := hostKey, []v1alpha1.SelectorRequirement{{Key: "app", Operator: metav1.LabelSelectorOpIn, Values: []v1alpha1.LabelValue{"zk", "kz"}}}
	return ensembleOf(pick(t, "ensemble", "zk", "kz", "xx"), func(e *v1alpha1.Ensemble) {
		e.CreationTimestamp = metav1.NewTime(time.Unix(rapid.Int64Range(1, 3).Draw(t, "created"), 0))
		e.Spec.Selector = pick(t, "selector", labelled("zk"), labelled("kz"), v1alpha1.Selector{MatchExpressions: anything},
			v1alpha1.Selector{MatchExpressions: []v1alpha1.SelectorRequirement{{Key: podIndex, Operator: metav1.LabelSelectorOpNotIn, Values: []v1alpha1.LabelValue{"0", "1"}}}})
		e.Spec.Observers = pick(t, "observers", nil, nil, &v1alpha1.Selector{MatchExpressions: []v1alpha1.SelectorRequirement{{Key: podIndex, Operator: metav1.LabelSelectorOpIn, Values: []v1alpha1.LabelValue{"3", "4"}}}})
		e.Spec.Voters = pick(t, "voters", nil, nil, new(int32(3)), new(int32(5)))
		e.Spec.Topology = pick(t, "topology", nil, []v1alpha1.TopologyLevel{{TopologyKey: key}},
			[]v1alpha1.TopologyLevel{{TopologyKey: zoneKey}, {TopologyKey: rackKey, Within: zoneKey}, {TopologyKey: key}})
		if rapid.Bool().Draw(t, "live") {
			status(3, "zk-0", "zk-1", "kz-0")(e)
			e.Status.Members[1].Votes = rapid.Bool().Draw(t, "votes")
			e.Status.Members[1].Role = pick(t, "role", "", "Follower", "Observer")
		}
	})
}

func drawVolume(t *rapid.T, pod string) runtime.Object {
	v := pinned(pod, pick(t, "key", zoneKey, hostKey), pick(t, "values", []string{"a"}, []string{"n1"}, []string{"a", "b"}, []string{"b"})...)[1].(*corev1.PersistentVolume)
	switch terms := &v.Spec.NodeAffinity.Required.NodeSelectorTerms; rapid.IntRange(0, 4).Draw(t, "affinity") {
	case 0:
		v.Spec.NodeAffinity = nil
	case 1:
		(*terms)[0].MatchExpressions[0].Operator = corev1.NodeSelectorOpNotIn
	case 2:
		*terms = append(*terms, corev1.NodeSelectorTerm{MatchFields: []corev1.NodeSelectorRequirement{{Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: []string{"n2"}}}})
	case 3:
		v.Spec.ClaimRef = nil
	}
	return v
}

// In every random history, the snapshot that followed each change says the same as
// one made from scratch, and the same as the slow model, which knows no index.
func TestHistories(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld()
		var steps []string
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			steps = append(steps, w.step(t))
			all := w.all()
			got, fresh, want := describe(w.informer.Snapshot()), describe(FromObjects(all...)), slow(all)
			if got != fresh {
				t.Fatalf("after %s\nfrom scratch it is otherwise (-scratch +followed)\n%s", strings.Join(steps, "\n"), cmp.Diff(fresh, got))
			}
			if pictures := pictures(w.informer.Snapshot()); pictures != want {
				t.Fatalf("after %s\nthe model says otherwise (-model +got)\n%s", strings.Join(steps, "\n"), cmp.Diff(want, pictures))
			}
		}
	})
}

func ordered(s *Snapshot) []*Ensemble {
	return slices.SortedFunc(s.Ensembles(), func(a, b *Ensemble) int { return strings.Compare(a.Key.Name, b.Key.Name) })
}

func pictures(s *Snapshot) string {
	var b strings.Builder
	for _, e := range ordered(s) {
		fmt.Fprintf(&b, "# %s\n%s", e.Key.Name, picture(e))
	}
	return b.String()
}

// describe is everything that a snapshot says.
func describe(s *Snapshot) string {
	var b strings.Builder
	b.WriteString(pictures(s))
	for _, e := range ordered(s) {
		fmt.Fprintf(&b, "# %s\n%s\n%s\n%v\n", e.Key.Name, said(PlacementSafe(s, e, Rules{})), said(PlacementFeasible(s, e)), Resolve(s, e))
		for i := range e.Members {
			fmt.Fprintf(&b, "%v %v\n", e.Members[i].Pinned, e.Members[i].Nominated)
		}
	}
	for _, app := range []string{"zk", "kz", "none"} {
		if e, ok := s.Of("data", map[string]string{"app": app}); ok {
			fmt.Fprintf(&b, "app %s is of %s\n", app, e.Key.Name)
		}
	}
	rack := Level{Key: rackKey, Within: zoneKey}
	fmt.Fprintf(&b, "%v %v\n", maps.Collect(s.Domains(rack)), s.Nested(rack, Level{Key: zoneKey}))
	return b.String()
}
