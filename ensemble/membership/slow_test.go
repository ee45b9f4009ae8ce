package membership

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/quorate/quorate/ensemble/quorum"
	"github.com/quorate/quorate/ensemble/v1alpha1"
)

// slowModel reads the objects as they are, looks at all of them for every question
// and remembers nothing. Only the picture that it draws is shared with the package.
type slowModel struct {
	ensembles []*v1alpha1.Ensemble
	pods      map[string]*corev1.Pod
	sets      []*appsv1.StatefulSet
	nodes     map[string]*corev1.Node
	claims    map[string]*corev1.PersistentVolumeClaim
	volumes   map[string]*corev1.PersistentVolume
}

func slow(objects []runtime.Object) string {
	m := slowModel{pods: map[string]*corev1.Pod{}, nodes: map[string]*corev1.Node{}, claims: map[string]*corev1.PersistentVolumeClaim{}, volumes: map[string]*corev1.PersistentVolume{}}
	for _, o := range objects {
		switch o := o.(type) {
		case *v1alpha1.Ensemble:
			m.ensembles = append(m.ensembles, o)
		case *corev1.Pod:
			m.pods[o.Name] = o
		case *appsv1.StatefulSet:
			m.sets = append(m.sets, o)
		case *corev1.Node:
			m.nodes[o.Name] = o
		case *corev1.PersistentVolumeClaim:
			m.claims[o.Name] = o
		case *corev1.PersistentVolume:
			m.volumes[o.Name] = o
		}
	}
	slices.SortFunc(m.sets, func(a, b *appsv1.StatefulSet) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(m.ensembles, func(a, b *v1alpha1.Ensemble) int { return cmp.Compare(a.Name, b.Name) })
	out := ""
	for _, e := range m.ensembles {
		out += fmt.Sprintf("# %s\n%s", e.Name, picture(m.ensemble(e)))
	}
	return out
}

func selects(s *v1alpha1.Selector, l map[string]string) bool {
	if s == nil {
		return false
	}
	ls := &metav1.LabelSelector{MatchLabels: map[string]string{}}
	for k, v := range s.MatchLabels {
		ls.MatchLabels[k] = string(v)
	}
	for _, x := range s.MatchExpressions {
		r := metav1.LabelSelectorRequirement{Key: x.Key, Operator: x.Operator}
		for _, v := range x.Values {
			r.Values = append(r.Values, string(v))
		}
		ls.MatchExpressions = append(ls.MatchExpressions, r)
	}
	compiled, err := metav1.LabelSelectorAsSelector(ls)
	return err == nil && compiled.Matches(labels.Set(l))
}

// claimants are those that select the labels, the oldest first.
func (m *slowModel) claimants(l map[string]string) []*v1alpha1.Ensemble {
	var found []*v1alpha1.Ensemble
	for _, e := range m.ensembles {
		if selects(&e.Spec.Selector, l) {
			found = append(found, e)
		}
	}
	slices.SortFunc(found, func(a, b *v1alpha1.Ensemble) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	return found
}

func (m *slowModel) mine(e *v1alpha1.Ensemble, l map[string]string) bool {
	found := m.claimants(l)
	return len(found) > 0 && found[0] == e
}

func (m *slowModel) ensemble(e *v1alpha1.Ensemble) *Ensemble {
	out := &Ensemble{}
	var expected []string
	others := map[string]bool{}
	for name, p := range m.pods {
		if found := m.claimants(p.Labels); slices.Contains(found, e) {
			for _, other := range found {
				others[other.Name] = true
			}
		}
		if m.mine(e, p.Labels) && p.Status.Phase != corev1.PodFailed {
			out.Members = append(out.Members, Member{Name: name, UID: p.UID, Observer: selects(e.Spec.Observers, p.Labels), Occupies: m.occupies(e, name, p)})
		}
	}
	for _, s := range m.sets {
		start := 0
		if s.Spec.Ordinals != nil {
			start = int(s.Spec.Ordinals.Start)
		}
		for i := start; i < start+int(*s.Spec.Replicas); i++ {
			name := fmt.Sprintf("%s-%d", s.Name, i)
			l := maps.Clone(s.Spec.Template.Labels)
			l[podName], l[podIndex] = name, fmt.Sprint(i)
			p := m.pods[name]
			if p != nil {
				l = p.Labels
			}
			if !m.mine(e, l) || selects(e.Spec.Observers, l) {
				continue
			}
			expected = append(expected, name)
			occupies := m.occupies(e, name, nil)
			if (p == nil || p.Status.Phase == corev1.PodFailed) && slices.ContainsFunc(occupies, func(d []Domain) bool { return len(d) > 0 }) {
				out.Members = append(out.Members, Member{Name: name, Occupies: occupies})
			}
		}
	}
	slices.SortFunc(out.Members, func(a, b Member) int { return cmp.Compare(a.Name, b.Name) })
	m.judge(e, out, len(expected))
	for _, name := range slices.Sorted(maps.Keys(others)) {
		if name != e.Name {
			out.Overlaps = append(out.Overlaps, types.NamespacedName{Namespace: e.Namespace, Name: name})
		}
	}
	return out
}

func (m *slowModel) judge(e *v1alpha1.Ensemble, out *Ensemble, expected int) {
	declared := Judgement{Name: Declared, Voters: expected}
	if m.unowned(e) {
		declared.Voters = 0
	}
	if e.Spec.Voters != nil {
		declared.Voters = int(*e.Spec.Voters)
	}
	live := Judgement{Name: Live}
	if e.Status.Voters != nil {
		live.Voters = int(*e.Status.Voters)
	}
	known := 0
	for _, s := range e.Status.Members {
		if s.Votes {
			known++
		}
	}
	for i, member := range out.Members {
		if !member.Observer {
			declared.Counts |= quorum.SetOf(i)
		}
		for _, s := range e.Status.Members {
			if s.Name == member.Name && (s.Votes || known < live.Voters && !member.Observer && s.Role != "Observer") {
				live.Counts |= quorum.SetOf(i)
			}
		}
	}
	for _, j := range []Judgement{live, declared} {
		if j.Voters > 0 {
			out.Judgements = append(out.Judgements, j)
		}
	}
	if len(out.Judgements) == 0 {
		out.Problem = "the members' StatefulSets do not tell how many voters there are; set spec.voters"
	}
}

// unowned reports whether a StatefulSet that owns a voter is not there.
func (m *slowModel) unowned(e *v1alpha1.Ensemble) bool {
	for _, p := range m.pods {
		there := slices.ContainsFunc(m.sets, func(s *appsv1.StatefulSet) bool { return s.Name == p.OwnerReferences[0].Name })
		if !there && m.mine(e, p.Labels) && p.Status.Phase != corev1.PodFailed && !selects(e.Spec.Observers, p.Labels) {
			return true
		}
	}
	return false
}

// occupies are the domains of the pod p, or of the volume of a pod that is absent.
func (m *slowModel) occupies(e *v1alpha1.Ensemble, name string, p *corev1.Pod) [][]Domain {
	var all [][]Domain
	for _, l := range e.Spec.Topology {
		var found []Domain
		add := func(d string) {
			if d != "" && !slices.Contains(found, Domain(d)) {
				found = append(found, Domain(d))
			}
		}
		if p != nil && p.Spec.NodeName != "" {
			add(m.domain(l, p.Spec.NodeName, p.Labels))
		} else {
			claim := m.claims["data-"+name]
			if claim != nil && m.volumes[claim.Spec.VolumeName] == nil {
				add(m.domain(l, claim.Annotations[selectedNode], nil))
			}
			if p != nil {
				add(m.domain(l, p.Status.NominatedNodeName, nil))
			}
			for _, v := range m.volumes {
				byClaim := v.Spec.ClaimRef != nil && v.Spec.ClaimRef.Name == "data-"+name
				if byClaim || claim != nil && claim.Spec.VolumeName == v.Name {
					add(m.pinned(l, v))
				}
			}
		}
		slices.Sort(found)
		all = append(all, found)
	}
	return all
}

// domain of a node; what it does not tell, or is gone with it, the pod's labels may.
func (m *slowModel) domain(l v1alpha1.TopologyLevel, node string, podLabels map[string]string) string {
	if node == "" {
		return ""
	}
	get := func(key string) string {
		switch n := m.nodes[node]; {
		case n != nil && (n.Labels[key] != "" || key == hostKey):
			return n.Labels[key]
		case key == hostKey:
			return node
		default:
			return podLabels[key]
		}
	}
	if l.Within == "" {
		return get(l.TopologyKey)
	}
	if get(l.TopologyKey) == "" || get(l.Within) == "" {
		return ""
	}
	return get(l.Within) + "/" + get(l.TopologyKey)
}

// pinned is the one domain that the volume's affinity names, or that all nodes lie
// in that it allows.
func (m *slowModel) pinned(l v1alpha1.TopologyLevel, v *corev1.PersistentVolume) string {
	if v.Spec.NodeAffinity == nil {
		return ""
	}
	terms := v.Spec.NodeAffinity.Required.NodeSelectorTerms
	if x := terms[0].MatchExpressions[0]; len(terms) == 1 && l.Within == "" && x.Key == l.TopologyKey && x.Operator == corev1.NodeSelectorOpIn && len(x.Values) == 1 {
		return x.Values[0]
	}
	domains := map[string]bool{}
	for name, n := range m.nodes {
		x := terms[0].MatchExpressions[0]
		matches := slices.Contains(x.Values, n.Labels[x.Key]) == (x.Operator == corev1.NodeSelectorOpIn)
		if matches || len(terms) > 1 && name == "n2" {
			if d := m.domain(l, name, nil); d != "" {
				domains[d] = true
			}
		}
	}
	if len(domains) != 1 {
		return ""
	}
	return slices.Collect(maps.Keys(domains))[0]
}
