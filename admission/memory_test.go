package admission

import (
	"net/netip"
	"testing"
	"time"

	"github.com/quorate/quorate/ensemble/probe"
	"github.com/quorate/quorate/ensemble/quorum"
	"github.com/quorate/quorate/ensemble/v1alpha1"
)

// How long a successor is synced is told by the views in the order in which they were
// asked for: rounds of probes overlap, and one that is overtaken makes nothing older.
func TestMemoryOfSuccessors(t *testing.T) {
	start := time.Unix(1e9, 0)
	type look struct {
		at     time.Duration
		synced bool
		want   time.Duration
	}
	for name, looks := range map[string][]look{
		"in order":                 {{1, true, 0}, {3, true, 2}, {4, true, 3}},
		"lost in between":          {{1, true, 0}, {3, false, 0}, {4, true, 0}, {6, true, 2}},
		"overtaken":                {{5, true, 0}, {1, true, 0}, {6, true, 1}},
		"lost, then overtaken":     {{5, false, 0}, {1, true, 0}, {6, true, 0}, {8, true, 2}},
		"overtaken by a loss seen": {{5, true, 0}, {3, false, 0}, {6, true, 0}, {7, true, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			e := &v1alpha1.Ensemble{}
			e.UID = "e"
			e.Status.Grants = []v1alpha1.Grant{{PodUID: "old", Name: "zk-0", RequestUIDs: []string{"r"}}}
			m := NewMemory(1)
			m.See(e, start)
			for i, l := range looks {
				ev := Evidence{
					Ensemble: e, Ages: Ages{Grants: map[string]GrantAge{}},
					Pods: []Pod{{Name: "zk-0", UID: "new", Running: true, IP: netip.MustParseAddr("10.0.0.1")}},
					View: probe.View{Known: true, Leader: -1, System: quorum.Majority(quorum.First(1)), At: start.Add(l.at), Members: []probe.Member{{Name: "zk-0", Health: probe.Unseen}}},
				}
				if l.synced {
					ev.View.Members[0].Health, ev.View.Synced = probe.Synced, quorum.First(1)
				}
				m.Probed(&ev)
				if got := ev.Ages.Grants["old"].Synced; got != l.want {
					t.Errorf("look %d: synced for %d, want %d", i, got, l.want)
				}
			}
		})
	}
}

// A quorum is lost for as long as every look showed it so: an election in between ends
// it, and so does a long time in which nobody looked.
func TestMemoryOfALoss(t *testing.T) {
	start := time.Unix(1e9, 0)
	type look struct {
		at   time.Duration
		lost bool
		want time.Duration
	}
	for name, looks := range map[string][]look{
		"lasts":           {{0, true, 0}, {30 * time.Second, true, 30 * time.Second}, {80 * time.Second, true, 80 * time.Second}},
		"interrupted":     {{0, true, 0}, {30 * time.Second, false, 0}, {40 * time.Second, true, 0}, {50 * time.Second, true, 10 * time.Second}},
		"nobody looked":   {{0, true, 0}, {lostFor, true, 0}, {lostFor + time.Second, true, time.Second}},
		"overtaken":       {{0, true, 0}, {30 * time.Second, true, 30 * time.Second}, {10 * time.Second, false, 30 * time.Second}},
		"begins to serve": {{0, true, 0}, {30 * time.Second, true, 30 * time.Second}, {31 * time.Second, false, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			e := &v1alpha1.Ensemble{}
			e.UID = "e"
			m := NewMemory(1)
			m.See(e, start)
			for i, l := range looks {
				ev := Evidence{
					Ensemble: e, Pods: []Pod{{Name: "zk-0"}},
					View: probe.View{Leader: -1, System: quorum.Majority(quorum.First(1)), At: start.Add(l.at), Members: []probe.Member{{Name: "zk-0", Health: probe.NotSynced}}},
				}
				if !l.lost {
					ev.View.Synced = quorum.First(1)
				}
				m.Probed(&ev)
				if got := ev.Ages.Lost; got != l.want {
					t.Errorf("look %d: lost for %s, want %s", i, got, l.want)
				}
			}
		})
	}
}
