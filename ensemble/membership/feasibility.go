package membership

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/quorate/quorate/ensemble/quorum"
	"github.com/quorate/quorate/ensemble/v1alpha1"
)

// PlacementFeasible is the condition that says whether a safe placement exists at
// all on the nodes that there are, with the arithmetic if none does.
func PlacementFeasible(s *Snapshot, e *Ensemble) metav1.Condition {
	c := condition(e, v1alpha1.ConditionPlacementFeasible)
	if why := unknown(e); why != "" {
		return settled(c, metav1.ConditionUnknown, ReasonUnknown, why)
	}
	var hard []Level
	for _, l := range e.hard() {
		hard = append(hard, l)
	}
	open := ""
	for i := range e.Judgements {
		j := &e.Judgements[i]
		if !j.Enforced() {
			continue
		}
		for _, l := range hard {
			switch s.feasible(e, j, []Level{l}) {
			case quorum.Unsafe:
				reason, message := impossible(s, e, j, l)
				return settled(c, metav1.ConditionFalse, reason, message)
			case quorum.Unknown:
				open = fmt.Sprintf("whether %d voters fit the domains of %s is not known: there are too many ways to try", j.Voters, l.Key)
			case quorum.Safe:
			}
		}
		switch s.feasible(e, j, hard) {
		case quorum.Unsafe:
			return settled(c, metav1.ConditionFalse, ReasonTooFewDomains, fmt.Sprintf(
				"%d voters%s fit each protected level alone but not all at once: no placement leaves a quorum whichever domain is lost; add nodes, or set whenUnsatisfiable: ScheduleAnyway for one level in spec.topology", j.Voters, j.in()))
		case quorum.Unknown:
			open = fmt.Sprintf("whether %d voters fit all protected levels at once is not known: there are too many ways to try", j.Voters)
		case quorum.Safe:
		}
	}
	if open != "" {
		return settled(c, metav1.ConditionUnknown, ReasonUnknown, open)
	}
	return settled(c, metav1.ConditionTrue, ReasonFeasible, feasibly(s, e, hard))
}

// impossible is the arithmetic of one level that has no safe placement.
func impossible(s *Snapshot, e *Ensemble, j *Judgement, l Level) (reason, message string) {
	domains := s.reachable(e, j, l)
	names := strings.Join(shown(domains), ", ")
	there := count(len(domains), l.Word())
	if len(domains) > 0 {
		there += " (" + names + ")"
	}
	if len(j.voices) > j.Voters {
		return ReasonTooManyMembers, fmt.Sprintf(
			"%d members count although there are %d voters%s, each of them may be one, and at most %d may share a %s: %s cannot take them; set spec.voters, or select those that never vote with spec.observers",
			len(j.voices), j.Voters, j.in(), (j.Voters-1)/2, l.Word(), there)
	}
	way := fmt.Sprintf("add a %s, or set whenUnsatisfiable: ScheduleAnyway for %s in spec.topology", l.Word(), l.Key)
	if !j.even {
		return ReasonTooFewDomains, fmt.Sprintf("%d voters%s of different weights or groups over %s: however they are placed, the loss of one %s loses quorum; %s",
			j.Voters, j.in(), there, l.Word(), way)
	}
	most := (j.Voters - 1) / 2
	need := (j.Voters + most - 1) / most
	if len(domains) >= need {
		return ReasonPinned, fmt.Sprintf(
			"%d voters%s over %s: at most %d may share a %s, but their volumes, selectors, affinities or tolerations allow no such placement; free one of them to go elsewhere",
			j.Voters, j.in(), there, most, l.Word())
	}
	message = fmt.Sprintf("%d voters%s over %s: at most %d may share a %s, or its loss leaves fewer than the %d of %d that are a quorum, so that %d %ss are needed; %s",
		j.Voters, j.in(), there, most, l.Word(), j.System.Size(), j.Voters, need, l.Word(), way)
	if j.Voters%2 == 0 && len(domains)*((j.Voters-2)/2) >= j.Voters-1 {
		message += fmt.Sprintf(", or run %d voters, which survive as many losses", j.Voters-1)
	}
	return ReasonTooFewDomains, message
}

// Reachable is how many domains of the level some voter of the judgement may be placed
// in: its selector, affinity, tolerations and volumes allow a node there.
func (s *Snapshot) Reachable(e *Ensemble, j *Judgement, l Level) int {
	return len(s.reachable(e, j, l))
}

// reachable are the domains of the level that some voter may be placed in.
func (s *Snapshot) reachable(e *Ensemble, j *Judgement, l Level) []string {
	found := map[string]bool{}
	for _, v := range j.voices {
		for _, c := range s.nodes.reach(e.need(v.name), []Level{l}) {
			found[string(c)] = true
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// shown are the first names of many.
func shown(names []string) []string {
	const few = 8
	if len(names) > few {
		return append(slices.Clone(names[:few]), fmt.Sprintf("and %d more", len(names)-few))
	}
	return names
}

func feasibly(s *Snapshot, e *Ensemble, hard []Level) string {
	j := e.target()
	if !j.Enforced() {
		return fmt.Sprintf("%s: nothing is refused for them", count(j.Voters, "voter"))
	}
	var parts []string
	for _, l := range hard {
		parts = append(parts, fmt.Sprintf("%d voters fit %s", j.Voters, count(len(s.reachable(e, j, l)), l.Word())))
	}
	if len(parts) == 0 {
		return "no level is protected"
	}
	return strings.Join(parts, ", ")
}
