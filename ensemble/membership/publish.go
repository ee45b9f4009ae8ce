package membership

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/quorate/quorate/ensemble/v1alpha1"
)

// publish builds what changed since the last snapshot and returns the new one,
// with the ensembles that are other than before. Without a change it returns the
// last one.
func (m *model) publish() (*Snapshot, []types.NamespacedName) {
	stale := map[string][]claimant{}
	for namespace := range m.stale {
		stale[namespace] = nil
	}
	changed := make([]types.NamespacedName, 0, len(m.dirty)+len(m.dropped))
	built := make(map[types.NamespacedName]*Ensemble, len(m.dirty))
	for e := range m.dirty {
		built[e.key] = m.build(e)
		stale[e.key.Namespace] = nil
		changed = append(changed, e.key)
	}
	for key := range m.dropped {
		changed = append(changed, key)
	}
	if len(changed)+len(stale)+len(m.reseated) == 0 {
		return m.last, nil
	}
	next := &Snapshot{nodes: m.last.nodes, ensembles: m.last.ensembles, spaces: m.last.spaces}
	if len(m.reseated) > 0 {
		next.nodes = m.reseat()
	}
	next.ensembles = next.ensembles.with(built, m.dropped)
	next.spaces = next.spaces.with(m.claimants(stale))
	clear(m.dirty)
	clear(m.dropped)
	clear(m.reseated)
	clear(m.stale)
	m.last = next
	return next, changed
}

// reseat makes the table of nodes anew.
func (m *model) reseat() *nodeTable {
	is, gone := map[string]*nodeRecord{}, map[string]struct{}{}
	for name := range m.reseated {
		if n := m.nodes[name]; n != nil {
			is[name] = n
		} else {
			gone[name] = struct{}{}
		}
	}
	return &nodeTable{byName: m.last.nodes.byName.with(is, gone)}
}

func (m *model) claimants(stale map[string][]claimant) (is map[string][]claimant, gone map[string]struct{}) {
	gone = map[string]struct{}{}
	for namespace := range stale {
		var entries []*entry
		if s := m.spaces[namespace]; s != nil {
			entries = s.entries
		}
		if len(entries) == 0 {
			gone[namespace] = struct{}{}
			delete(stale, namespace)
			continue
		}
		list := make([]claimant, len(entries))
		for i, e := range entries {
			list[i] = claimant{e.selector, e.built}
		}
		stale[namespace] = list
	}
	return stale, gone
}

// FromObjects is the snapshot of exactly these objects: Ensembles, pods,
// StatefulSets, nodes, PersistentVolumeClaims and PersistentVolumes, in any order.
// It panics on any other kind. It is for tests, and for what-if questions.
func FromObjects(objects ...runtime.Object) *Snapshot {
	m := newModel(StatusConfig{})
	for _, o := range objects {
		m.see(o)
	}
	s, _ := m.publish()
	return s
}

// see follows one object as it is now.
func (m *model) see(object runtime.Object) {
	switch o := object.(type) {
	case *v1alpha1.Ensemble:
		m.setEnsemble(types.NamespacedName{Namespace: o.Namespace, Name: o.Name}, o)
	case *corev1.Pod:
		m.setPod(o.Namespace, o.Name, recordPod(o))
	case *appsv1.StatefulSet:
		m.setSet(o.Namespace, o.Name, recordSet(o))
	case *corev1.Node:
		m.setNode(o.Name, recordNode(o))
	case *corev1.PersistentVolumeClaim:
		m.setClaim(o.Namespace, o.Name, recordClaim(o))
	case *corev1.PersistentVolume:
		m.setVolume(o.Name, recordVolume(o))
	default:
		panic(fmt.Sprintf("membership: %T is nothing that an ensemble is made of", object))
	}
}
