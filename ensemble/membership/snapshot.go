package membership

import (
	"iter"

	"k8s.io/apimachinery/pkg/types"

	"github.com/quorate/quorate/ensemble/quorum"
	"github.com/quorate/quorate/ensemble/v1alpha1"
)

// Domain is one failure domain of a level: the value of the level's label, with
// the value of its enclosing level before it where there is one ("zone-a/r1").
// Domains are compared within one level only.
type Domain string

// Level is one kind of failure domain of an ensemble.
type Level struct {
	// Key is the node label whose values are the domains.
	Key string
	// Within is the label of the enclosing level, or empty.
	Within string
	// Hard levels are protected (DoNotSchedule); the others are only preferred.
	Hard bool
}

// Ensemble is one ensemble as the informers show it. Nobody writes to it.
type Ensemble struct {
	Key    types.NamespacedName
	UID    types.UID
	Object *v1alpha1.Ensemble
	// Levels that placement is judged at: spec.topology or the resolved
	// status.topology, in that order. Empty until Resolved.
	Levels []Level
	// Resolved is false while spec.topology and status.topology are both absent:
	// nothing may be placed then.
	Resolved bool
	// Members, by name. A member's index is its number in every quorum.Set here.
	Members []Member
	// Judgements that a placement must pass, each on its own. Empty means that
	// nothing is known yet, and nothing may be placed.
	Judgements []Judgement
}

// Member is one member of an ensemble: a pod, or the volume of one that is absent.
type Member struct {
	// Name of the pod, there or not.
	Name string
	// UID of the pod; empty where only its volume is there.
	UID types.UID
	// Observer members are selected by spec.observers and count nowhere.
	Observer bool
	// Node that the pod is bound to, or empty.
	Node string
	// Terminating pods vote until they are gone.
	Terminating bool
	// Gated pods wait for a scheduling gate.
	Gated bool
	// Guarded pods request quorate.io/voter, so that the extender is asked for them.
	Guarded bool
	// Scheduler that the pod names.
	Scheduler string
	// Nominated says that the pod, not bound yet, has a nominated node, or one of its
	// claims a selected node: some scheduling attempt is past Filter and goes on.
	Nominated bool
	// Unscheduled is reason and message of PodScheduled=False ("Unschedulable: 0/3
	// nodes are available"), as last seen: a change of it says that an attempt ended.
	// Empty while the condition is absent or true.
	Unscheduled string
	// Occupies is, by level, the domains in which the member counts: its node's if
	// bound, else where its volumes pin it to, its nominated node's, and that of its
	// claims' selected node. Each domain once.
	Occupies [][]Domain
	// Pinned is, by level, the domains that its volumes leave it; nil where they
	// leave it free.
	Pinned [][]Domain
}

// Judgement is one configuration that a placement is judged by: the live one, or
// the declared target.
type Judgement struct {
	// Name is "live" or "declared".
	Name string
	// Voters is how many there are, for messages.
	Voters int
	// Counts are the members that vote in it.
	Counts quorum.Set
	// System is over the members' numbers; voters of the configuration that are no
	// member yet have numbers above them.
	System quorum.System
}

// Survives reports whether a quorum of the configuration remains when the members
// of gone are lost. Where more members count than it has voters (a scale-down in
// progress), each of gone may be one of the voters, and is taken for one.
func (j *Judgement) Survives(gone quorum.Set) bool {
	panic("to be written")
}

// Snapshot is what was known at one moment. It is immutable and safe for
// concurrent use.
type Snapshot struct{}

// Of returns the ensemble that a pod with these labels belongs to. A pod that two
// ensembles select belongs to the older one, by creation time, then by name.
func (s *Snapshot) Of(namespace string, labels map[string]string) (*Ensemble, bool) {
	panic("to be written")
}

// Get returns the ensemble of that name.
func (s *Snapshot) Get(key types.NamespacedName) (*Ensemble, bool) {
	panic("to be written")
}

// Ensembles yields all ensembles, in no order.
func (s *Snapshot) Ensembles() iter.Seq[*Ensemble] {
	panic("to be written")
}

// Domain is the domain of the node at the level. ok is false where the node is not
// known or bears no such label.
func (s *Snapshot) Domain(node string, l Level) (d Domain, ok bool) {
	panic("to be written")
}

// Domains yields the domains of the level that the known nodes show, with how many
// nodes each has, in no order.
func (s *Snapshot) Domains(l Level) iter.Seq2[Domain, int] {
	panic("to be written")
}

// HasNode reports whether the node is known.
func (s *Snapshot) HasNode(node string) bool {
	panic("to be written")
}

// Nested reports whether every domain of inner lies in one domain of outer, judged
// from the labels of the nodes: then what is safe for outer is safe for inner.
func (s *Snapshot) Nested(inner, outer Level) bool {
	panic("to be written")
}
