package extender

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/quorate/quorate/ensemble/membership"
	"github.com/quorate/quorate/ensemble/quorum"
)

// hostLabel is the level that is one node per domain.
const hostLabel = corev1.LabelHostname

// unknownNode refuses a node that no snapshot shows.
const unknownNode = "this node is not known to quorate (yet)"

func unlabelled(l membership.Level) string {
	if l.Within != "" {
		return fmt.Sprintf("the node lacks the label %s or %s, which the ensemble's topology names", l.Key, l.Within)
	}
	return fmt.Sprintf("the node lacks the label %s, which the ensemble's topology names", l.Key)
}

// noun is what people call a domain of the level.
func noun(l membership.Level) string {
	switch l.Key {
	case corev1.LabelHostname:
		return "host"
	case corev1.LabelTopologyZone:
		return "zone"
	case corev1.LabelTopologyRegion:
		return "region"
	}
	return l.Key[strings.LastIndexByte(l.Key, '/')+1:]
}

// why a domain is not open, in words.
func (q *question) why(v verdict) string {
	if q.e.Levels[v.level].Key == hostLabel && v.state == waiting {
		v.domain = "" // its node is named beside it, and hundreds share a reason
	}
	if reason, known := q.whys[v]; known {
		return reason
	}
	reason := q.fatal(v)
	if v.state == waiting {
		reason = q.promised(v)
	}
	if q.whys == nil {
		q.whys = map[verdict]string{}
	}
	q.whys[v] = reason
	return reason
}

// fatal says why one more voter in the domain is one too many.
func (q *question) fatal(v verdict) string {
	n, kind := voters(v.of, v.seen), noun(q.e.Levels[v.level])
	there := fmt.Sprintf("%s %s already holds %d of %d %s%s", kind, v.domain, n, v.of.Voters, voice(v.of), q.absent(v.of, v.seen))
	return fmt.Sprintf("%s; a %s would lose quorum with the %s%s", there, ordinal(n+1), kind, q.tooFew(v.of, v.level))
}

// absent says who of those counted does not run there.
func (q *question) absent(j *membership.Judgement, s quorum.Set) string {
	leaving, away := 0, 0
	for i := range (s & j.Counts).Servers() {
		switch m := &q.e.Members[i]; {
		case m.Terminating:
			leaving++
		case !m.Bound():
			away++
		}
	}
	var parts []string
	if leaving > 0 {
		parts = append(parts, fmt.Sprintf("%d terminating", leaving))
	}
	if away > 0 {
		parts = append(parts, fmt.Sprintf("%d by volume or nomination", away))
	}
	if len(parts) == 0 {
		return ""
	}
	return " (" + strings.Join(parts, ", ") + ")"
}

// tooFew adds the arithmetic where no placement at all can be safe.
func (q *question) tooFew(j *membership.Judgement, l int) string {
	if o := q.e.Object; !q.hopeless || o != nil && o.Spec.Quorum != nil {
		return ""
	}
	share := (j.Voters - 1) / 2
	need, have := (j.Voters+share-1)/share, q.nodes.Reachable(q.e, j, q.e.Levels[l])
	if have >= need {
		return ""
	}
	kind, all := noun(q.e.Levels[l]), 0
	for range q.nodes.Domains(q.e.Levels[l]) {
		all++
	}
	if have < all {
		return fmt.Sprintf(" (%d voters need at least %d %ss, and their pods may use %d of %d)", j.Voters, need, kind, have, all)
	}
	return fmt.Sprintf(" (%d voters need at least %d %ss, there are %d)", j.Voters, need, kind, have)
}

// promised says who is expected in a domain.
func (q *question) promised(v verdict) string {
	where := noun(q.e.Levels[v.level]) + " " + string(v.domain)
	if v.domain == "" {
		where = "the " + noun(q.e.Levels[v.level])
	}
	return fmt.Sprintf("%s holds %d of %d %s, and may be about to get %s",
		where, voters(v.of, v.seen), v.of.Voters, voice(v.of), q.names((v.may & v.of.Counts).Minus(v.seen)))
}

func (q *question) names(s quorum.Set) string {
	var names []string
	for i := range s.Servers() {
		if i >= len(q.e.Members) {
			continue
		}
		name := q.e.Members[i].Name
		if q.e.Members[i].Bound() {
			name += " (or hold it already: its node is gone, its pod is not)"
		}
		names = append(names, name)
	}
	return strings.Join(names, ", ")
}

func (q *question) heldMessage() string {
	in := map[string]struct{}{}
	for _, s := range q.spots {
		if s.verdict.state == waiting {
			in[q.why(s.verdict)] = struct{}{}
		}
	}
	reasons := slices.Sorted(maps.Keys(in))
	if more := len(reasons) - 4; more > 0 {
		reasons = append(reasons[:4], fmt.Sprintf("and %d more like these", more))
	}
	return "every safe place is promised to a pod that is still being bound, so this one waits: " + strings.Join(reasons, "; ")
}

func (q *question) unseenMessage() string {
	nodes := q.refused[unknownNode].Nodes
	who := "node " + nodes[0]
	if len(nodes) > 1 {
		who = fmt.Sprintf("%s and %d more", who, len(nodes)-1)
	}
	return "quorate has not seen " + who + " yet, and no other node that the scheduler offered is safe; this passes"
}

func (q *question) yieldMessage() string {
	return "it may still land where an earlier attempt sent it, and a sibling waits for a place; it gets another one once that can't happen any more"
}

func (q *question) outsideMessage(given int) string {
	var where []string
	for i, l := range q.o.top {
		for _, d := range q.openOutside(i, l) {
			where = append(where, fmt.Sprintf("%s %s", noun(q.e.Levels[l]), d))
		}
	}
	many := "1 domain outside them is"
	if n := len(where); n != 1 {
		many = fmt.Sprintf("%d domains outside them are", n)
	}
	if len(where) > 4 {
		where = append(where[:4], "...")
	}
	return fmt.Sprintf("none of the %d nodes that the scheduler offered is safe; %s (%s), and the next attempt samples other nodes",
		given, many, strings.Join(where, ", "))
}

// elsewhere says where the pod was sent instead.
func (q *question) elsewhere(chosen []*spot) string {
	if len(chosen) == 0 {
		return "not chosen"
	}
	if len(chosen) > 1 {
		return fmt.Sprintf("safe too, but left to siblings; %d hosts are held for this pod", len(chosen))
	}
	var to []string
	for i, l := range q.o.top {
		to = append(to, fmt.Sprintf("%s %s", noun(q.e.Levels[l]), chosen[0].domains[i]))
	}
	return "safe too, but this pod is being placed in " + strings.Join(to, " and ")
}

func voice(j *membership.Judgement) string {
	if j.Name == "live" {
		return "live voters"
	}
	return "voters"
}

func ordinal(n int) string {
	words := [...]string{"", "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth"}
	switch {
	case n < len(words):
		return words[n]
	case n%10 == 1 && n%100 != 11:
		return fmt.Sprintf("%dst", n)
	case n%10 == 2 && n%100 != 12:
		return fmt.Sprintf("%dnd", n)
	case n%10 == 3 && n%100 != 13:
		return fmt.Sprintf("%drd", n)
	}
	return fmt.Sprintf("%dth", n)
}
