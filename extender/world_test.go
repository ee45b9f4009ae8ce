package extender

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/quorate/quorate/ensemble/membership"
	"github.com/quorate/quorate/ensemble/v1alpha1"
)

// world is a cluster with one ensemble, in the words of the scripts.
type world struct {
	nodes    map[string]map[string]string // labels by name
	former   map[string]map[string]string // of those that were deleted, whose pods may run on
	voters   int                          // replicas of the StatefulSet
	levels   []v1alpha1.TopologyLevel
	only     []string // the zones that the pods' affinity leaves them; nil: all
	live     *live
	quorum   *v1alpha1.QuorumSpec
	pods     map[string]*worldPod
	volumes  map[string]map[string]string // labels of the nodes that a member's volume is bound to
	selected map[string]string            // node that a member's claim was given to, while there is no volume
	observer map[string]bool              // by pod; spec.observers names them
	edition  int                          // of those
}

// live is a live configuration, and what the status tells of it.
type live struct {
	status v1alpha1.EnsembleStatus
	voters []string
	may    []string // those who may be voters, as far as the status tells
}

type worldPod struct {
	uid                        types.UID
	node, nominated, condition string
	zone                       string // of the node, as the binding wrote it into the pod's labels
	terminating, gated         bool
}

// keys are the words of the scripts for node labels.
var keys = map[string]string{
	"host": corev1.LabelHostname, "zone": corev1.LabelTopologyZone, "region": corev1.LabelTopologyRegion,
	"rack": "example.com/rack", "feed": "example.com/feed",
}

func newWorld() *world {
	return &world{
		nodes: map[string]map[string]string{}, former: map[string]map[string]string{}, pods: map[string]*worldPod{},
		volumes: map[string]map[string]string{}, selected: map[string]string{}, observer: map[string]bool{},
	}
}

func (w *world) clone() *world {
	c := *w
	c.nodes, c.volumes, c.observer = maps.Clone(w.nodes), maps.Clone(w.volumes), maps.Clone(w.observer)
	c.selected = maps.Clone(w.selected)
	c.pods = make(map[string]*worldPod, len(w.pods))
	for name, p := range w.pods {
		c.pods[name] = new(*p)
	}
	return &c
}

// run binds the pod to the node, whose zone the API server notes on it.
func (w *world) run(p *worldPod, node string) {
	p.node, p.condition, p.nominated = node, "", ""
	p.zone = w.nodes[node][corev1.LabelTopologyZone]
}

func (w *world) addNode(name string, labels map[string]string) {
	full := map[string]string{corev1.LabelHostname: name}
	for k, v := range labels {
		if v == "" {
			delete(full, keys[k])
			continue
		}
		full[keys[k]] = v
	}
	w.nodes[name] = full
}

func level(word string) v1alpha1.TopologyLevel {
	l := v1alpha1.TopologyLevel{WhenUnsatisfiable: v1alpha1.DoNotSchedule}
	word, soft := strings.CutSuffix(word, "?")
	if soft {
		l.WhenUnsatisfiable = v1alpha1.ScheduleAnyway
	}
	word, within, _ := strings.Cut(word, "<")
	l.TopologyKey, l.Within = keys[word], keys[within]
	return l
}

const namespace = "data"

func (w *world) snapshot() *membership.Snapshot {
	set := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "zk"}}
	set.Spec.Replicas = new(int32(w.voters))
	set.Spec.Template.Labels = map[string]string{"app": "zk"}
	set.Spec.VolumeClaimTemplates = []corev1.PersistentVolumeClaim{{ObjectMeta: metav1.ObjectMeta{Name: "data"}}}
	if w.only != nil {
		set.Spec.Template.Spec.Affinity = inZones(w.only)
	}
	ensemble := &v1alpha1.Ensemble{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "zk", UID: "ensemble"}}
	ensemble.Spec.Selector = v1alpha1.Selector{MatchLabels: map[string]v1alpha1.LabelValue{"app": "zk"}}
	ensemble.Spec.Observers = w.observers()
	ensemble.Spec.Topology, ensemble.Spec.Quorum = w.levels, w.quorum
	if w.live != nil {
		ensemble.Status = w.live.status
	}
	objects := []runtime.Object{set, ensemble}
	for name, labels := range w.nodes {
		objects = append(objects, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}})
	}
	for name, p := range w.pods {
		objects = append(objects, w.pod(name, p))
	}
	for name, labels := range w.volumes {
		objects = append(objects, volume(name, labels)...)
	}
	for name, node := range w.selected {
		claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "data-" + name}}
		claim.Annotations = map[string]string{"volume.kubernetes.io/selected-node": node}
		objects = append(objects, claim)
	}
	return membership.FromObjects(objects...)
}

func (w *world) pod(name string, p *worldPod) *corev1.Pod {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: p.uid, Labels: map[string]string{"app": "zk", appsv1.StatefulSetPodNameLabel: name}}}
	if p.zone != "" {
		pod.Labels[corev1.LabelTopologyZone] = p.zone
	}
	pod.OwnerReferences = []metav1.OwnerReference{{Kind: "StatefulSet", Name: "zk", Controller: new(true)}}
	pod.Spec.NodeName, pod.Status.NominatedNodeName = p.node, p.nominated
	one := corev1.ResourceList{v1alpha1.VoterResource: resource.MustParse("1")}
	pod.Spec.Containers = []corev1.Container{{Name: "zk", Resources: corev1.ResourceRequirements{Requests: one, Limits: one}}}
	pod.Spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{
		PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data-" + name}}}}
	if p.condition != "" {
		pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "Unschedulable", Message: p.condition}}
	}
	if p.terminating {
		pod.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)}
	}
	if p.gated {
		pod.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "gate"}}
	}
	return pod
}

func inZones(zones []string) *corev1.Affinity {
	return &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
		NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{
			{Key: corev1.LabelTopologyZone, Operator: corev1.NodeSelectorOpIn, Values: zones}}}}}}}
}

// observers selects those of the world, by name: so it says the same of a pod that is
// absent.
func (w *world) observers() *v1alpha1.Selector {
	var names []v1alpha1.LabelValue
	for _, name := range slices.Sorted(maps.Keys(w.observer)) {
		if w.observer[name] {
			names = append(names, v1alpha1.LabelValue(name))
		}
	}
	if names == nil {
		return nil
	}
	return &v1alpha1.Selector{MatchExpressions: []v1alpha1.SelectorRequirement{
		{Key: appsv1.StatefulSetPodNameLabel, Operator: metav1.LabelSelectorOpIn, Values: names}}}
}

// liveConfig is a live configuration of these voters. Of those that the status doesn't
// tell, it is not known whether they vote or wait to be taken in.
func liveConfig(names []string, told func(string) bool) *live {
	l := &live{voters: names, may: names, status: v1alpha1.EnsembleStatus{Voters: new(int32(len(names)))}}
	for _, name := range names {
		l.show(name, "Follower", told(name))
	}
	return l
}

// show makes the status tell of a member.
func (l *live) show(name, role string, votes bool) {
	l.status.Members = append(l.status.Members, v1alpha1.MemberStatus{Name: name, Role: role, Votes: votes})
}

func volume(pod string, labels map[string]string) []runtime.Object {
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "data-" + pod}}
	claim.Spec.VolumeName = "pv-" + pod
	pv := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pv-" + pod}}
	pv.Spec.ClaimRef = &corev1.ObjectReference{Namespace: namespace, Name: claim.Name}
	var terms []corev1.NodeSelectorRequirement
	for k, v := range labels {
		terms = append(terms, corev1.NodeSelectorRequirement{Key: k, Operator: corev1.NodeSelectorOpIn, Values: []string{v}})
	}
	pv.Spec.NodeAffinity = &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{
		NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: terms}}}}
	return []runtime.Object{claim, pv}
}

func (w *world) nodeNames() []string { return slices.Sorted(maps.Keys(w.nodes)) }

func (w *world) ensemble(s *membership.Snapshot) *membership.Ensemble {
	e, ok := s.Get(types.NamespacedName{Namespace: namespace, Name: "zk"})
	if !ok {
		panic(fmt.Sprintf("the world has no ensemble: %v", w))
	}
	return e
}
