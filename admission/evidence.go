package admission

import (
	"net/netip"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/quorate/quorate/ensemble/probe"
	"github.com/quorate/quorate/ensemble/quorum"
	"github.com/quorate/quorate/ensemble/v1alpha1"
)

// Fate is what became of a granted pod, by a live read. The zero value is not
// known, and keeps the grant.
type Fate uint8

// The fates.
const (
	FateUnknown Fate = iota
	// Lives undeleted: the yes was not used yet.
	Lives
	// Terminating: it was used.
	Terminating
	// Gone: no pod of that uid is left.
	Gone
)

// Pod is a member pod as the API server knows it.
type Pod struct {
	Name string
	UID  types.UID
	// Version is its resourceVersion.
	Version string
	Node    string
	// IP of the pod; invalid where it has none.
	IP netip.Addr
	// Running is whether a container of it runs, the server's or another.
	Running bool
	// Process tells one start of its containers from the next, where that is known.
	Process string
	// Terminating is whether its deletion has begun.
	Terminating bool
	// Owner is the uid of its controller, and Ordinal its number in a StatefulSet, -1
	// without.
	Owner   types.UID
	Ordinal int
	// Observer is whether spec.observers selects it.
	Observer bool
}

// Evidence is everything that a decision about one Ensemble rests on. All of it
// was read after Ensemble was.
type Evidence struct {
	// Ensemble by quorum read; its resourceVersion is what a grant is written against.
	Ensemble *v1alpha1.Ensemble
	// Pods of the ensemble by consistent list, in the order of View.Members.
	Pods []Pod
	// View of their live health.
	View probe.View
	// Fates of the granted pods, by uid.
	Fates map[string]Fate
	// Ages by the observer's own clock.
	Ages Ages
	// Now, for messages and the age of the evidence.
	Now time.Time
}

// Ask is a request to lose members.
type Ask struct {
	// Targets are indexes into Pods.
	Targets []int
	// Reason of grants: Eviction, EvictionByName, Deletion, ScaleDown.
	Reason string
	// RequestUID and User of the request.
	RequestUID, User string
	// Exact is whether the request can take the targets only as they are in Pods: one
	// that comes back to life is not hit.
	Exact bool
	// Budget is the PodDisruptionBudget for whose sake it can't, though it is bound to
	// the version of its pod.
	Budget string
	// Waiting are other members that somebody wants to evict, for the hint that the
	// leader goes last; empty once the leader was held back long enough.
	Waiting []string
}

// Reasons of grants.
const (
	// Eviction of exactly this pod: the request bears its uid.
	Eviction = "Eviction"
	// EvictionByName may hit the next pod of the name, if it is slow.
	EvictionByName = "EvictionByName"
	// Deletion of the pod.
	Deletion = "Deletion"
	// ScaleDown of its StatefulSet.
	ScaleDown = v1alpha1.GrantScaleDown
)

// granted is the set of voters that grants count as gone: whoever is that pod,
// bears its name, or claims its server id, now or in the configuration alone.
func (ev *Evidence) granted(grants []v1alpha1.Grant) quorum.Set {
	var gone quorum.Set
	for i := range grants {
		gone |= ev.claims(&grants[i])
	}
	return gone
}

func (ev *Evidence) claims(g *v1alpha1.Grant) quorum.Set {
	var s quorum.Set
	for i := range ev.Pods {
		m := &ev.View.Members[i]
		if string(ev.Pods[i].UID) == g.PodUID || ev.Pods[i].Name == g.Name || g.ServerID != "" && m.ServerID == g.ServerID {
			s = s.With(i)
		}
	}
	for i, id := range ev.View.Strangers {
		if id == g.ServerID {
			s = s.With(len(ev.Pods) + i)
		}
	}
	return s
}

// leaving is the set of members whose deletion has begun, and of those without a
// running process, whatever answers at their address.
func (ev *Evidence) leaving() quorum.Set {
	s := ev.stopped()
	for i := range ev.Pods {
		if ev.Pods[i].Terminating {
			s = s.With(i)
		}
	}
	return s
}

// stopped is the set of members without a running process, by their pods' status.
func (ev *Evidence) stopped() quorum.Set {
	var s quorum.Set
	for i := range ev.Pods {
		if !ev.Pods[i].Running {
			s = s.With(i)
		}
	}
	return s
}

// votes reports whether losing the member may lose a vote. What the live
// configuration says counts; without one, what the spec says. One that does not settle
// everything may still tell who votes, but not who does not.
func (ev *Evidence) votes(i int) bool {
	v := &ev.View
	switch {
	case v.Live && (v.Members[i].Votes || v.Voters().Has(i)):
		return true
	case v.Live && v.Known:
		return ev.mayBeStranger(i)
	default:
		return !ev.Pods[i].Observer || v.Live && ev.mayBeStranger(i)
	}
}

// mayBeStranger reports whether the member may be a voter that no member is known
// to be.
func (ev *Evidence) mayBeStranger(i int) bool {
	return ev.View.Members[i].ServerID == "" && len(ev.View.Strangers) > 0 && !ev.View.Voters().Has(i)
}

// loss is the set of voters that go with the targets.
func (ev *Evidence) loss(targets []int) quorum.Set {
	var s quorum.Set
	for _, i := range targets {
		s = s.With(i)
		for j := range ev.View.Strangers {
			if id := ev.View.Strangers[j]; ev.mayBeStranger(i) || id == ev.View.Members[i].ServerID {
				s = s.With(len(ev.Pods) + j)
			}
		}
	}
	return s
}

// well reports whether the evidence is whole: one answer for each pod.
func (ev *Evidence) well() bool {
	return ev.Ensemble != nil && len(ev.Pods) == len(ev.View.Members) &&
		len(ev.Pods)+len(ev.View.Strangers) <= quorum.MaxVoters
}
