package admission

import (
	"slices"

	"k8s.io/apimachinery/pkg/types"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Verb is what a request does.
type Verb string

// The verbs. The zero value is judged by nobody and refused.
const (
	// Evict is CREATE pods/eviction.
	Evict Verb = "evict"
	// DeletePod is DELETE pods, collections included.
	DeletePod Verb = "delete-pod"
	// Shrink is UPDATE statefulsets or statefulsets/scale with fewer or other ordinals.
	Shrink Verb = "shrink"
	// DeleteStatefulSet is DELETE statefulsets that does not orphan the pods.
	DeleteStatefulSet Verb = "delete-statefulset"
)

// Request is one request, parsed.
type Request struct {
	UID       string
	Verb      Verb
	Namespace string
	// Name of the pod or the StatefulSet.
	Name string
	// PodUID that the request is bound to: it can hit no other pod. Empty: whichever
	// bears the name.
	PodUID types.UID
	// PodVersion of the pod that the request is bound to: once the pod changed, it
	// hits nothing. Empty: any.
	PodVersion string
	// Budget is the PodDisruptionBudget for whose sake the API server does not heed
	// PodVersion; empty: it does.
	Budget string
	// DryRun in either form: nothing will happen, so nothing is written.
	DryRun bool
	User   string
	// Range of ordinals that a Shrink leaves.
	Range Range
}

// Range is [Start, Start+Replicas) of one StatefulSet.
type Range struct {
	// Owner is its uid; empty: read it live, with its start.
	Owner           types.UID
	Start, Replicas int
}

// loses reports whether the request takes the pod away.
func (r *Request) loses(p *Pod) bool {
	switch r.Verb {
	case Evict, DeletePod:
		return p.Name == r.Name && (r.PodUID == "" || p.UID == r.PodUID)
	case Shrink:
		return p.Owner == r.Range.Owner && (p.Ordinal < r.Range.Start || p.Ordinal >= r.Range.Start+r.Range.Replicas)
	case DeleteStatefulSet:
		return p.Owner == r.Range.Owner
	default:
		return true
	}
}

// reason of the grants that the request takes.
func (r *Request) reason() string {
	switch {
	case r.Verb == Shrink:
		return ScaleDown
	case r.Verb == DeletePod:
		return Deletion
	case r.PodUID == "":
		return EvictionByName
	default:
		return Eviction
	}
}

// exact reports whether the request can take the targets only as they are: what a
// Shrink leads to is judged again, pod by pod.
func (r *Request) exact(pods []Pod, targets []int) bool {
	return r.Verb == Shrink || !slices.ContainsFunc(targets, func(i int) bool {
		return r.Budget != "" || r.PodVersion == "" || r.PodVersion != pods[i].Version
	})
}

// outdated reports whether an eviction is bound to another version of its pod: the API
// server is sure to refuse it. Who changes the pod after we read it makes it so all the
// same: such a yes leaves a grant that nobody uses. (A deletion is judged again by the
// API server, for the version that is there then.)
func (r *Request) outdated(version string) bool {
	return r.Verb == Evict && r.PodVersion != "" && r.PodVersion != version
}

// member is the pod as evidence knows it.
func member(p *corev1.Pod) Pod {
	m := Pod{
		Name: p.Name, UID: p.UID, Version: p.ResourceVersion, Node: p.Spec.NodeName, IP: address(p.Status.PodIP), Running: running(p),
		Terminating: p.DeletionTimestamp != nil, Ordinal: ordinal(p.Name),
	}
	for i := range p.Status.ContainerStatuses {
		m.Process += p.Status.ContainerStatuses[i].ContainerID + ";"
	}
	if owner := metav1.GetControllerOf(p); owner != nil {
		m.Owner = owner.UID
	}
	return m
}

// finished pods are no members any more: no process of them will run again.
func finished(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}

// running reports whether a process of the pod may run: that of any container but an
// init container, since nothing tells which is the server. Who reports no containers is
// believed by its phase.
func running(p *corev1.Pod) bool {
	if p.Status.Phase != corev1.PodRunning {
		return false
	}
	for i := range p.Status.ContainerStatuses {
		if p.Status.ContainerStatuses[i].State.Running != nil {
			return true
		}
	}
	return len(p.Status.ContainerStatuses) == 0
}
