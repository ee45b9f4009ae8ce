package membership

import (
	"cmp"
	"reflect"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/quorate/quorate/ensemble/v1alpha1"
)

// model is everything that was seen, in the form that one change can be followed
// through to the ensembles that it matters to. One goroutine at a time.
type model struct {
	live     LiveConfig
	spaces   map[string]*space
	nodes    map[string]*nodeRecord
	volumes  map[string]*volumeRecord
	byClaim  map[types.NamespacedName]string // claim -> volume that names it
	pins     *pins
	refs     map[ref][]*entry
	dirty    map[*entry]struct{}
	dropped  map[types.NamespacedName]struct{}
	reseated map[string]struct{} // nodes that changed since the last snapshot
	stale    map[string]struct{} // namespaces whose entries came, went or changed places
	last     *Snapshot
}

// space is one namespace.
type space struct {
	pods    map[string]*podRecord
	sets    map[string]*setRecord
	claims  map[string]*claimRecord
	entries []*entry
	// shared are the pods that several ensembles select.
	shared map[string][]*entry
}

// entry is one Ensemble object and what belongs to it.
type entry struct {
	key                 types.NamespacedName
	object              *v1alpha1.Ensemble
	selector, observers labels.Selector
	// picky entries select pods of a StatefulSet by their ordinal.
	picky   bool
	problem string
	pods    map[string]*podRecord
	refs    map[ref]struct{}
	built   *Ensemble
}

// ref is something that the build of an ensemble looked at, there or not.
type ref struct {
	kind            refKind
	namespace, name string
}

type refKind uint8

const (
	refNode refKind = iota
	refClaim
	refVolume
	refPin
	refPod
)

func newModel(live LiveConfig) *model {
	return &model{
		live: live, spaces: map[string]*space{}, nodes: map[string]*nodeRecord{},
		volumes: map[string]*volumeRecord{}, byClaim: map[types.NamespacedName]string{},
		pins: newPins(), refs: map[ref][]*entry{}, dirty: map[*entry]struct{}{},
		dropped: map[types.NamespacedName]struct{}{}, reseated: map[string]struct{}{}, stale: map[string]struct{}{},
		last: &Snapshot{
			nodes:     &nodeTable{byName: newPmap[string, *nodeRecord]()},
			ensembles: newPmap[types.NamespacedName, *Ensemble](),
			spaces:    newPmap[string, []claimant](),
		},
	}
}

func (m *model) space(namespace string) *space {
	s := m.spaces[namespace]
	if s == nil {
		s = &space{
			pods: map[string]*podRecord{}, sets: map[string]*setRecord{}, claims: map[string]*claimRecord{},
			shared: map[string][]*entry{},
		}
		m.spaces[namespace] = s
	}
	return s
}

// mark makes all who looked at r be built anew.
func (m *model) mark(r ref) {
	for _, e := range m.refs[r] {
		m.dirty[e] = struct{}{}
	}
}

// owners are the entries that select the labels, the owner first.
func (s *space) owners(l labels.Labels) []*entry {
	var found []*entry
	for _, e := range s.entries {
		if e.selector.Matches(l) {
			found = append(found, e)
		}
	}
	return found
}

// owner is the entry that owns whatever bears the labels, or nil.
func (s *space) owner(l labels.Labels) *entry {
	for _, e := range s.entries {
		if e.selector.Matches(l) {
			return e
		}
	}
	return nil
}

// setPod follows one pod; is is nil when it was deleted.
func (m *model) setPod(namespace, name string, is *podRecord) {
	s := m.space(namespace)
	was := s.pods[name]
	if was != nil && is != nil && was.same(is) {
		return
	}
	if is == nil {
		delete(s.pods, name)
	} else {
		s.pods[name] = is
	}
	m.assign(s, name, was, is)
	m.mark(ref{refPod, namespace, name})
	m.tidy(namespace)
}

// tidy forgets a namespace that nothing is left of.
func (m *model) tidy(namespace string) {
	s := m.spaces[namespace]
	if s != nil && len(s.pods)+len(s.sets)+len(s.claims)+len(s.entries) == 0 {
		delete(m.spaces, namespace)
	}
}

// assign gives the pod to the entry that owns it now.
func (m *model) assign(s *space, name string, was, is *podRecord) {
	if was != nil {
		for _, e := range s.owners(was.labels) {
			delete(e.pods, name)
			m.dirty[e] = struct{}{}
		}
	}
	delete(s.shared, name)
	if is == nil {
		return
	}
	owners := s.owners(is.labels)
	for i, e := range owners {
		if i == 0 {
			e.pods[name] = is
		}
		m.dirty[e] = struct{}{}
	}
	if len(owners) > 1 {
		s.shared[name] = owners
	}
}

// setSet follows one StatefulSet.
func (m *model) setSet(namespace, name string, is *setRecord) {
	s := m.space(namespace)
	was := s.sets[name]
	if was != nil && is != nil && reflect.DeepEqual(was, is) {
		return // its status changed
	}
	if is == nil {
		delete(s.sets, name)
	} else {
		s.sets[name] = is
	}
	for _, e := range s.entries {
		if was != nil && e.relates(was) || is != nil && e.relates(is) {
			m.dirty[e] = struct{}{}
		}
	}
	m.tidy(namespace)
}

// relates reports whether the set's pods may be members: its template says so, or
// it owns one.
func (e *entry) relates(s *setRecord) bool {
	ordinals := 1
	if e.picky {
		ordinals = min(s.replicas, maxMembers)
	}
	for i := range ordinals {
		if e.selector.Matches(&ordinalLabels{set: s, ordinal: s.start + i}) {
			return true
		}
	}
	for _, p := range e.pods {
		if p.shape.Value().owner == s.name {
			return true
		}
	}
	return false
}

func (m *model) setClaim(namespace, name string, is *claimRecord) {
	s := m.space(namespace)
	was := s.claims[name]
	if was != nil && is != nil && *was == *is {
		return
	}
	if is == nil {
		delete(s.claims, name)
	} else {
		s.claims[name] = is
	}
	m.mark(ref{refClaim, namespace, name})
	m.tidy(namespace)
}

func (m *model) setVolume(name string, is *volumeRecord) {
	was := m.volumes[name]
	if was != nil && is != nil && *was == *is {
		return
	}
	if was != nil && m.byClaim[was.claim] == name {
		delete(m.byClaim, was.claim)
		m.mark(ref{refClaim, was.claim.Namespace, was.claim.Name})
	}
	if is == nil {
		delete(m.volumes, name)
	} else {
		m.volumes[name] = is
		if is.claim.Name != "" {
			m.byClaim[is.claim] = name
			m.mark(ref{refClaim, is.claim.Namespace, is.claim.Name})
		}
	}
	m.mark(ref{refVolume, "", name})
}

func (m *model) setNode(name string, is *nodeRecord) {
	was := m.nodes[name]
	switch {
	case was == nil && is == nil:
		return
	case was != nil && is != nil && was.same(is):
		return
	case is == nil:
		delete(m.nodes, name)
	default:
		m.nodes[name] = is
	}
	m.reseated[name] = struct{}{}
	m.mark(ref{refNode, "", name})
	for _, p := range m.pins.change(was, is) {
		m.mark(ref{refPin, "", p.text})
	}
}

func (n *nodeRecord) same(o *nodeRecord) bool {
	if len(n.labels) != len(o.labels) {
		return false
	}
	for k, v := range n.labels {
		if w, ok := o.labels[k]; !ok || w != v {
			return false
		}
	}
	return slices.EqualFunc(n.taints, o.taints, func(a, b corev1.Taint) bool {
		return a.Key == b.Key && a.Value == b.Value && a.Effect == b.Effect
	})
}

// setEnsemble follows one Ensemble object.
func (m *model) setEnsemble(key types.NamespacedName, is *v1alpha1.Ensemble) {
	s := m.space(key.Namespace)
	at := slices.IndexFunc(s.entries, func(e *entry) bool { return e.key == key })
	if at >= 0 && is != nil && sameSelection(s.entries[at].object, is) {
		s.entries[at].object = is
		m.dirty[s.entries[at]] = struct{}{}
		return
	}
	affected := map[string]*podRecord{}
	if at >= 0 {
		e := s.entries[at]
		m.collect(s, e, affected)
		s.entries = slices.Delete(s.entries, at, at+1)
		m.refer(e, nil)
		delete(m.dirty, e)
		m.dropped[key] = struct{}{}
	}
	if is != nil {
		e := newEntry(key, is)
		i, _ := slices.BinarySearchFunc(s.entries, e, older)
		s.entries = slices.Insert(s.entries, i, e)
		m.dirty[e] = struct{}{}
		delete(m.dropped, key)
		m.collect(s, e, affected)
	}
	m.stale[key.Namespace] = struct{}{}
	for name, p := range affected {
		m.assign(s, name, p, p)
	}
	m.tidy(key.Namespace)
}

func newEntry(key types.NamespacedName, o *v1alpha1.Ensemble) *entry {
	e := &entry{key: key, object: o, pods: map[string]*podRecord{}, refs: map[ref]struct{}{}}
	var err error
	if e.selector, err = o.Spec.Selector.Compile(); err != nil {
		e.selector, e.problem = labels.Nothing(), "spec.selector: "+err.Error()
	}
	if e.observers, err = o.Spec.Observers.Compile(); err != nil {
		e.observers, e.problem = labels.Nothing(), "spec.observers: "+err.Error()
	}
	requirements, _ := e.selector.Requirements()
	for i := range requirements {
		key := requirements[i].Key()
		e.picky = e.picky || key == podName || key == podIndex
	}
	return e
}

// older orders entries: the first owns what several select.
func older(a, b *entry) int {
	return cmp.Or(
		a.object.CreationTimestamp.Compare(b.object.CreationTimestamp.Time),
		cmp.Compare(a.key.Name, b.key.Name))
}

// sameSelection reports whether both objects select the same pods in the same order.
func sameSelection(a, b *v1alpha1.Ensemble) bool {
	return a.UID == b.UID && a.CreationTimestamp.Equal(&b.CreationTimestamp) &&
		equalSelector(&a.Spec.Selector, &b.Spec.Selector) && equalSelector(a.Spec.Observers, b.Spec.Observers)
}

// collect adds the pods that the entry selects, and makes everyone who shares a
// StatefulSet with it be looked at again.
func (m *model) collect(s *space, e *entry, into map[string]*podRecord) {
	for name, p := range s.pods {
		if e.selector.Matches(p.labels) {
			into[name] = p
		}
	}
	for _, set := range s.sets {
		if !e.relates(set) {
			continue
		}
		for _, other := range s.entries {
			if other.relates(set) {
				m.dirty[other] = struct{}{}
			}
		}
	}
}
