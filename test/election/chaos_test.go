package election

import (
	"testing"
	"time"
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
	t.Run("data-lost-at-once", func(t *testing.T) { // last: tokens begin anew
		a.loseData(t, runs, 0)
	})
	if longForm() {
		t.Run("data-lost", func(t *testing.T) { a.loseData(t, runs, long) })
	}
}

// loseData kills the whole ensemble, and starts it after a while with nothing in it,
// so that no session is known and its servers are behind what the candidates saw.
func (a *arena) loseData(t *testing.T, runs int, after time.Duration) {
	t.Helper()
	var history []act
	for life := range int64(runs) {
		start := a.resource.length()
		_, last := a.leader(t)
		killed := monotonic()
		for _, s := range a.ensemble.Servers() {
			check(t, s.Kill())
		}
		elapse(t, after)
		for _, s := range a.ensemble.Servers() {
			check(t, s.WipeData())
			check(t, s.Start(t.Context()))
		}
		a.heal(t)
		a.direct = dial(a.owner, a.ensemble.Connect()) // the old one has seen too much to be let in
		reborn := func(x act) bool { return x.Checked > killed && x.Visit != last.Visit }
		a.awaitAct(t, "a leader in the new life", reborn)
		for _, x := range a.resource.history(start) {
			if reborn(x) {
				x.Token += (life + 1) << 56 // tokens begin anew, and later ones are higher to the judge
			} else {
				x.Token += life << 56
			}
			history = append(history, x)
		}
	}
	a.judge(t, "data-lost", runs, history, 0)
}
