package membership

import (
	"flag"
	"fmt"
	"os"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"pgregory.net/rapid"

	"github.com/quorate/quorate/ensemble/quorum"
	"github.com/quorate/quorate/ensemble/v1alpha1"
)

// TestMain lets long runs try more.
func TestMain(m *testing.M) {
	if who := os.Getenv(memoryChild); who != "" {
		remember(who)
		return
	}
	flag.Parse()
	if os.Getenv("QUORATE_CHAOS") != "" {
		if err := flag.Set("rapid.checks", "2000"); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

// tries every placement of the voters from number i on.
func tries(j *Judgement, places []map[int]bool, i int, in map[int]quorum.Set) bool {
	if i == len(places) {
		for _, set := range in {
			if !j.Survives(set) {
				return false
			}
		}
		return true
	}
	for d := range places[i] {
		in[d] = in[d].With(i)
		ok := tries(j, places, i+1, in)
		in[d] = in[d].Minus(quorum.SetOf(i))
		if ok {
			return true
		}
	}
	return false
}

// Whether a safe placement exists is what trying all of them says: for equal votes,
// weights and groups, whatever volumes leave each voter, and while it shrinks.
func TestFeasibleAgreesWithEveryPlacement(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const zoneNames = "abcd"
		zoneCount := rapid.IntRange(1, 4).Draw(t, "zones")
		members, votes := rapid.IntRange(3, 6).Draw(t, "members"), rapid.Int32Range(3, 6).Draw(t, "voters")
		members = max(members, int(votes)) // fewer would leave anonymous voters, free to go anywhere
		var all []runtime.Object
		for i := range zoneCount {
			all = append(all, nodeOf(fmt.Sprint("n", i), zoneNames[i:i+1]))
		}
		e := ensembleOf("zk", onZones(), voters(votes))
		if rapid.Bool().Draw(t, "weighted") {
			e.Spec.Quorum = &v1alpha1.QuorumSpec{}
			for i := range members {
				e.Spec.Quorum.Members = append(e.Spec.Quorum.Members, v1alpha1.QuorumMember{
					Name: fmt.Sprint("zk-", i), Group: pick(t, "group", "x", "x", "y", "z"), Weight: new(rapid.Int64Range(0, 3).Draw(t, "weight"))})
			}
		}
		all = append(all, e, setOf("zk", int32(members), func(s *appsv1.StatefulSet) { s.Spec.VolumeClaimTemplates = nil }))
		places := make([]map[int]bool, members)
		for i := range places {
			places[i] = map[int]bool{}
			var values []string
			for z := range zoneCount {
				if rapid.IntRange(0, 2).Draw(t, "reaches") > 0 {
					places[i][z], values = true, append(values, zoneNames[z:z+1])
				}
			}
			pod := podOf(fmt.Sprint("zk-", i), "")
			if len(values) == 0 {
				values = []string{"nowhere"}
			}
			all = append(all, pod)
			all = append(all, pinned(pod.Name, zoneKey, values...)...)
		}
		s := FromObjects(all...)
		ens, _ := s.Get(zk)
		if len(ens.Judgements) == 0 {
			return // every weight is zero
		}
		j := ens.target()
		want := quorum.Unsafe
		if tries(j, places, 0, map[int]quorum.Set{}) {
			want = quorum.Safe
		}
		if got := s.feasible(ens, j, ens.Levels); got != want {
			t.Fatalf("feasible = %v, trying every placement of %v says %v\n%s", got, places, want, picture(ens))
		}
	})
}

// Survives of a shrinking ensemble is the worst over every choice of its voters.
func TestSurvivesTheWorstChoice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n, k := rapid.IntRange(1, 7).Draw(t, "members"), rapid.IntRange(1, 7).Draw(t, "voters")
		e := electorate{name: Declared, voters: k}
		weighted := rapid.Bool().Draw(t, "weighted")
		for i := range max(n, k) {
			v := voice{number: i, member: i < n, name: fmt.Sprint("zk-", i), weight: 1}
			if weighted {
				v.weight = rapid.Uint64Range(1, 3).Draw(t, "weight")
			}
			e.voices = append(e.voices, v)
		}
		j, err := e.judgement()
		if err != nil {
			t.Fatal(err)
		}
		gone := quorum.Set(rapid.Uint64().Draw(t, "gone")) & quorum.First(n)
		want := true
		for choice := range quorum.Set(1) << len(e.voices) {
			if choice.Len() != k {
				continue
			}
			left, total := uint64(0), uint64(0)
			for i := range choice.Servers() {
				total += e.voices[i].weight
				if !gone.Has(i) {
					left += e.voices[i].weight
				}
			}
			want = want && left > total/2
		}
		if got := j.Survives(gone); got != want {
			t.Fatalf("%d members, %d voters: Survives(%b) = %v, every choice of voters says %v: %+v", n, k, gone, got, want, e.voices)
		}
	})
}

// Too many ways to shrink, and too many placements to try, are never called safe.
func TestGivesUpOnTheSafeSide(t *testing.T) {
	e := electorate{name: Declared, voters: 12}
	for i := range 24 {
		e.voices = append(e.voices, voice{number: i, member: true, weight: uint64(1 + i%2)})
	}
	j, err := e.judgement()
	if err != nil || j.Survives(quorum.SetOf(1)) {
		t.Errorf("err = %v; a loss is survived although not every choice was tried", err)
	}
	all := objects(setOf("zk", 24), ensembleOf("zk", onZones(), func(e *v1alpha1.Ensemble) {
		e.Spec.Quorum = &v1alpha1.QuorumSpec{}
		for i := range 24 {
			e.Spec.Quorum.Members = append(e.Spec.Quorum.Members, v1alpha1.QuorumMember{Name: fmt.Sprint("zk-", i), Weight: new(int64(1000 + i))})
		}
	}), zones("a", "b"))
	s := FromObjects(all...)
	ens, _ := s.Get(zk)
	if c := PlacementFeasible(s, ens); c.Status != "Unknown" {
		t.Errorf("PlacementFeasible = %s", said(c))
	}
	if got := Resolve(s, ensAs(s, nil)); got[1].WhenUnsatisfiable != v1alpha1.ScheduleAnyway {
		t.Errorf("zones are %s by default although nobody knows whether that can be met", got[1].WhenUnsatisfiable)
	}
}

// ensAs is the ensemble zk with another spec.topology.
func ensAs(s *Snapshot, topology []v1alpha1.TopologyLevel) *Ensemble {
	e, _ := s.Get(zk)
	other := *e
	other.Object = e.Object.DeepCopy()
	other.Object.Spec.Topology = topology
	return &other
}

// Tolerations, as the scheduler reads them.
func TestTolerates(t *testing.T) {
	taint := corev1.Taint{Key: "k", Value: "v", Effect: corev1.TaintEffectNoSchedule}
	for name, c := range map[string]struct {
		toleration corev1.Toleration
		want       bool
	}{
		"everything":     {corev1.Toleration{Operator: corev1.TolerationOpExists}, true},
		"the key":        {corev1.Toleration{Key: "k", Operator: corev1.TolerationOpExists}, true},
		"the value":      {corev1.Toleration{Key: "k", Value: "v"}, true},
		"another value":  {corev1.Toleration{Key: "k", Value: "w"}, false},
		"another key":    {corev1.Toleration{Key: "l", Operator: corev1.TolerationOpExists}, false},
		"another effect": {corev1.Toleration{Key: "k", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute}, false},
	} {
		if got := tolerates(&c.toleration, &taint); got != c.want {
			t.Errorf("%s: tolerates = %v, want %v", name, got, c.want)
		}
	}
}
