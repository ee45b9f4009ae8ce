package membership

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/quorate/quorate/ensemble/quorum"
	"github.com/quorate/quorate/ensemble/v1alpha1"
)

// maxMembers is how many members can be told apart.
const maxMembers = quorum.MaxVoters

// Labels that tell the pods of one StatefulSet apart.
const (
	podName  = "statefulset.kubernetes.io/pod-name"
	podIndex = "apps.kubernetes.io/pod-index"
)

// ordinalLabels are the labels that the pod of a StatefulSet's ordinal bears.
type ordinalLabels struct {
	set     *setRecord
	ordinal int
}

func (l *ordinalLabels) pod() string { return l.set.name + "-" + strconv.Itoa(l.ordinal) }

// Lookup implements labels.Labels.
func (l *ordinalLabels) Lookup(label string) (value string, exists bool) {
	switch label {
	case podName:
		return l.pod(), true
	case podIndex:
		return strconv.Itoa(l.ordinal), true
	}
	value, exists = l.set.labels[label]
	return value, exists
}

// Has implements labels.Labels.
func (l *ordinalLabels) Has(label string) bool { _, ok := l.Lookup(label); return ok }

// Get implements labels.Labels.
func (l *ordinalLabels) Get(label string) string { v, _ := l.Lookup(label); return v }

// builder builds one ensemble from what was seen.
type builder struct {
	m     *model
	space *space
	entry *entry
	out   *Ensemble
	refs  map[ref]struct{}
	// expected are the voters' names that the StatefulSets will have, in order.
	expected []string
	// unowned says that a StatefulSet of voters is gone: how many it meant is not known.
	unowned bool
	crowded bool
}

// build makes the ensemble of the entry anew.
func (m *model) build(e *entry) *Ensemble {
	b := builder{m: m, space: m.spaces[e.key.Namespace], entry: e, refs: map[ref]struct{}{}}
	b.out = &Ensemble{Key: e.key, UID: e.object.UID, Object: e.object, needs: map[string]need{}}
	b.out.Levels, b.out.Resolved = levels(e.object)
	for name, p := range e.pods {
		shape := p.shape.Value()
		if shape.finished {
			continue
		}
		member := b.pod(name, p)
		b.out.Members = append(b.out.Members, member)
		b.unowned = b.unowned || shape.owner != "" && b.space.sets[shape.owner] == nil && !member.Observer
	}
	b.sets()
	slices.SortFunc(b.out.Members, func(x, y Member) int { return cmp.Compare(x.Name, y.Name) })
	b.judge()
	b.overlaps()
	m.refer(e, b.refs)
	e.built = b.out
	return b.out
}

// refer replaces what the entry looked at.
func (m *model) refer(e *entry, refs map[ref]struct{}) {
	for r := range e.refs {
		if _, still := refs[r]; still {
			continue
		}
		users := m.refs[r]
		if i := slices.Index(users, e); i >= 0 {
			m.refs[r] = slices.Delete(users, i, i+1)
		}
		if len(m.refs[r]) == 0 {
			delete(m.refs, r)
			if r.kind == refPin {
				m.pins.drop(r.name)
			}
		}
	}
	for r := range refs {
		if _, already := e.refs[r]; !already {
			m.refs[r] = append(m.refs[r], e)
		}
	}
	e.refs = refs
}

func (b *builder) saw(kind refKind, namespace, name string) {
	b.refs[ref{kind, namespace, name}] = struct{}{}
}

// pod is the member that a pod is.
func (b *builder) pod(name string, p *podRecord) Member {
	more, shape := p.rest(), p.shape.Value()
	member := Member{
		Name: name, UID: p.id(), Observer: b.entry.observers.Matches(p.labels), Node: p.node.Value(),
		Terminating: shape.terminating, Gated: shape.gated, Guarded: shape.guarded,
		Scheduler: shape.scheduler, Unscheduled: more.unscheduled,
	}
	constraints := more.constraints
	if set := b.space.sets[shape.owner]; set != nil {
		constraints = set.constraints
	}
	b.place(&member, more, constraints, p)
	return member
}

// place works out where the member counts.
func (b *builder) place(member *Member, more *podMore, constraints text, p *podRecord) {
	var going, affinities []string // where it is on its way to, and what holds it
	for _, c := range more.claims {
		selected, pinnedBy := b.claim(c)
		going, affinities = append(going, selected), append(affinities, pinnedBy...)
	}
	b.out.needs[member.Name] = needOf(constraints, affinities)
	if b.out.typical == (need{}) {
		b.out.typical = need{constraints: constraints}
	}
	going = slices.DeleteFunc(append(going, more.nominated), func(n string) bool { return n == "" })
	member.Nominated = !member.Bound() && len(going) > 0
	member.Occupies = make([][]Domain, len(b.out.Levels))
	member.Pinned = make([][]Domain, len(b.out.Levels))
	for i, l := range b.out.Levels {
		for _, text := range affinities {
			if d, ok := b.m.pins.of(text, l, b.m.nodes).domain(l); ok {
				member.Pinned[i] = with(member.Pinned[i], d)
			}
		}
		if member.Bound() {
			if d, ok := b.at(member.Node, l, p); ok {
				member.Occupies[i] = []Domain{d}
			}
			continue
		}
		member.Occupies[i] = slices.Clone(member.Pinned[i])
		for _, node := range going {
			if d, ok := b.at(node, l, nil); ok {
				member.Occupies[i] = with(member.Occupies[i], d)
			}
		}
	}
}

// claim is the claim's selected node, until its volume is seen, and the affinities
// of that volume.
func (b *builder) claim(name string) (selected string, affinities []string) {
	namespace := b.entry.key.Namespace
	b.saw(refClaim, namespace, name)
	var volumes []string
	if c := b.space.claims[name]; c != nil {
		if b.m.volumes[c.volume] == nil {
			selected = c.selected
		}
		volumes = append(volumes, c.volume)
	}
	volumes = append(volumes, b.m.byClaim[types.NamespacedName{Namespace: namespace, Name: name}])
	for _, v := range slices.Compact(volumes) {
		if v == "" {
			continue
		}
		b.saw(refVolume, "", v)
		if volume := b.m.volumes[v]; volume != nil && volume.affinity != "" {
			b.saw(refPin, "", volume.affinity)
			affinities = append(affinities, volume.affinity)
		}
	}
	return selected, affinities
}

// at is the domain of a node. What the node does not tell, as one that is gone or was
// registered again without its labels, the pod that runs there still may.
func (b *builder) at(node string, l Level, p *podRecord) (Domain, bool) {
	b.saw(refNode, "", node)
	told := map[string]string{corev1.LabelHostname: node}
	if n := b.m.nodes[node]; n != nil {
		told = n.labels
	}
	if d, ok := l.of(told); ok || p == nil {
		return d, ok
	}
	all := maps.Clone(told)
	for _, key := range []string{l.Key, l.Within} {
		if _, ok := all[key]; ok || key == "" || key == corev1.LabelHostname {
			continue
		}
		if v, ok := p.labels.Lookup(key); ok {
			all[key] = v
		}
	}
	return l.of(all)
}

func with(list []Domain, d Domain) []Domain {
	i, found := slices.BinarySearch(list, d)
	if found {
		return list
	}
	return slices.Insert(list, i, d)
}

// sets adds what the StatefulSets tell: how many voters are meant, and the volumes
// of those whose pod is absent.
func (b *builder) sets() {
	there := map[string]bool{}
	for i := range b.out.Members {
		there[b.out.Members[i].Name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(b.space.sets)) {
		set := b.space.sets[name]
		if !b.entry.relates(set) {
			continue
		}
		for i := range set.replicas {
			if len(b.expected) > maxMembers {
				b.crowded = true
				return
			}
			b.ordinal(&ordinalLabels{set, set.start + i}, there)
		}
	}
}

func (b *builder) ordinal(l *ordinalLabels, there map[string]bool) {
	name := l.pod()
	b.saw(refPod, b.entry.key.Namespace, name)
	owner, observes := b.space.owner(l), b.entry.observers.Matches(l)
	if p := b.space.pods[name]; p != nil {
		owner, observes = b.space.owner(p.labels), b.entry.observers.Matches(p.labels)
	}
	if owner != b.entry || observes {
		return
	}
	b.expected = append(b.expected, name)
	if there[name] {
		return
	}
	var volumes podMore
	for _, t := range l.set.templates {
		volumes.claims = append(volumes.claims, t+"-"+name)
	}
	member := Member{Name: name}
	b.place(&member, &volumes, l.set.constraints, nil)
	if slices.ContainsFunc(member.Occupies, func(d []Domain) bool { return len(d) > 0 }) {
		b.out.Members = append(b.out.Members, member)
	}
}

// overlaps names the ensembles that select some of the same pods.
func (b *builder) overlaps() {
	others := map[types.NamespacedName]bool{}
	for _, entries := range b.space.shared {
		if !slices.Contains(entries, b.entry) {
			continue
		}
		for _, e := range entries {
			others[e.key] = e != b.entry
		}
	}
	for _, key := range slices.SortedFunc(maps.Keys(others), func(x, y types.NamespacedName) int { return cmp.Compare(x.Name, y.Name) }) {
		if others[key] {
			b.out.Overlaps = append(b.out.Overlaps, key)
		}
	}
}

// judge makes the judgements, or says why there are none.
func (b *builder) judge() {
	if len(b.out.Members) > maxMembers || b.crowded {
		b.out.Members = b.out.Members[:min(len(b.out.Members), maxMembers)]
		b.out.Problem = fmt.Sprintf("more than %d members are selected; narrow spec.selector", maxMembers)
		return
	}
	if b.entry.problem != "" {
		b.out.Problem = b.entry.problem
		return
	}
	var electorates []electorate
	if live := b.m.live.Live(b.entry.object); live != nil {
		electorates = append(electorates, b.lives(live.Voters, live))
		if live.Next != nil {
			electorates = append(electorates, b.lives(live.Next, live))
		}
	}
	electorates = append(electorates, b.declared())
	for i := range electorates {
		if electorates[i].voters == 0 {
			continue
		}
		j, err := electorates[i].judgement()
		if err != nil {
			b.out.Judgements, b.out.Problem = nil, err.Error()
			return
		}
		b.out.Judgements = append(b.out.Judgements, j)
	}
	if len(b.out.Judgements) == 0 {
		b.out.Problem = "the members' StatefulSets do not tell how many voters there are; set spec.voters"
	}
}

// declared is the target: every member counts, but those that only observe.
func (b *builder) declared() electorate {
	spec := &b.entry.object.Spec
	e := electorate{name: Declared, oracle: spec.Quorum != nil && spec.Quorum.Oracle}
	switch {
	case spec.Voters != nil:
		e.voters = int(*spec.Voters)
	case !b.unowned:
		e.voters = len(b.expected)
	}
	stated := statedVotes(spec.Quorum)
	there := map[string]bool{}
	for i := range b.out.Members {
		m := &b.out.Members[i]
		there[m.Name] = true
		v := voiceOf(stated.voter(m.Name), i, true)
		if _, named := stated[m.Name]; m.Observer && named {
			e.mute = append(e.mute, v)
		} else if !m.Observer {
			e.voices = append(e.voices, v)
		}
	}
	absent := slices.Clone(b.expected)
	if spec.Quorum != nil {
		for _, m := range spec.Quorum.Members {
			absent = append(absent, m.Name)
		}
	}
	next := len(b.out.Members)
	for i, name := range absent {
		// Where votes differ, one who leaves does not stand in for one who is to come.
		meant := len(stated) > 0 && i < len(b.expected)
		if !there[name] && (meant || len(e.voices) < e.voters) {
			there[name] = true
			e.voices = append(e.voices, voiceOf(stated.voter(name), next, false))
			next++
		}
	}
	for ; len(e.voices) < e.voters; next++ {
		e.voices = append(e.voices, voiceOf(Voter{Pod: "a voter that is not there yet"}, next, false))
	}
	return e
}

// lives is the configuration that the members run by.
func (b *builder) lives(voters []Voter, c *Config) electorate {
	e := electorate{name: Live, voters: len(voters), oracle: c.Oracle}
	stated := statedVotes(b.entry.object.Spec.Quorum)
	var absent []Voter
	strangers := 0
	for _, v := range voters {
		switch i := b.out.Index(v.Pod); {
		case i >= 0:
			e.voices = append(e.voices, voiceOf(v, i, true))
		case v.Pod == "":
			strangers++
		default:
			absent = append(absent, v)
		}
	}
	for _, name := range c.Maybe {
		switch i := b.out.Index(name); {
		case strangers == 0:
		case i >= 0 && !b.out.Members[i].Observer:
			e.voices = append(e.voices, voiceOf(stated.voter(name), i, true))
		case i < 0 && len(stated) > 0: // its vote may not be worth what a stranger's is
			absent = append(absent, stated.voter(name))
		}
	}
	next := len(b.out.Members)
	for _, v := range absent {
		e.voices = append(e.voices, voiceOf(v, next, false))
		next++
	}
	for ; len(e.voices) < e.voters; next++ {
		e.voices = append(e.voices, voiceOf(Voter{}, next, false))
	}
	return e
}

func voiceOf(v Voter, number int, member bool) voice {
	weight := uint64(1)
	if v.Weight != nil {
		weight = uint64(max(0, *v.Weight))
	}
	return voice{number: number, member: member, name: v.Pod, weight: weight, group: v.Group}
}

func equalSelector(a, b *v1alpha1.Selector) bool {
	if a == nil || b == nil {
		return a == b
	}
	return maps.Equal(a.MatchLabels, b.MatchLabels) &&
		slices.EqualFunc(a.MatchExpressions, b.MatchExpressions, func(x, y v1alpha1.SelectorRequirement) bool {
			return x.Key == y.Key && x.Operator == y.Operator && slices.Equal(x.Values, y.Values)
		})
}
