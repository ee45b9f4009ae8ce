package membership

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/quorate/quorate/ensemble/quorum"
	"github.com/quorate/quorate/ensemble/v1alpha1"
)

// Reasons of the conditions PlacementSafe and PlacementFeasible.
const (
	// ReasonUnknown: the message says what is not known.
	ReasonUnknown = "Unknown"
	// ReasonSafe: every protected domain may be lost.
	ReasonSafe = "Safe"
	// ReasonFatalDomain: a domain holds so many voters that its loss loses quorum.
	ReasonFatalDomain = "FatalDomain"
	// ReasonTooFewVoters: one or two voters survive no loss, wherever they are.
	ReasonTooFewVoters = "TooFewVoters"
	// ReasonOverlapping: another ensemble selects some of the pods.
	ReasonOverlapping = "Overlapping"
	// ReasonUnlabelled: a member is in no domain that could be told.
	ReasonUnlabelled = "Unlabelled"
	// ReasonUnguarded: a member is placed by a scheduler that doesn't ask us.
	ReasonUnguarded = "Unguarded"
	// ReasonFeasible: a safe placement exists.
	ReasonFeasible = "Feasible"
	// ReasonTooFewDomains: there are not enough domains for so many voters.
	ReasonTooFewDomains = "TooFewDomains"
	// ReasonTooManyMembers: more members count than there are voters.
	ReasonTooManyMembers = "TooManyMembers"
	// ReasonPinned: volumes hold too many voters in one domain.
	ReasonPinned = "Pinned"
)

// Rules are what the conditions are judged by, beside the ensemble itself.
type Rules struct {
	// Schedulers that ask the extender. Empty: which do is not known, and members
	// that name different ones are unguarded.
	Schedulers []string
}

// PlacementSafe is the condition that says whether every protected domain may be
// lost now, and if not, what it costs and which member to move.
func PlacementSafe(s *Snapshot, e *Ensemble, r Rules) metav1.Condition {
	c := condition(e, v1alpha1.ConditionPlacementSafe)
	if why := unknown(e); why != "" {
		return settled(c, metav1.ConditionUnknown, ReasonUnknown, why)
	}
	if n := e.target().Voters; n <= 2 && !e.oracle() {
		return settled(c, metav1.ConditionFalse, ReasonTooFewVoters,
			fmt.Sprintf("%s: quorum is lost with any one of them, wherever it is; run 3 voters to survive the loss of one", count(n, "voter")))
	}
	for _, find := range []func() (string, string){
		func() (string, string) { return ReasonFatalDomain, strings.Join(fatal(s, e), "; ") },
		func() (string, string) { return ReasonOverlapping, overlapping(e) },
		func() (string, string) { return ReasonUnlabelled, unlabelled(e) },
		func() (string, string) { return ReasonUnguarded, unguarded(e, r) },
	} {
		if reason, message := find(); message != "" {
			return settled(c, metav1.ConditionFalse, reason, message)
		}
	}
	return settled(c, metav1.ConditionTrue, ReasonSafe, safe(e))
}

func condition(e *Ensemble, kind string) metav1.Condition {
	return metav1.Condition{Type: kind, ObservedGeneration: e.Object.Generation}
}

// maxMessage keeps a message well under what the API server takes.
const maxMessage = 2048

func settled(c metav1.Condition, status metav1.ConditionStatus, reason, message string) metav1.Condition {
	if len(message) > maxMessage {
		message = strings.ToValidUTF8(message[:maxMessage], "") + " ..."
	}
	c.Status, c.Reason, c.Message = status, reason, message
	return c
}

// unknown says why nothing can be judged, or nothing.
func unknown(e *Ensemble) string {
	switch {
	case e.Problem != "":
		return e.Problem
	case len(e.Judgements) == 0:
		return "how many voters there are is not known; set spec.voters"
	case !e.Resolved:
		return "status.topology has not been resolved yet"
	}
	return ""
}

func (e *Ensemble) oracle() bool {
	return e.Object.Spec.Quorum != nil && e.Object.Spec.Quorum.Oracle
}

// hard yields the protected levels and their numbers.
func (e *Ensemble) hard() func(yield func(int, Level) bool) {
	return func(yield func(int, Level) bool) {
		for i, l := range e.Levels {
			if l.Hard && !yield(i, l) {
				return
			}
		}
	}
}

// In is who is in each domain of the level, by the members' numbers.
func (e *Ensemble) In(level int) map[Domain]quorum.Set {
	in := map[Domain]quorum.Set{}
	for i := range e.Members {
		for _, d := range e.Members[i].Occupies[level] {
			in[d] = in[d].With(i)
		}
	}
	return in
}

// fatal describes each domain whose loss loses quorum: what it holds, what that
// costs, and which member to move where.
func fatal(s *Snapshot, e *Ensemble) []string {
	var found []string
	for i, l := range e.hard() {
		in := e.In(i)
		for _, d := range slices.Sorted(maps.Keys(in)) {
			j := e.broken(in[d])
			if j == nil {
				continue
			}
			held := in[d] & j.Counts
			found = append(found, fmt.Sprintf("%s %s holds %d of %d voters%s (%s): quorum is lost with it; %s",
				l.Word(), d, held.Len(), j.Voters, j.in(), e.names(held), e.advice(s, i, d)))
		}
	}
	return found
}

// broken is the judgement that does not survive the loss of gone, or nil.
func (e *Ensemble) broken(gone quorum.Set) *Judgement {
	for k := range e.Judgements {
		j := &e.Judgements[k]
		if (j.Enforced() || e.oracle()) && !j.Survives(gone) {
			return j
		}
	}
	return nil
}

// in is how the judgement is named in a message.
func (j *Judgement) in() string {
	if j.Name == Live {
		return " of the live configuration"
	}
	return ""
}

func (e *Ensemble) names(members quorum.Set) string {
	var names []string
	for i := range members.Servers() {
		names = append(names, e.Members[i].Name)
	}
	return strings.Join(names, ", ")
}

// Word is what a domain of the level is called in a message.
func (l Level) Word() string {
	switch l.Key {
	case corev1.LabelHostname:
		return "host"
	case corev1.LabelTopologyZone:
		return "zone"
	case corev1.LabelTopologyRegion:
		return "region"
	}
	return l.Key
}

// advice says which members to move out of the domain, and where to: the fewest,
// those that are free to move and have a safe place first, then the last ordinals.
func (e *Ensemble) advice(s *Snapshot, level int, d Domain) string {
	in := e.In(level)
	moving := quorum.Set(0)
	target := map[int]Domain{}
	candidates := slices.Collect(in[d].Servers())
	slices.SortFunc(candidates, func(a, b int) int {
		_, x := e.refuge(s, level, a, in)
		_, y := e.refuge(s, level, b, in)
		return cmp.Or(order(y, x), cmp.Compare(b, a))
	})
	for _, m := range candidates {
		if e.broken(in[d]) == nil {
			break
		}
		if to, ok := e.refuge(s, level, m, in); ok {
			target[m] = to
			in[to] = in[to].With(m)
		}
		moving = moving.With(m)
		in[d] = in[d].Minus(quorum.SetOf(m))
	}
	var moves []string
	for m := range moving.Servers() {
		switch to, ok := target[m]; {
		case ok:
			moves = append(moves, fmt.Sprintf("move %s to %s %s", e.Members[m].Name, e.Levels[level].Word(), to))
		case e.Members[m].Pinned[level] != nil:
			moves = append(moves, fmt.Sprintf("move %s, whose volume is pinned here: delete pod and claim together once the others are in sync", e.Members[m].Name))
		default:
			moves = append(moves, fmt.Sprintf("no other %s is safe for %s: add one", e.Levels[level].Word(), e.Members[m].Name))
		}
	}
	return strings.Join(moves, ", ")
}

func order(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// refuge is another domain of the level that could take the member in: the one with
// the fewest voters, then the first by name.
func (e *Ensemble) refuge(s *Snapshot, level, member int, in map[Domain]quorum.Set) (Domain, bool) {
	best, found := Domain(""), false
	for _, c := range s.nodes.reach(e.need(e.Members[member].Name), e.Levels[level:level+1]) {
		d := Domain(c)
		if in[d].Has(member) || slices.Contains(e.Members[member].Occupies[level], d) || e.broken(in[d].With(member)) != nil {
			continue
		}
		if !found || in[d].Len() < in[best].Len() {
			best, found = d, true
		}
	}
	return best, found
}

func overlapping(e *Ensemble) string {
	if len(e.Overlaps) == 0 {
		return ""
	}
	var names []string
	for _, k := range e.Overlaps {
		names = append(names, k.Name)
	}
	return fmt.Sprintf("some pods are selected by %s too, and count for the older Ensemble only; narrow spec.selector of one", strings.Join(names, ", "))
}

// matters reports whether the member is no observer, or votes although it is called one.
func (e *Ensemble) matters(member int) bool {
	return !e.Members[member].Observer ||
		slices.ContainsFunc(e.Judgements, func(j Judgement) bool { return j.Counts.Has(member) })
}

// unlabelled names members on nodes that are in no domain of a protected level.
func unlabelled(e *Ensemble) string {
	var found []string
	for i, l := range e.hard() {
		for k := range e.Members {
			if m := &e.Members[k]; m.Bound() && e.matters(k) && len(m.Occupies[i]) == 0 {
				found = append(found, fmt.Sprintf("%s runs on node %s, which bears no label %s", m.Name, m.Node, l.labels()))
			}
		}
	}
	if len(found) == 0 {
		return ""
	}
	return strings.Join(found, "; ") + ": what is lost with it is not known; label the node"
}

func (l Level) labels() string {
	if l.Within == "" {
		return l.Key
	}
	return l.Key + " with " + l.Within
}

// unguarded names members that the extender is not asked for.
func unguarded(e *Ensemble, r Rules) string {
	var bare, foreign []string
	first := ""
	for i := range e.Members {
		m := &e.Members[i]
		if m.UID == "" || !e.matters(i) {
			continue
		}
		if first == "" {
			first = m.Scheduler
		}
		known := slices.Contains(r.Schedulers, m.Scheduler) || len(r.Schedulers) == 0 && m.Scheduler == first
		switch {
		case !known:
			foreign = append(foreign, fmt.Sprintf("%s (%s)", m.Name, m.Scheduler))
		case !m.Guarded:
			bare = append(bare, m.Name)
		}
	}
	switch {
	case len(foreign) > 0:
		return fmt.Sprintf("%s: placed by a scheduler that does not ask for this ensemble; give all members one scheduler that does", strings.Join(foreign, ", "))
	case len(bare) > 0:
		return fmt.Sprintf("%s: without a request for %s, so that nobody is asked where the pod goes; recreate the pod once the namespace is labelled quorate.io/guard=enabled and the policy that adds the request is applied", strings.Join(bare, ", "), v1alpha1.VoterResource)
	}
	return ""
}

// safe names the fullest domain of each protected level.
func safe(e *Ensemble) string {
	var parts []string
	for i, l := range e.hard() {
		j := e.target()
		most, where := 0, Domain("")
		in := e.In(i)
		for _, d := range slices.Sorted(maps.Keys(in)) {
			if n := (in[d] & j.Counts).Len(); n > most {
				most, where = n, d
			}
		}
		if most > 0 {
			parts = append(parts, fmt.Sprintf("at most %d of %d voters in one %s (%s)", most, j.Voters, l.Word(), where))
		}
	}
	if len(parts) == 0 {
		return "no voter is in any protected domain yet"
	}
	return strings.Join(parts, ", ")
}

func count(n int, word string) string {
	if n == 1 {
		return fmt.Sprintf("%d %s", n, word)
	}
	return fmt.Sprintf("%d %ss", n, word)
}
