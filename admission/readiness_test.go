package admission

import (
	"testing"
	"time"

	"github.com/quorate/quorate/ensemble/probe"
	"github.com/quorate/quorate/ensemble/v1alpha1"
)

// That a pod is not ready is no word of a process in it: a member that crash-loops, and
// is judged by its readiness, is down.
func TestUnreadyIsNoWord(t *testing.T) {
	probed := func(name string, ready bool) probe.Answer {
		target := probe.Target{Name: name, IP: address("10.0.0.1"), Ready: ready}
		return (&probe.Generic{}).Probe(t.Context(), target)
	}
	for name, c := range map[string]struct {
		answer probe.Answer
		want   Outcome
	}{
		"not ready":      {probed("kv-2", false), AllowDown},
		"ready":          {probed("kv-2", true), DenyUnsafe},
		"it says itself": {probe.Answer{Heard: true, Role: probe.Voter, Source: "HTTP"}, DenyUnsafe},
	} {
		t.Run(name, func(t *testing.T) {
			e := &v1alpha1.Ensemble{}
			e.Status.Guard = &v1alpha1.GuardStatus{Armed: true}
			answers := []probe.Answer{probed("kv-0", true), probed("kv-1", false), c.answer}
			ev := Evidence{
				Ensemble: e, Now: noon, View: probe.Judge(answers, probe.Rules{Leaderless: true, Voters: 3}, time.Now()),
				Pods: []Pod{{Name: "kv-0", UID: "0", Running: true}, {Name: "kv-1", UID: "1", Running: true}, {Name: "kv-2", UID: "2"}},
			}
			if d := Decide(ev, Ask{Targets: []int{2}, Reason: Eviction, RequestUID: "r", Exact: true}, Timing{}); d.Outcome != c.want {
				t.Errorf("got %s: %s, want %s", d.Outcome, d.Message, c.want)
			}
		})
	}
}
