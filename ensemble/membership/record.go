package membership

import (
	"encoding/json"
	"slices"
	"strings"
	"unique"

	"github.com/google/uuid"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/quorate/quorate/ensemble/v1alpha1"
)

// selectedNode is how the scheduler tells a volume provisioner where the pod goes.
const selectedNode = "volume.kubernetes.io/selected-node"

// text is a string of which the process holds one copy.
type text = unique.Handle[string]

// podRecord is what is kept of a pod: of every pod, since any may be a member of an
// ensemble that comes later. Strings that pods share are held once.
type podRecord struct {
	uid    uid
	labels labelText
	node   text
	shape  unique.Handle[podShape]
	// more is nil for most pods.
	more *podMore
}

// podShape is what many pods have in common.
type podShape struct {
	// scheduler that the pod names.
	scheduler string
	// owner is the StatefulSet that controls it, or empty.
	owner string

	terminating, gated, guarded, finished bool
}

// uid is a UID in a third of its space.
type uid [16]byte

// packUID returns false for a UID that is none as the API server makes them.
func packUID(u types.UID) (uid, bool) {
	parsed, err := uuid.Parse(string(u))
	return uid(parsed), err == nil && parsed.String() == string(u)
}

// podMore is what most pods lack.
type podMore struct {
	// uid where it does not fit the record.
	uid                    types.UID
	nominated, unscheduled string
	claims                 []string
	// constraints are kept where no StatefulSet's template tells them.
	constraints text
}

var noMore = &podMore{constraints: unique.Make("")}

func (p *podRecord) rest() *podMore {
	if p.more == nil {
		return noMore
	}
	return p.more
}

func recordPod(p *corev1.Pod) *podRecord {
	owner := statefulSetOf(p)
	r := &podRecord{labels: packLabels(p.Labels), node: unique.Make(p.Spec.NodeName), shape: unique.Make(podShape{
		scheduler: p.Spec.SchedulerName, owner: owner,
		terminating: p.DeletionTimestamp != nil,
		gated:       len(p.Spec.SchedulingGates) > 0,
		guarded:     requestsVoter(&p.Spec),
		finished:    p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed,
	})}
	more := podMore{claims: claimsOf(p), constraints: noMore.constraints}
	var packed bool
	if r.uid, packed = packUID(p.UID); !packed {
		r.uid, more.uid = uid{}, p.UID
	}
	if owner == "" {
		more.constraints = constraintsOf(&p.Spec)
	}
	if p.Spec.NodeName == "" {
		more.nominated = p.Status.NominatedNodeName
		for _, c := range p.Status.Conditions {
			if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
				more.unscheduled = c.Reason + ": " + c.Message
			}
		}
	}
	if more.uid != "" || more.nominated != "" || more.unscheduled != "" || len(more.claims) > 0 || more.constraints != noMore.constraints {
		r.more = &more
	}
	return r
}

// id is the pod's UID.
func (p *podRecord) id() types.UID {
	if u := p.rest().uid; u != "" || p.uid == (uid{}) {
		return u
	}
	return types.UID(uuid.UUID(p.uid).String())
}

// same reports whether nothing that matters differs.
func (p *podRecord) same(q *podRecord) bool {
	a, b := p.rest(), q.rest()
	x, y := *p, *q
	x.more, y.more = nil, nil
	return x == y && a.uid == b.uid && a.nominated == b.nominated && a.unscheduled == b.unscheduled &&
		a.constraints == b.constraints && slices.Equal(a.claims, b.claims)
}

func statefulSetOf(p *corev1.Pod) string {
	for _, o := range p.OwnerReferences {
		if o.Kind == "StatefulSet" && o.Controller != nil && *o.Controller {
			return o.Name
		}
	}
	return ""
}

func requestsVoter(s *corev1.PodSpec) bool {
	asks := func(c *corev1.Container) bool {
		_, requests := c.Resources.Requests[v1alpha1.VoterResource]
		_, limits := c.Resources.Limits[v1alpha1.VoterResource]
		return requests || limits
	}
	for i := range s.Containers {
		if asks(&s.Containers[i]) {
			return true
		}
	}
	for i := range s.InitContainers {
		if asks(&s.InitContainers[i]) {
			return true
		}
	}
	return false
}

func claimsOf(p *corev1.Pod) []string {
	var claims []string
	for _, v := range p.Spec.Volumes {
		switch {
		case v.PersistentVolumeClaim != nil:
			claims = append(claims, v.PersistentVolumeClaim.ClaimName)
		case v.Ephemeral != nil:
			claims = append(claims, p.Name+"-"+v.Name)
		}
	}
	return claims
}

// constraints are what a pod demands of its node, volumes apart.
type constraints struct {
	NodeSelector map[string]string    `json:"n,omitempty"`
	Affinity     *corev1.NodeSelector `json:"a,omitempty"`
	Tolerations  []corev1.Toleration  `json:"t,omitempty"`
}

func constraintsOf(s *corev1.PodSpec) text {
	c := constraints{NodeSelector: s.NodeSelector}
	if s.Affinity != nil && s.Affinity.NodeAffinity != nil {
		c.Affinity = s.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution
	}
	for _, t := range s.Tolerations {
		if t.Effect != corev1.TaintEffectNoExecute || t.TolerationSeconds == nil {
			c.Tolerations = append(c.Tolerations, t)
		}
	}
	if len(c.NodeSelector) == 0 && c.Affinity == nil && len(c.Tolerations) == 0 {
		return noMore.constraints
	}
	b, err := json.Marshal(c)
	if err != nil {
		return noMore.constraints
	}
	return unique.Make(string(b))
}

// setRecord is what is kept of a StatefulSet.
type setRecord struct {
	name            string
	start, replicas int
	labels          map[string]string
	templates       []string
	constraints     text
}

func recordSet(s *appsv1.StatefulSet) *setRecord {
	r := &setRecord{name: s.Name, replicas: 1, labels: s.Spec.Template.Labels, constraints: constraintsOf(&s.Spec.Template.Spec)}
	if s.Spec.Replicas != nil {
		r.replicas = int(*s.Spec.Replicas)
	}
	if s.Spec.Ordinals != nil {
		r.start = int(s.Spec.Ordinals.Start)
	}
	for i := range s.Spec.VolumeClaimTemplates {
		r.templates = append(r.templates, s.Spec.VolumeClaimTemplates[i].Name)
	}
	return r
}

// nodeRecord is what is kept of a node.
type nodeRecord struct {
	name   string
	labels map[string]string
	taints []corev1.Taint
}

func recordNode(n *corev1.Node) *nodeRecord {
	r := &nodeRecord{name: n.Name, labels: make(map[string]string, len(n.Labels))}
	for k, v := range n.Labels {
		r.labels[unique.Make(k).Value()] = unique.Make(v).Value()
	}
	for _, t := range n.Spec.Taints {
		if t.Effect != corev1.TaintEffectPreferNoSchedule && !passing(t.Key) {
			r.taints = append(r.taints, corev1.Taint{Key: t.Key, Value: t.Value, Effect: t.Effect})
		}
	}
	return r
}

// passing taints come and go with a node's health, or with a drain: they say
// nothing about where members may live in the long run.
func passing(key string) bool {
	return strings.HasPrefix(key, "node.kubernetes.io/") || strings.HasPrefix(key, "node.cloudprovider.kubernetes.io/")
}

// claimRecord is what is kept of a PersistentVolumeClaim.
type claimRecord struct {
	name, volume, selected string
}

func recordClaim(c *corev1.PersistentVolumeClaim) *claimRecord {
	return &claimRecord{name: c.Name, volume: c.Spec.VolumeName, selected: c.Annotations[selectedNode]}
}

// volumeRecord is what is kept of a PersistentVolume.
type volumeRecord struct {
	name     string
	claim    types.NamespacedName
	affinity string // canonical JSON of the node selector, or empty
}

func recordVolume(v *corev1.PersistentVolume) *volumeRecord {
	r := &volumeRecord{name: v.Name}
	if v.Spec.ClaimRef != nil {
		r.claim = types.NamespacedName{Namespace: v.Spec.ClaimRef.Namespace, Name: v.Spec.ClaimRef.Name}
	}
	if v.Spec.NodeAffinity != nil && v.Spec.NodeAffinity.Required != nil {
		if b, err := json.Marshal(v.Spec.NodeAffinity.Required); err == nil {
			r.affinity = unique.Make(string(b)).Value()
		}
	}
	return r
}
