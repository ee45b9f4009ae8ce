package membership

import (
	"k8s.io/apimachinery/pkg/types"

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
	// nothing is known yet, and nothing may be placed; Problem says why.
	Judgements []Judgement
	// Problem says in words why there are no Judgements, and how to mend it.
	Problem string
	// Overlaps are the other ensembles that select some of the same pods.
	Overlaps []types.NamespacedName

	// needs are what members, and voters that are none yet, demand of their nodes.
	needs map[string]need
	// typical is what voters of whom nothing is known will demand.
	typical need
}

// need of the member or voter of that name.
func (e *Ensemble) need(name string) need {
	if n, ok := e.needs[name]; ok {
		return n
	}
	return e.typical
}

// Member is one member of an ensemble: a pod, or the volume of one that is absent.
type Member struct {
	// Name of the pod, there or not.
	Name string
	// UID of the pod; empty where only its volume is there.
	UID types.UID
	// Observer members are selected by spec.observers: they count in the live
	// configuration alone, if they vote in it.
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
	// claims a selected node: some scheduling attempt is past Filter and goes on. A
	// claim whose volume is there tells nothing any more: the annotation stays.
	Nominated bool
	// Unscheduled is reason and message of PodScheduled=False ("Unschedulable: 0/3
	// nodes are available"), as last seen: a change of it says that an attempt ended.
	// Empty while the condition is absent or true.
	Unscheduled string
	// Occupies is, by level, the domains in which the member counts: its node's if
	// bound, else where its volumes pin it to, its nominated node's, and that of its
	// claims' selected node. Each domain once.
	Occupies [][]Domain
	// Pinned is, by level, the domain that its volumes pin it to; nil where they
	// leave it more than one.
	Pinned [][]Domain
}

// Bound reports whether the pod has a node.
func (m *Member) Bound() bool { return m.Node != "" }

// Index of the member of that name, -1 if there is none.
func (e *Ensemble) Index(name string) int {
	for i := range e.Members {
		if e.Members[i].Name == name {
			return i
		}
	}
	return -1
}

// levels are what the object says, in the form that placement uses.
func levels(o *v1alpha1.Ensemble) (list []Level, resolved bool) {
	topology := o.Spec.Topology
	if len(topology) == 0 {
		topology = o.Status.Topology
	}
	for _, t := range topology {
		list = append(list, Level{
			Key: t.TopologyKey, Within: t.Within, Hard: t.WhenUnsatisfiable != v1alpha1.ScheduleAnyway,
		})
	}
	return list, len(list) > 0
}
