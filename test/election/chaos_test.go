package election

import (
	"fmt"
	"testing"
)

func chaosRuns() int {
	if longForm() {
		return 20
	}
	return 1
}

// Whatever happens to candidates and to their links, no two lead.
func TestChaos(t *testing.T) {
	together(t)
	openArena(t, "candidate").suffer(t, chaosRuns(), faultsAt(atCandidates))
}

// Whatever happens to servers, and between them.
func TestChaosOfServers(t *testing.T) {
	together(t)
	runs := chaosRuns()
	a := openServers(t, "candidate", 4)
	a.suffer(t, runs, faultsAt(atServers))
	if slow := faultsAt(atPeers); len(slow) > 0 {
		openPeers(t, "candidate").suffer(t, runs, slow)
	}
	t.Run("data-lost", func(t *testing.T) { // last: it makes the resource forget
		found := 0
		for range runs {
			dataLost(t, a)
			found += len(violations(a.resource.history(0), chaosStop)) + len(stale(a.resource.history(0)))
		}
		fmt.Printf("chaos: data-lost runs=%d violations=%d\n", runs, found)
		if found > 0 {
			t.Errorf("violations: got %d, want none", found)
		}
	})
}

// dataLost restarts the whole ensemble with nothing in it. Tokens begin anew, so what
// was acted on must forget them, and nobody may lead from before.
func dataLost(t *testing.T, a *arena) {
	for _, s := range a.ensemble.Servers() {
		check(t, s.Kill())
	}
	elapse(t, long) // by then every leader has stopped, or breaks what follows
	a.resource.forget()
	for _, s := range a.ensemble.Servers() {
		check(t, s.WipeData())
		check(t, s.Start(t.Context()))
	}
	a.heal(t)
	a.awaitLeader(t, monotonic())
}
