package membership

import (
	"fmt"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/quorate/quorate/ensemble/v1alpha1"
)

const (
	zoneKey = corev1.LabelTopologyZone
	hostKey = corev1.LabelHostname
	rackKey = "example.com/rack"
)

var zk = types.NamespacedName{Namespace: "data", Name: "zk"}

func labelled(app string) v1alpha1.Selector {
	return v1alpha1.Selector{MatchLabels: map[string]v1alpha1.LabelValue{"app": v1alpha1.LabelValue(app)}}
}

// ensembleOf selects app=NAME in data, protecting hosts and zones.
func ensembleOf(name string, change ...func(*v1alpha1.Ensemble)) *v1alpha1.Ensemble {
	e := &v1alpha1.Ensemble{
		ObjectMeta: metav1.ObjectMeta{Namespace: "data", Name: name, UID: types.UID("uid-" + name), CreationTimestamp: metav1.NewTime(time.Unix(1000, 0))},
		Spec: v1alpha1.EnsembleSpec{
			Selector: labelled(name),
			Topology: []v1alpha1.TopologyLevel{{TopologyKey: hostKey}, {TopologyKey: zoneKey}},
		},
	}
	for _, c := range change {
		c(e)
	}
	return e
}

// setOf is the StatefulSet of that name and size, with a claim per pod.
func setOf(name string, replicas int32, change ...func(*appsv1.StatefulSet)) *appsv1.StatefulSet {
	s := &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: "data", Name: name},
		Spec: appsv1.StatefulSetSpec{
			Replicas:             &replicas,
			Template:             corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": name}}},
			VolumeClaimTemplates: []corev1.PersistentVolumeClaim{{ObjectMeta: metav1.ObjectMeta{Name: "data"}}},
		},
	}
	for _, c := range change {
		c(s)
	}
	return s
}

// podOf is a pod of the StatefulSet before the last hyphen of its name, with its
// claim and the voter request; bound if it has a node.
func podOf(name, node string, change ...func(*corev1.Pod)) *corev1.Pod {
	owner := name[:strings.LastIndex(name, "-")]
	yes := true
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "data", Name: name, UID: types.UID("uid-" + name),
			Labels:          map[string]string{"app": owner, podName: name, podIndex: name[len(owner)+1:]},
			OwnerReferences: []metav1.OwnerReference{{Kind: "StatefulSet", Name: owner, Controller: &yes}},
		},
		Spec: corev1.PodSpec{
			NodeName: node, SchedulerName: "default-scheduler",
			Containers: []corev1.Container{{Name: "zk"}},
			Volumes: []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{
				PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data-" + name}}}},
		},
	}
	p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{v1alpha1.VoterResource: {}}
	for _, c := range change {
		c(p)
	}
	return p
}

// nodeOf is a node in a zone, bearing more labels as "key=value".
func nodeOf(name, zone string, more ...string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{hostKey: name}}}
	if zone != "" {
		n.Labels[zoneKey] = zone
	}
	for _, m := range more {
		k, v, _ := strings.Cut(m, "=")
		n.Labels[k] = v
	}
	return n
}

// zones are three nodes in each of the zones: a1, a2, a3, b1 and so on.
func zones(names ...string) []runtime.Object {
	var nodes []runtime.Object
	for _, z := range names {
		for i := 1; i <= 3; i++ {
			nodes = append(nodes, nodeOf(fmt.Sprint(z, i), z))
		}
	}
	return nodes
}

// pinned are the claim data-POD and its volume, which only nodes with key in values
// can reach.
func pinned(pod, key string, values ...string) []runtime.Object {
	claim := "data-" + pod
	return []runtime.Object{
		&corev1.PersistentVolumeClaim{
			ObjectMeta: metav1.ObjectMeta{Namespace: "data", Name: claim},
			Spec:       corev1.PersistentVolumeClaimSpec{VolumeName: "pv-" + pod},
		},
		&corev1.PersistentVolume{
			ObjectMeta: metav1.ObjectMeta{Name: "pv-" + pod},
			Spec: corev1.PersistentVolumeSpec{
				ClaimRef: &corev1.ObjectReference{Namespace: "data", Name: claim},
				NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
					MatchExpressions: []corev1.NodeSelectorRequirement{{Key: key, Operator: corev1.NodeSelectorOpIn, Values: values}},
				}}}},
			},
		},
	}
}

func objects(lists ...any) []runtime.Object {
	var all []runtime.Object
	for _, l := range lists {
		switch l := l.(type) {
		case []runtime.Object:
			all = append(all, l...)
		case runtime.Object:
			all = append(all, l)
		default:
			panic(fmt.Sprintf("%T", l))
		}
	}
	return all
}
