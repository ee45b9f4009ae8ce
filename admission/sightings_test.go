package admission

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/quorate/quorate/ensemble/probe"
	"github.com/quorate/quorate/ensemble/v1alpha1"
)

// oneGrant is an Ensemble that lets zk-0 go, at noon.
func oneGrant(reason string, requests ...string) *v1alpha1.Ensemble {
	e := &v1alpha1.Ensemble{ObjectMeta: metav1.ObjectMeta{Namespace: "data", Name: "zk", UID: "ens"}}
	e.Status.Grants = []v1alpha1.Grant{{
		PodUID: "old", Name: "zk-0", PodIP: "10.0.0.1", Reason: reason, RequestUIDs: requests, Since: metav1.NewTime(noon),
	}}
	return e
}

// A grant that may hit the next pod of the name from now on is kept for as long as one
// that always might, though the request that made it so is no longer among its own: it
// was taken back.
func TestAgeStartsAgainWithTheReason(t *testing.T) {
	m := NewMemory(1)
	for _, c := range []struct {
		after            time.Duration
		seen             *v1alpha1.Ensemble
		first, unchanged time.Duration
	}{
		{0, oneGrant(Eviction, "r1"), 0, 0},
		{20 * time.Second, oneGrant(Eviction, "r1"), 20 * time.Second, 20 * time.Second},
		{30 * time.Second, oneGrant(EvictionByName, "r1"), 30 * time.Second, 0},
		{35 * time.Second, oneGrant(EvictionByName, "r1"), 35 * time.Second, 5 * time.Second},
	} {
		got := m.See(c.seen, noon.Add(c.after)).Grants["old"]
		if got.First != c.first || got.Unchanged != c.unchanged {
			t.Errorf("after %s: got %+v, want first seen for %s, unchanged for %s", c.after, got, c.first, c.unchanged)
		}
	}
}

// The successor is synced for as long as the same process was, in all probes since: not
// as the next process of its pod, nor across a probe that found it otherwise.
func TestSuccessorIsOneProcessAllTheTime(t *testing.T) {
	type look struct {
		process string
		health  probe.Health
		want    time.Duration
	}
	for name, looks := range map[string][]look{ // ten seconds apart
		"one process": {
			{"a", probe.Synced, 0}, {"a", probe.Synced, 10 * time.Second}, {"a", probe.Synced, 20 * time.Second},
		},
		"the next process of the pod": {
			{"a", probe.Synced, 0}, {"b", probe.Synced, 0}, {"b", probe.Synced, 10 * time.Second},
		},
		"lost in between": {
			{"a", probe.Synced, 0}, {"a", probe.NotSynced, 0}, {"a", probe.Synced, 0}, {"a", probe.Synced, 10 * time.Second},
		},
	} {
		t.Run(name, func(t *testing.T) {
			m, e := NewMemory(1), oneGrant(Eviction, "r1")
			for i, l := range looks {
				at := noon.Add(time.Duration(i) * 10 * time.Second)
				ev := Evidence{
					Ensemble: e, Ages: m.See(e, at), Now: at,
					Pods: []Pod{{Name: "zk-0", UID: "new", IP: address("10.0.0.1"), Running: true, Process: l.process}},
					View: probe.View{Known: true, Counted: -1, Leader: -1, At: at, Members: []probe.Member{{Name: "zk-0", Health: l.health}}},
				}
				m.Probed(&ev)
				if got := ev.Ages.Grants["old"].Synced; got != l.want {
					t.Errorf("look %d: got a successor that is synced for %s, want %s", i, got, l.want)
				}
			}
		})
	}
}
