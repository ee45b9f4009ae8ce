package admission

import (
	"net/http"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/quorate/quorate/ensemble/v1alpha1"
)

// Outcome is what was decided and why, in one word: the label of metrics, audit
// annotations and tests. Its zero value denies.
type Outcome string

// The outcomes that allow.
const (
	// AllowSafe leaves a quorum and the spare, however the unseen members are.
	AllowSafe Outcome = "allow-safe"
	// AllowRepeat is the same again, for a pod that was granted already.
	AllowRepeat Outcome = "allow-repeat"
	// AllowDown lets a member go whose process does not run.
	AllowDown Outcome = "allow-down"
	// AllowQuorumLost lets everything go, as spec.disruption.whenQuorumIsLost says.
	AllowQuorumLost Outcome = "allow-quorum-lost"
	// AllowNoVoter lets members go that no configuration counts.
	AllowNoVoter Outcome = "allow-no-voter"
	// AllowNoMember is about pods of no ensemble.
	AllowNoMember Outcome = "allow-no-member"
	// AllowGoing is about pods that are terminating, finished or gone already.
	AllowGoing Outcome = "allow-going"
	// AllowExempt is whom nothing may block: kubelets, garbage collection, ...
	AllowExempt Outcome = "allow-exempt"
	// AllowBreakGlass is a member of the break-glass group.
	AllowBreakGlass Outcome = "allow-break-glass"
	// AllowOrphan deletes a StatefulSet and leaves its pods.
	AllowOrphan Outcome = "allow-orphan"
)

// The outcomes that deny.
const (
	// DenyUnsafe would leave too few synced voters, however the unseen ones are.
	DenyUnsafe Outcome = "deny-unsafe"
	// DenyUnknown cannot tell.
	DenyUnknown Outcome = "deny-unknown"
	// DenyUnarmed waits until grants from before this Ensemble cannot act any more.
	DenyUnarmed Outcome = "deny-unarmed"
	// DenyRepeats said yes to this pod too often or too long, and nothing happened.
	DenyRepeats Outcome = "deny-repeats"
	// DenyLeaderLast lets others that wait go before the leader.
	DenyLeaderLast Outcome = "deny-leader-last"
	// DenyContention lost every compare-and-swap that there was time for.
	DenyContention Outcome = "deny-contention"
	// DenyUnsure does not know whether its grant was written.
	DenyUnsure Outcome = "deny-unsure"
	// DenyError could not read what it needs.
	DenyError Outcome = "deny-error"
	// DenyStale is for a pod that another one has taken the name of.
	DenyStale Outcome = "deny-stale"
	// DenyChanged is for a pod that is not as the request is bound to it any more.
	DenyChanged Outcome = "deny-changed"
	// DenyStatefulSet keeps the StatefulSet of a live ensemble's voters.
	DenyStatefulSet Outcome = "deny-statefulset"
)

var allows = map[Outcome]bool{
	AllowSafe: true, AllowRepeat: true, AllowDown: true, AllowQuorumLost: true, AllowNoVoter: true,
	AllowNoMember: true, AllowGoing: true, AllowExempt: true, AllowBreakGlass: true, AllowOrphan: true,
}

// Allowed reports whether the request may go on.
func (o Outcome) Allowed() bool { return allows[o] }

// Decision is the answer to one request. Its zero value denies.
type Decision struct {
	Outcome Outcome
	// Ensemble that it is about, "namespace/name"; empty for pods of none.
	Ensemble string
	// EnsembleUID and EnsembleVersion (resourceVersion) of it, where it was judged.
	EnsembleUID     types.UID
	EnsembleVersion string
	// Message for people: the arithmetic, the reason and the way out.
	Message string
	// Warning for who asked, where the yes is risky; below 120 characters.
	Warning string
	// Voters of the ensemble, how many it takes, how many are to be spared, and how
	// many synced ones would be left.
	Voters, Quorum, Spare, Left int
	// Judged is whether those numbers mean something.
	Judged bool
	// Age of the oldest evidence.
	Age time.Duration
	// Grants that status must hold before the yes may be said. nil: nothing is to be
	// written.
	Grants []v1alpha1.Grant
}

// Code is the HTTP status of the answer. Whatever a retry may cure is 429: every
// drainer retries that and gives up on anything else.
func (d *Decision) Code() int32 {
	switch {
	case d.Outcome.Allowed():
		return http.StatusOK
	case d.Outcome == DenyStale:
		return http.StatusNotFound
	case d.Outcome == DenyStatefulSet:
		return http.StatusForbidden
	default:
		return http.StatusTooManyRequests
	}
}

// Reason is the API's word for Code.
func (d *Decision) Reason() metav1.StatusReason {
	switch d.Code() {
	case http.StatusOK:
		return ""
	case http.StatusNotFound:
		return metav1.StatusReasonNotFound
	case http.StatusForbidden:
		return metav1.StatusReasonForbidden
	default:
		return metav1.StatusReasonTooManyRequests
	}
}

// RetryAfter in seconds; 0 but for contention: with it clients retry silently, and
// nobody would see the reason of a real refusal.
func (d *Decision) RetryAfter() int32 {
	if d.Outcome == DenyContention || d.Outcome == DenyChanged {
		return 1
	}
	return 0
}
