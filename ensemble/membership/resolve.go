package membership

import (
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/quorate/quorate/ensemble/quorum"
	"github.com/quorate/quorate/ensemble/v1alpha1"
)

// Resolve is what status.topology of the ensemble should be: spec.topology where
// there is one, taken literally. Else hosts are protected, and zones where the
// nodes show enough of them for the voters, counting only those that the members'
// selectors, affinities, tolerations and volumes allow; where there are at least
// two but not enough, zones are preferred.
//
// What status.topology says already is kept and only tightened, so that a zone that
// is lost cannot loosen it. It is nil while the voters are not known.
func Resolve(s *Snapshot, e *Ensemble) []v1alpha1.TopologyLevel {
	if len(e.Object.Spec.Topology) > 0 {
		return e.Object.Spec.Topology
	}
	was := e.Object.Status.Topology
	j := e.target()
	if j == nil {
		return was
	}
	is := tighten(was, v1alpha1.TopologyLevel{TopologyKey: corev1.LabelHostname, WhenUnsatisfiable: v1alpha1.DoNotSchedule})
	zone := Level{Key: corev1.LabelTopologyZone, Hard: true}
	level := v1alpha1.TopologyLevel{TopologyKey: zone.Key, WhenUnsatisfiable: v1alpha1.ScheduleAnyway}
	if j.Enforced() && s.feasible(e, j, []Level{zone}) == quorum.Safe {
		level.WhenUnsatisfiable = v1alpha1.DoNotSchedule
	} else if len(s.nodes.domains(zone)) < 2 {
		return is
	}
	return tighten(is, level)
}

// Unresolved reports whether status.topology is other than Resolve says.
func Unresolved(s *Snapshot, e *Ensemble) bool {
	return !slices.Equal(Resolve(s, e), e.Object.Status.Topology)
}

// target is the judgement that the ensemble is to end at.
func (e *Ensemble) target() *Judgement {
	if len(e.Judgements) == 0 {
		return nil
	}
	return &e.Judgements[len(e.Judgements)-1]
}

// tighten adds a level to the list; one that is there may become hard, never soft.
func tighten(list []v1alpha1.TopologyLevel, l v1alpha1.TopologyLevel) []v1alpha1.TopologyLevel {
	list = slices.Clone(list)
	for i := range list {
		if list[i].TopologyKey == l.TopologyKey && list[i].Within == l.Within {
			if l.WhenUnsatisfiable == v1alpha1.DoNotSchedule {
				list[i].WhenUnsatisfiable = v1alpha1.DoNotSchedule
			}
			return list
		}
	}
	return append(list, l)
}
