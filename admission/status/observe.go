package status

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/quorate/quorate/ensemble/probe"
	"github.com/quorate/quorate/ensemble/quorum"
	"github.com/quorate/quorate/ensemble/v1alpha1"
)

// Reasons of the condition Quorate.
const (
	// ReasonInSync: a quorum of voters is in sync.
	ReasonInSync = "QuorumInSync"
	// ReasonLost: no quorum is in sync, however the unseen voters are.
	ReasonLost = "QuorumLost"
	// ReasonUnknown: the message says what is not known.
	ReasonUnknown = "Unknown"
)

const (
	maxMembers = 128
	maxReason  = 512
	maxNote    = 1024 // the API server takes no longer one of an Event
)

// Observe is the part of the status that this package owns: what the view shows of
// the Ensemble and its pods, in the view's order. What the view does not tell, but
// was known before, stays: the last live configuration holds until another is read.
// The conditions of placement are added by the caller.
func Observe(e *v1alpha1.Ensemble, pods []corev1.Pod, v *probe.View) v1alpha1.EnsembleStatus {
	s := v1alpha1.EnsembleStatus{ObservedGeneration: e.Generation, DisruptionsAllowed: new(int32(0))}
	told := v.Known && (v.Live || e.Spec.System == v1alpha1.Generic)
	if told {
		s.Voters, s.Quorum = new(int32(v.Voters().Len())), new(int32(v.Size()))
	} else {
		s.Voters, s.Quorum = e.Status.Voters, e.Status.Quorum
	}
	if v.Known {
		s.Synced = new(int32(v.Agreed()))
		s.DisruptionsAllowed = new(int32(v.Allowed(leaving(e, pods, v), int(e.Spec.Disruption.Spare))))
	}
	s.Members = members(e, pods, v, told)
	s.Conditions = []metav1.Condition{Quorate(e, v)}
	return s
}

// leaving are the members that were granted to go and have not come back, and those
// that go: they count as gone.
func leaving(e *v1alpha1.Ensemble, pods []corev1.Pod, v *probe.View) (gone quorum.Set) {
	for i := range v.Members {
		m := &v.Members[i]
		granted := slices.ContainsFunc(e.Status.Grants, func(g v1alpha1.Grant) bool {
			return g.PodUID == string(m.Answer.Target.UID) || g.Name == m.Name && m.Health != probe.Synced
		})
		if granted || i < len(pods) && pods[i].DeletionTimestamp != nil {
			gone = gone.With(i)
		}
	}
	return gone
}

func members(e *v1alpha1.Ensemble, pods []corev1.Pod, v *probe.View, told bool) []v1alpha1.MemberStatus {
	known := map[string]v1alpha1.MemberStatus{}
	for _, m := range e.Status.Members {
		known[m.Name] = m
	}
	var all []v1alpha1.MemberStatus
	for i := range v.Members {
		m := &v.Members[i]
		before := known[m.Name]
		delete(known, m.Name)
		s := v1alpha1.MemberStatus{
			Name: m.Name, ServerID: m.ServerID, Role: string(m.Role), Votes: m.Votes,
			Health: m.Health.String(), Reason: short(m.Reason, maxReason),
		}
		if i < len(pods) {
			s.Node = pods[i].Spec.NodeName
		}
		if !told { // the configuration that was read last still holds
			s.Votes = before.Votes
			if s.ServerID == "" {
				s.ServerID = before.ServerID
			}
		}
		all = append(all, s)
	}
	for _, m := range known { // voters whose pod is not there
		if m.Votes && (!told || slices.Contains(v.Strangers, m.ServerID)) {
			m.Node, m.Role, m.Health, m.Reason = "", "", probe.Unseen.String(), "its pod is not there"
			all = append(all, m)
		}
	}
	slices.SortFunc(all, func(a, b v1alpha1.MemberStatus) int { return strings.Compare(a.Name, b.Name) })
	return all[:min(len(all), maxMembers)]
}

func short(text string, limit int) string {
	if len(text) > limit {
		return strings.ToValidUTF8(text[:limit-4], "") + " ..."
	}
	return text
}

// Quorate is the condition that says whether a quorum of voters is in sync, live.
func Quorate(e *v1alpha1.Ensemble, v *probe.View) metav1.Condition {
	c := metav1.Condition{Type: v1alpha1.ConditionQuorate, ObservedGeneration: e.Generation, Status: metav1.ConditionUnknown, Reason: ReasonUnknown}
	voters := v.Voters().Len()
	switch {
	case v.Known && v.System.Spare(v.Synced) >= v.Disputed():
		c.Status, c.Reason = metav1.ConditionTrue, ReasonInSync
		c.Message = fmt.Sprintf("%d of %d voters are in sync; a quorum is %d", v.Agreed(), voters, v.Size())
		if why := indispensable(e, v); why != "" {
			c.Message += "; " + why
		}
	case voters > 0 && !v.System.Quorum(v.Synced|v.Unseen):
		c.Status, c.Reason = metav1.ConditionFalse, ReasonLost
		c.Message = fmt.Sprintf("at most %d of %d voters are in sync; a quorum is %d: %s", (v.Synced | v.Unseen).Len(), voters, v.Size(), ailing(v))
	case !v.Known:
		c.Message = v.Reason
	default:
		c.Message = fmt.Sprintf("%d of %d voters are seen in sync; a quorum is %d: %s", v.Agreed(), voters, v.Size(), ailing(v))
	}
	return c
}

// indispensable says why no member may ever be evicted, though all are in sync, and
// the way out; it is empty where one may.
func indispensable(e *v1alpha1.Ensemble, v *probe.View) string {
	spare := int(e.Spec.Disruption.Spare)
	switch best := v.System.Spare(v.Voters()); {
	case best > spare:
		return ""
	case best > 0:
		return fmt.Sprintf("none of them may be evicted, though all are in sync: it can lose %d, and spec.disruption.spare is %d; lower that, or add voters", best, spare)
	default:
		return "none of them may be evicted, though all are in sync: it can lose none; add voters, of which three can lose one"
	}
}

// ailing says who is not in sync, and why.
func ailing(v *probe.View) string {
	var who []string
	for i := range v.Members {
		if m := &v.Members[i]; m.Health != probe.Synced && m.Votes {
			who = append(who, m.Name+": "+m.Reason)
		}
	}
	if disputed := v.Disputed(); disputed > 0 {
		who = append(who, fmt.Sprintf("the leader counts %d fewer in sync than say so themselves", disputed))
	}
	if len(v.Strangers) > 0 {
		who = append(who, "no pod for server "+strings.Join(v.Strangers, ", "))
	}
	return strings.Join(who, "; ")
}

// carry keeps the time of each condition that did not change.
func carry(next *v1alpha1.EnsembleStatus, before []metav1.Condition, now metav1.Time) {
	for i := range next.Conditions {
		c := &next.Conditions[i]
		c.LastTransitionTime = now
		if old := meta.FindStatusCondition(before, c.Type); old != nil && old.Status == c.Status {
			c.LastTransitionTime = old.LastTransitionTime
		}
	}
}

// ours are the conditions that this package writes.
var ours = []string{v1alpha1.ConditionQuorate, v1alpha1.ConditionPlacementSafe, v1alpha1.ConditionPlacementFeasible}

// same reports whether a write of next would change nothing that this package owns.
func same(next, before *v1alpha1.EnsembleStatus) bool {
	own := func(s *v1alpha1.EnsembleStatus) v1alpha1.EnsembleStatus {
		t := v1alpha1.EnsembleStatus{
			ObservedGeneration: s.ObservedGeneration, Voters: s.Voters, Quorum: s.Quorum, Synced: s.Synced,
			DisruptionsAllowed: s.DisruptionsAllowed, Members: s.Members,
		}
		for _, c := range s.Conditions {
			c.LastTransitionTime = metav1.Time{}
			if slices.Contains(ours, c.Type) {
				t.Conditions = append(t.Conditions, c)
			}
		}
		slices.SortFunc(t.Conditions, func(a, b metav1.Condition) int { return strings.Compare(a.Type, b.Type) })
		return t
	}
	return apiequality.Semantic.DeepEqual(own(next), own(before))
}

// infeasible is why no placement is safe, where that has just become known: the
// condition of before, which is kept in the status, did not say so.
func infeasible(before, after []metav1.Condition) string {
	c := meta.FindStatusCondition(after, v1alpha1.ConditionPlacementFeasible)
	if c == nil || c.Status != metav1.ConditionFalse || meta.IsStatusConditionFalse(before, c.Type) {
		return ""
	}
	return c.Message
}
