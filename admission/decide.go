package admission

import (
	"slices"
	"time"

	"github.com/quorate/quorate/ensemble/quorum"
	"github.com/quorate/quorate/ensemble/v1alpha1"
)

// Decide says whether the targets may be lost: of the synced voters, less the
// targets, less all that are granted, less all that are terminating or do not run, a quorum
// and the spare must remain however the unseen ones are, by the current and, during a
// change of the membership, by the next configuration.
//
// A yes is decided afresh each time, repeats included, and is true only once
// Decision.Grants is written against the Ensemble that was read. The cases are in
// testdata/decide.
func Decide(ev Evidence, ask Ask, t Timing) Decision {
	d := Decision{Outcome: DenyUnknown}
	if !ev.well() {
		d.Message = "the members could not be told apart: more pods match the Ensemble than an ensemble has"
		return d
	}
	d.Ensemble = ev.Ensemble.Namespace + "/" + ev.Ensemble.Name
	d.EnsembleUID, d.EnsembleVersion = ev.Ensemble.UID, ev.Ensemble.ResourceVersion
	targets := ev.remaining(ask.Targets)
	if len(targets) == 0 {
		d.Outcome = AllowGoing
		return d
	}
	if !slices.ContainsFunc(targets, ev.votes) {
		d.Outcome = AllowNoVoter
		return d
	}
	kept := Kept(ev, t)
	j := judge(&ev, targets, kept)
	d.Voters, d.Quorum, d.Spare, d.Left, d.Judged = j.voters, j.size, j.spare, j.left, ev.View.Known
	d.Age = evidenceAge(&ev)
	switch {
	case !Armed(ev.Ensemble):
		d.Outcome, d.Message = DenyUnarmed, ev.unarmed(t)
		return d
	case ev.tooManyRepeats(targets, kept, t):
		d.Outcome, d.Message = DenyRepeats, ev.worn(targets, kept, t)
		return d
	}
	d.Outcome = j.outcome(&ev, targets, ask)
	if !d.Outcome.Allowed() {
		d.Message = ev.refusal(&j, targets, kept, ask, d.Outcome)
		return d
	}
	grants, repeat := grant(&ev, targets, kept, ask)
	if len(grants) > maxGrants {
		d.Outcome, d.Message = DenyUnknown, "the Ensemble holds too many grants; retry when some have ended"
		return d
	}
	d.Grants = grants
	if repeat && d.Outcome == AllowSafe {
		d.Outcome = AllowRepeat
	}
	d.Message, d.Warning = ev.consent(&j, targets, d.Outcome)
	return d
}

// judgement is the arithmetic of one decision.
type judgement struct {
	verdict                   quorum.Verdict
	gone, loss                quorum.Set // already, and with the targets
	voters, size, spare, left int
}

func judge(ev *Evidence, targets []int, kept []v1alpha1.Grant) judgement {
	v := &ev.View
	j := judgement{
		gone:   ev.granted(kept) | ev.leaving(),
		loss:   ev.loss(targets),
		voters: v.Voters().Len(),
		size:   v.Size(),
		spare:  int(ev.Ensemble.Spec.Disruption.Spare),
	}
	all := j.gone | j.loss
	j.verdict = v.Without(all, j.spare)
	j.left = v.Left(all)
	return j
}

func (j *judgement) outcome(ev *Evidence, targets []int, ask Ask) Outcome {
	switch {
	case j.verdict == quorum.Safe && ev.holdLeader(targets, ask):
		return DenyLeaderLast
	case j.verdict == quorum.Safe:
		return AllowSafe
	case ask.Exact && ev.allDown(targets):
		return AllowDown
	case ev.quorumLost() && ev.allowsAll() && ev.Ages.Lost >= lostFor:
		return AllowQuorumLost
	case j.verdict == quorum.Unsafe:
		return DenyUnsafe
	default:
		return DenyUnknown
	}
}

// remaining are the targets that are not on their way out already.
func (ev *Evidence) remaining(targets []int) []int {
	var left []int
	for _, i := range targets {
		if !ev.Pods[i].Terminating {
			left = append(left, i)
		}
	}
	return left
}

// allDown reports whether no process of the targets runs, so that losing them
// loses nothing. Who runs but does not serve may be the one that is about to. What was
// heard may deny what the pods say: a kubelet tells it late.
func (ev *Evidence) allDown(targets []int) bool {
	return !ev.running(targets) && !ev.answering(targets) && !ev.mayBeCounted(targets) && !ev.mayBeFollowing(targets)
}

// running reports whether a container of one of the targets runs, by its pod's status.
func (ev *Evidence) running(targets []int) bool {
	return slices.ContainsFunc(targets, func(i int) bool { return ev.Pods[i].Running })
}

// answering reports whether a process of one of the targets was heard: it runs, whoever
// leads it.
func (ev *Evidence) answering(targets []int) bool {
	return slices.ContainsFunc(targets, func(i int) bool {
		a := ev.View.Members[i].Answer
		return ev.View.Synced.Has(i) || a != nil && a.Spoke()
	})
}

// mayBeCounted reports whether the leader counts one of the targets as a follower. Where
// it may be another, which runs and is not seen in sync, the benefit of the doubt ends
// with the settle time.
func (ev *Evidence) mayBeCounted(targets []int) bool {
	v := &ev.View
	return v.Beyond() > ev.others(targets) || v.Beyond() > 0 && !v.Settled
}

// others are how many voters the leader may count beyond those in sync, without the
// targets.
func (ev *Evidence) others(targets []int) int {
	v := &ev.View
	return v.Voters().Minus(v.Synced | ev.loss(targets) | ev.stopped()).Len()
}

// mayBeFollowing reports whether the leader needs one of the targets to lead at all, or
// another that does not run by its pod. One that has lost its quorum leads for no longer
// than a settle time.
func (ev *Evidence) mayBeFollowing(targets []int) bool {
	v := &ev.View
	return v.Live && v.Leader >= 0 && !v.System.MayLead(v.Voters().Minus(ev.loss(targets)|ev.stopped()))
}

// lostFor is how long no quorum must have been seen to serve before it counts as lost: an
// election looks like it too, also one that a yes of ours is about to bring.
const lostFor = time.Minute

func (ev *Evidence) allowsAll() bool {
	return ev.Ensemble.Spec.Disruption.WhenQuorumIsLost == v1alpha1.AllowAll
}

// quorumLost reports whether no quorum serves, however the unseen members are.
func (ev *Evidence) quorumLost() bool {
	v := &ev.View
	return v.System.Voters() != 0 && !v.System.Quorum(v.Synced|v.Unseen)
}

// holdLeader is the hint that the leader goes last: it waits while others could go.
func (ev *Evidence) holdLeader(targets []int, ask Ask) bool {
	return len(targets) == 1 && targets[0] == ev.View.Leader && len(ev.waiting(ask)) > 0
}

// waiting are the members asked for that could go before the leader.
func (ev *Evidence) waiting(ask Ask) []string {
	var names []string
	for _, name := range ask.Waiting {
		if i := ev.View.Index(name); i >= 0 && i != ev.View.Leader && ev.View.Synced.Has(i) && !ev.Pods[i].Terminating {
			names = append(names, name)
		}
	}
	return names
}

func evidenceAge(ev *Evidence) time.Duration {
	if ev.View.At.IsZero() {
		return 0
	}
	return max(0, ev.Now.Sub(ev.View.At))
}
