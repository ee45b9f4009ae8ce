package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// EnsembleStatus is what was seen, and what was granted. It holds no ages and no
// zxids: every write of it voids somebody's compare-and-swap, so that it is
// written when a verdict changes, not when time passes.
type EnsembleStatus struct {
	// observedGeneration of the spec that this status is about.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// voters in the live configuration.
	// +optional
	Voters *int32 `json:"voters,omitempty"`
	// quorum is how many of them it takes (for equal weights).
	// +optional
	Quorum *int32 `json:"quorum,omitempty"`
	// synced voters: serving, and up with the leader.
	// +optional
	Synced *int32 `json:"synced,omitempty"`
	// disruptionsAllowed is how many synced voters may go now, whichever they are.
	// +optional
	DisruptionsAllowed *int32 `json:"disruptionsAllowed,omitempty"`

	// topology that is protected: spec.topology, or what its default resolved to.
	// Tightened automatically, loosened only by the user.
	// +kubebuilder:validation:MaxItems=8
	// +listType=atomic
	// +optional
	Topology []TopologyLevel `json:"topology,omitempty"`

	// members that were seen.
	// +kubebuilder:validation:MaxItems=128
	// +listType=map
	// +listMapKey=name
	// +optional
	Members []MemberStatus `json:"members,omitempty"`

	// guard says since when grants of this very object can be trusted.
	// +optional
	Guard *GuardStatus `json:"guard,omitempty"`

	// grants are the members that may be disrupted, until they are seen synced again.
	// +kubebuilder:validation:MaxItems=128
	// +listType=map
	// +listMapKey=podUID
	// +optional
	Grants []Grant `json:"grants,omitempty"`

	// conditions: Quorate, PlacementSafe, PlacementFeasible.
	// +kubebuilder:validation:MaxItems=16
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// MemberStatus is one member as it was last seen.
type MemberStatus struct {
	// name of the pod.
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
	// node that it runs on.
	// +kubebuilder:validation:MaxLength=253
	// +optional
	Node string `json:"node,omitempty"`
	// serverID by which the ensemble knows it.
	// +kubebuilder:validation:MaxLength=63
	// +optional
	ServerID string `json:"serverID,omitempty"`
	// role: Leader, Follower, Observer, Learner, Voter (not told apart), or empty if unseen.
	// +kubebuilder:validation:MaxLength=32
	// +optional
	Role string `json:"role,omitempty"`
	// votes is whether the live configuration counts it as a voter, seen or not.
	// +optional
	Votes bool `json:"votes,omitempty"`
	// health: Synced, NotSynced, Unseen.
	// +kubebuilder:validation:Enum=Synced;NotSynced;Unseen
	Health string `json:"health"`
	// reason in words, where it is not Synced.
	// +kubebuilder:validation:MaxLength=512
	// +optional
	Reason string `json:"reason,omitempty"`
}

// GuardStatus binds the grants to one life of the object: an Ensemble that was
// deleted and made anew, or restored from a backup, may have lost grants.
type GuardStatus struct {
	// uid of the Ensemble that the grants belong to.
	// +kubebuilder:validation:MaxLength=36
	UID string `json:"uid"`
	// armed once grants from before uid was written can no longer act.
	// +optional
	Armed bool `json:"armed,omitempty"`
}

// GrantScaleDown is the reason of a grant whose pod is not made again.
const GrantScaleDown = "ScaleDown"

// Grant is one yes: this pod may be disrupted. It counts as gone from the moment
// it is written until its successor is seen synced, or the yes is seen unused.
type Grant struct {
	// podUID that may go. A yes is for this pod, never for the next one of its name.
	// +kubebuilder:validation:MaxLength=36
	PodUID string `json:"podUID"`
	// name of that pod.
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
	// node that it was on.
	// +kubebuilder:validation:MaxLength=253
	// +optional
	Node string `json:"node,omitempty"`
	// podIP that it had.
	// +kubebuilder:validation:MaxLength=45
	// +optional
	PodIP string `json:"podIP,omitempty"`
	// serverID by which the ensemble knows it.
	// +kubebuilder:validation:MaxLength=63
	// +optional
	ServerID string `json:"serverID,omitempty"`
	// requestUIDs of the requests that were told yes, the last one last.
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MaxLength=36
	// +listType=atomic
	// +optional
	RequestUIDs []string `json:"requestUIDs,omitempty"`
	// user who asked.
	// +kubebuilder:validation:MaxLength=253
	// +optional
	User string `json:"user,omitempty"`
	// reason: Eviction, Deletion, ScaleDown.
	// +kubebuilder:validation:MaxLength=63
	// +optional
	Reason string `json:"reason,omitempty"`
	// since is when it was written, by the writer's clock: for people. No decision
	// compares it with another clock.
	Since metav1.Time `json:"since"`
}
