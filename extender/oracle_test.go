package extender

import (
	"fmt"
	"iter"
	"maps"
	"math/bits"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/quorate/quorate/ensemble/v1alpha1"
)

// electorate is who votes in a configuration: so many of the names, and it is not
// known which where there are more. It is the slow and obviously right model of a
// quorum, and shares nothing with the product's.
type electorate struct {
	voters int
	names  []string
	votes  map[string]v1alpha1.QuorumMember // weights and groups; nil: one vote each
	mute   []string                         // observers with a weight, which ZooKeeper counts
}

// declared is the target of so many replicas. Whoever is there besides may be one of
// its voters: the one that leaves need not be the last.
func (w *world) declared(replicas int) electorate {
	e := electorate{votes: w.stated()}
	for i := range replicas {
		if name := fmt.Sprintf("zk-%d", i); !w.observer[name] {
			e.names = append(e.names, name)
		}
	}
	e.voters = len(e.names)
	for name := range w.pods {
		if !w.observer[name] && !slices.Contains(e.names, name) {
			e.names = append(e.names, name)
		}
		if _, stated := e.votes[name]; stated && w.observer[name] {
			e.mute = append(e.mute, name)
		}
	}
	return e
}

// elected is the live configuration as it is, guessed as the status leaves it open.
func (w *world) elected() (is, guessed electorate) {
	if w.live == nil {
		return electorate{}, electorate{}
	}
	is = electorate{voters: len(w.live.voters), names: w.live.voters, votes: w.stated()}
	guessed = is
	guessed.names = w.live.may
	return is, guessed
}

func (w *world) stated() map[string]v1alpha1.QuorumMember {
	if w.quorum == nil {
		return nil
	}
	votes := map[string]v1alpha1.QuorumMember{}
	for _, m := range w.quorum.Members {
		votes[m.Name] = m
	}
	return votes
}

// loses reports whether the voters, or some who may be them, have no quorum without
// the lost. Two voters or fewer are not protected, nor are those who have none anyway:
// all their weight is zero, or an observer's.
func (e electorate) loses(lost []string) bool {
	votes := func(name string) bool { return slices.Contains(e.names, name) }
	return e.voters > 2 && slices.ContainsFunc(lost, votes) && e.breaks(lost) && !e.breaks(nil)
}

// spares reports whether the loss of that voter alone is survived: where it is not, no
// place is better for it than another.
func (e electorate) spares(name string) bool { return !e.breaks([]string{name}) }

func (e electorate) breaks(lost []string) bool {
	for voters := range e.choices() {
		if !e.quorum(voters, func(name string) bool { return !slices.Contains(lost, name) }) {
			return true
		}
	}
	return false
}

// choices are all sets of so many of the names.
func (e electorate) choices() iter.Seq[[]string] {
	return func(yield func([]string) bool) {
		for mask := range uint(1) << len(e.names) {
			if bits.OnesCount(mask) != e.voters {
				continue
			}
			var chosen []string
			for i, name := range e.names {
				if mask>>i&1 == 1 {
					chosen = append(chosen, name)
				}
			}
			if !yield(chosen) {
				return
			}
		}
	}
}

// quorum is more than half of the voters; with weights, more than half of the weight
// in more than half of the groups that have any.
func (e electorate) quorum(voters []string, up func(string) bool) bool {
	total, acked := map[string]int64{}, map[string]int64{}
	for _, name := range slices.Concat(voters, e.mute) {
		m := e.votes[name]
		weight := int64(1)
		if m.Weight != nil {
			weight = *m.Weight
		}
		total[m.Group] += weight
		if up(name) && slices.Contains(voters, name) {
			acked[m.Group] += weight
		}
	}
	groups, won := 0, 0
	for group, weight := range total {
		if weight > 0 {
			groups++
		}
		if 2*acked[group] > weight {
			won++
		}
	}
	return 2*won > groups
}

// fatal are the domains of hard levels that the electorate can't lose. The excused
// are not counted.
func (w *world) fatal(e electorate, excused func(*worldPod) bool) map[string]bool {
	found := map[string]bool{}
	for d, names := range w.in(excused) {
		if e.loses(names) {
			found[d] = true
		}
	}
	return found
}

// in is who is in which domain: where it runs, or else where its claim binds it to,
// even while it has no pod.
func (w *world) in(excused func(*worldPod) bool) map[string][]string {
	in := map[string][]string{}
	everyone := maps.Clone(w.pods)
	for _, name := range names(0, w.voters) {
		if everyone[name] == nil {
			everyone[name] = &worldPod{}
		}
	}
	for name, p := range everyone {
		if excused(p) {
			continue
		}
		for _, d := range w.where(name, p) {
			in[d] = append(in[d], name)
		}
	}
	return in
}

func (w *world) where(name string, p *worldPod) []string {
	switch {
	case p.node != "":
		return w.domains(p.node)
	case w.nodes[w.selected[name]] != nil:
		return w.domains(w.selected[name])
	}
	return w.bound(name)
}

// bound is the domain that the member's volume names. That of other levels is known
// only while its nodes are there to show it, so that nobody can count on it.
func (w *world) bound(name string) []string {
	var ds []string
	for _, l := range w.levels {
		if v, ok := w.volumes[name][l.TopologyKey]; ok && l.Within == "" && l.WhenUnsatisfiable != v1alpha1.ScheduleAnyway {
			ds = append(ds, fmt.Sprint(l.TopologyKey, " /", v))
		}
	}
	return ds
}

// pinned is, of each level, the domain that the member's volume leaves it, if it is one.
func (w *world) pinned(name string) []string {
	if w.volumes[name] == nil {
		return nil
	}
	ds := w.bound(name)
	for _, l := range w.levels {
		found := map[string]bool{}
		for n := range w.nodes {
			if w.allows(name, n) {
				for _, d := range w.domains(n) {
					found[d] = strings.HasPrefix(d, l.TopologyKey+" ")
				}
			}
		}
		maps.DeleteFunc(found, func(_ string, at bool) bool { return !at })
		if len(found) == 1 {
			ds = slices.AppendSeq(ds, maps.Keys(found))
		}
	}
	return ds
}

// allows reports whether the member's claim leaves it the node.
func (w *world) allows(name, node string) bool {
	if n := w.selected[name]; n != "" {
		return n == node
	}
	for k, v := range w.volumes[name] {
		if w.nodes[node][k] != v {
			return false
		}
	}
	return true
}

func nobodyExcused(*worldPod) bool { return false }

// domains of a node at the hard levels: where it was before it was deleted, and of one
// that is back without labels the zone, which its pods tell.
func (w *world) domains(node string) []string {
	var ds []string
	labels := maps.Clone(w.nodes[node])
	if zone, was := w.former[node][corev1.LabelTopologyZone]; was && labels != nil {
		labels[corev1.LabelTopologyZone] = zone
	}
	if labels == nil {
		labels = w.former[node]
	}
	for _, l := range w.levels {
		if _, ok := labels[l.TopologyKey]; ok && l.WhenUnsatisfiable != v1alpha1.ScheduleAnyway {
			ds = append(ds, fmt.Sprint(l.TopologyKey, " ", labels[l.Within], "/", labels[l.TopologyKey]))
		}
	}
	return ds
}
