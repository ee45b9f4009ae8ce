package admission

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/quorate/quorate/ensemble/probe"
	"github.com/quorate/quorate/ensemble/v1alpha1"
)

// BreakGlassGroup may do anything to members, audited: kubectl --as=NAME
// --as-group=quorate:break-glass, for whom RBAC lets impersonate it.
const BreakGlassGroup = "quorate:break-glass"

// refusal is the arithmetic, the reason and the way out.
func (ev *Evidence) refusal(j *judgement, targets []int, kept []v1alpha1.Grant, ask Ask, o Outcome) string {
	subject := doing(ask.Reason) + " " + ev.names(targets)
	causes, waitFor := ev.causes(targets, kept)
	if ev.quorumLost() && ev.allowsAll() {
		causes = append(causes, fmt.Sprintf("AllowAll holds once no quorum was seen to serve for %s, so far for %s", lostFor, ev.Ages.Lost.Round(time.Second)))
	}
	switch {
	case ev.running(targets):
	case ask.Exact:
		causes = append(causes, ev.notDown(targets)...)
	case ask.Budget != "":
		causes = append(causes, fmt.Sprintf(
			"for PodDisruptionBudget %s the API server would evict %s even if it runs again by then (delete the pod instead: that hits it only as it is)",
			ask.Budget, ev.names(targets)))
	}
	switch o {
	case DenyLeaderLast:
		return fmt.Sprintf("%s now would cost an election more than needed: it leads, and others wait to go first (%s); retry then", subject, strings.Join(ev.waiting(ask), ", "))
	case DenyUnknown:
		return fmt.Sprintf("it is not known whether %s leaves a quorum: %s; retry%s", subject, ev.doubts(j, causes), when(waitFor))
	default:
		s := fmt.Sprintf("%s would leave %d of %d voters synced (quorum %d%s)", subject, j.left, j.voters, j.size, spared(j.spare))
		if j.left >= j.size+j.spare {
			s += ", which is no quorum by weights, groups or the next configuration"
		}
		if len(causes) > 0 {
			return s + ": " + strings.Join(causes, ", ") + "; retry" + when(waitFor)
		}
		return s + ", although all are well; " + ev.wayOut(targets, j)
	}
}

// notDown are why the targets are not known to be down, although their pods do not run.
func (ev *Evidence) notDown(targets []int) (causes []string) {
	for _, i := range targets {
		if ev.answering([]int{i}) {
			causes = append(causes, ev.Pods[i].Name+" answers although its pod does not run")
		}
	}
	switch v := &ev.View; {
	case len(causes) > 0:
	case ev.mayBeCounted(targets):
		cause := fmt.Sprintf("the leader counts %s more than were heard in sync, which may mean %s although its pod does not run",
			count(v.Beyond(), "follower"), ev.names(targets))
		if v.Beyond() <= ev.others(targets) {
			cause += fmt.Sprintf(", until that has stood for %s", v.Patience())
		}
		causes = append(causes, cause)
	case ev.mayBeFollowing(targets):
		causes = append(causes, fmt.Sprintf("%s leads, which takes more voters than run by their pods' status, and may mean %s although its pod does not run",
			ev.Pods[v.Leader].Name, ev.names(targets)))
	}
	return causes
}

// wayOut is for an ensemble that can't lose the targets even at its best.
func (ev *Evidence) wayOut(targets []int, j *judgement) string {
	glass := "or break the glass (--as-group=" + BreakGlassGroup + ")"
	switch {
	case len(targets) > 1:
		return "lose fewer at once, take the servers out of the ensemble's configuration first, " + glass
	case j.spare > 0:
		return "lower spec.disruption.spare, add voters, " + glass
	default:
		return fmt.Sprintf("an ensemble of %s can lose none: add voters, %s", count(j.voters, "voter"), glass)
	}
}

func (ev *Evidence) doubts(j *judgement, causes []string) string {
	var why []string
	if !ev.View.Known {
		why = append(why, ev.View.Reason)
	}
	disputed := ev.View.Disputed()
	if disputed > 0 {
		why = append(why, fmt.Sprintf("the leader counts %d fewer in sync than say so themselves", disputed))
	}
	if ev.View.Doubt() > disputed {
		why = append(why, fmt.Sprintf("the leader counts %s by number alone, and may mean one that is not in sync until that has stood for %s",
			count(ev.View.Counted, "follower"), ev.View.Patience()))
	}
	why = append(why, causes...)
	if ev.View.Known {
		return fmt.Sprintf("%d of %d voters would surely be synced (quorum %d%s): %s", j.left, j.voters, j.size, spared(j.spare), strings.Join(why, ", "))
	}
	return strings.Join(why, ", ")
}

// causes are why voters other than the targets don't count, and whom to wait for.
func (ev *Evidence) causes(targets []int, kept []v1alpha1.Grant) (causes, waitFor []string) {
	v := &ev.View
	granted := ev.granted(kept)
	for i := range v.Members {
		m := &v.Members[i]
		if slices.Contains(targets, i) || v.Known && !m.Votes && !v.Voters().Has(i) {
			continue
		}
		cause := ""
		switch {
		case granted.Has(i):
			cause = ev.grantedCause(i, kept)
		case ev.Pods[i].Terminating:
			cause = m.Name + " is terminating"
		case !ev.Pods[i].Running:
			cause = m.Name + " does not run"
		case m.Health == probe.Synced:
			continue
		case m.Health == probe.NotSynced:
			cause = m.Name + " is " + condition(m.Reason)
		default:
			cause = m.Name + " was not heard" + parenthesis(m.Reason)
		}
		causes, waitFor = append(causes, cause), append(waitFor, m.Name)
	}
	for k, id := range v.Strangers {
		what := "server " + id + " is in the configuration but no pod is known to be it"
		for g := range kept {
			if granted.Has(len(v.Members)+k) && kept[g].ServerID == id {
				what = kept[g].Name + " is being " + past(kept[g].Reason) + " since " + clock(kept[g].Since.Time)
			}
		}
		causes, waitFor = append(causes, what), append(waitFor, "server "+id)
	}
	return causes, waitFor
}

// condition of a member that is not in sync: a state, or a sentence in words of its own.
func condition(reason string) string {
	if strings.HasPrefix(reason, "it ") || strings.HasPrefix(reason, "its ") {
		return "not in sync" + parenthesis(reason)
	}
	return or(reason, "not in sync")
}

func (ev *Evidence) grantedCause(i int, kept []v1alpha1.Grant) string {
	for k := range kept {
		g := &kept[k]
		if g.PodUID == string(ev.Pods[i].UID) {
			return fmt.Sprintf("%s is being %s since %s", g.Name, past(g.Reason), clock(g.Since.Time))
		}
		if ev.claims(g).Has(i) {
			return fmt.Sprintf("%s was %s at %s and is not seen synced again yet%s", g.Name, past(g.Reason), clock(g.Since.Time), parenthesis(ev.View.Members[i].Reason))
		}
	}
	return ev.Pods[i].Name + " is on its way out"
}

// consent is the message and the warning of a yes.
func (ev *Evidence) consent(j *judgement, targets []int, o Outcome) (message, warning string) {
	names := ev.names(targets)
	switch o {
	case AllowDown:
		message = fmt.Sprintf("no process of %s runs: nothing is lost with it; %d of %d voters are synced (quorum %d)", names, j.left, j.voters, j.size)
		warning = "quorate: " + names + " is down already; too few voters are known to be synced"
	case AllowQuorumLost:
		message = "no quorum serves, and spec.disruption.whenQuorumIsLost is AllowAll"
		warning = "quorate: no quorum serves and spec.disruption.whenQuorumIsLost is AllowAll"
	default:
		message = fmt.Sprintf("%d of %d voters remain synced without %s (quorum %d%s)", j.left, j.voters, names, j.size, spared(j.spare))
		if j.left == j.size && j.left < j.voters-len(targets) {
			warning = fmt.Sprintf("quorate: without %s exactly a quorum (%d of %d) is left", names, j.left, j.voters)
		}
	}
	return message, warning
}

func (ev *Evidence) unarmed(t Timing) string {
	wait := max(0, t.WithDefaults().Arm-ev.Ages.Guard).Round(time.Second)
	return fmt.Sprintf("the Ensemble is new, or was restored: what was allowed before may still happen; retry in %s", wait)
}

func (ev *Evidence) worn(targets []int, kept []v1alpha1.Grant, t Timing) string {
	g := ev.wornGrant(targets, kept, t)
	return fmt.Sprintf("%s was allowed to go %s since %s and still lives (%s may refuse it); retry when that has lapsed, in %s at most",
		g.Name, count(len(g.RequestUIDs), "time"), clock(g.Since.Time), refuser(g.Reason), t.WithDefaults().TTL)
}

// refuser is who may refuse what was allowed here: budgets are asked for evictions only.
func refuser(reason string) string {
	switch reason {
	case Deletion, ScaleDown:
		return "another webhook, or, if it is an eviction, a PodDisruptionBudget"
	default:
		return "a PodDisruptionBudget"
	}
}

func (ev *Evidence) names(targets []int) string {
	names := make([]string, len(targets))
	for k, i := range targets {
		names[k] = ev.Pods[i].Name
	}
	return strings.Join(names, ", ")
}

func doing(reason string) string {
	switch reason {
	case Deletion:
		return "deleting"
	case ScaleDown:
		return "scaling away"
	default:
		return "evicting"
	}
}

func past(reason string) string {
	switch reason {
	case Deletion:
		return "deleted"
	case ScaleDown:
		return "scaled away"
	default:
		return "evicted"
	}
}

func when(names []string) string {
	switch {
	case len(names) == 0:
		return ""
	case len(names) == 1:
		return " when " + names[0] + " has synced"
	default:
		return " when one of " + strings.Join(names, ", ") + " has synced"
	}
}

func spared(n int) string {
	if n == 0 {
		return ""
	}
	return ", spare " + strconv.Itoa(n)
}

func parenthesis(s string) string {
	if s == "" {
		return ""
	}
	return " (" + s + ")"
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

func clock(t time.Time) string { return t.UTC().Format(time.TimeOnly) }
