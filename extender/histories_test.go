package extender

import (
	"fmt"
	"iter"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"

	"github.com/quorate/quorate/ensemble/membership"
)

// starved finds a pod that waits although some node is safe for it, by the model.
func (h *history) starved() error {
	for name, p := range h.truth.pods {
		if p.node != "" {
			continue
		}
		for _, n := range h.truth.nodeNames() {
			if h.truth.allows(name, n) && h.truth.safe(name, p, n) {
				return fmt.Errorf("stuck: %s waits %v after the last fault, and %s is safe for it", name, horizon, n)
			}
		}
	}
	return nil
}

// safe reports whether no voters that may be in force are lost with a domain of the
// node once the pod is there, too. Where its volume has it, it counts already.
func (w *world) safe(name string, p *worldPod, node string) bool {
	pinned := w.pinned(name)
	p.node = node
	defer func() { p.node = "" }()
	_, guessed := w.elected()
	for _, e := range []electorate{w.declared(w.voters), guessed} {
		fatal := w.fatal(e, nobodyExcused)
		if e.voters > 0 && e.breaks(nil) { // not a quorum of them all
			return false
		}
		if slices.ContainsFunc(w.domains(node), func(d string) bool { return fatal[d] && !slices.Contains(pinned, d) }) {
			return false
		}
	}
	return true
}

// TestHistories plays the same histories every time; QUORATE_CHAOS=1 plays twenty
// times as many.
func TestHistories(t *testing.T) {
	runs := uint64(160)
	if os.Getenv("QUORATE_CHAOS") != "" {
		runs *= 20
	}
	for seed := range runs {
		h := seeded(seed)
		if err := h.play(); err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, strings.Join(h.log, "\n"))
		}
	}
	t.Logf("chaos: placement-histories runs=%d violations=0", runs)
}

// TestHistoriesRepeat makes sure that a seed is one history, so that what fails once
// fails again.
func TestHistoriesRepeat(t *testing.T) {
	for seed := range uint64(5) {
		var logs [2][]string
		for i := range logs {
			h := seeded(seed)
			if err := h.play(); err != nil {
				t.Fatalf("seed %d: %v\n%s", seed, err, strings.Join(h.log, "\n"))
			}
			logs[i] = h.log
		}
		if diff := cmp.Diff(logs[0], logs[1]); diff != "" {
			t.Fatalf("seed %d plays two histories (-first +second):\n%s", seed, diff)
		}
	}
}

// seeded is the history of a seed. In every other one, nodes are registered anew.
func seeded(seed uint64) *history {
	return &history{choose: rand.New(rand.NewPCG(seed, 0)).IntN, decider: newLedger, registers: seed%2 == 1}
}

func newLedger() decider { return NewLedger(Timing{}) }

// forgetful sees nothing over time, and pokes nobody.
type forgetful struct{}

func (forgetful) See(time.Time, *membership.Ensemble)                       {}
func (forgetful) Reopened(Nodes, *membership.Ensemble) []*membership.Member { return nil }

// naive counts what the informers show and holds nothing.
type naive struct{ forgetful }

func (naive) Filter(_ time.Time, nodes Nodes, e *membership.Ensemble, uid types.UID, given []string, _ bool) Answer {
	i := find(e, uid)
	if i < 0 {
		return Answer{Outcome: Unknown}
	}
	return Filter(nodes, e, Candidate{Member: i}, given, func(*membership.Member) Claim { return Claim{} })
}

// refusing is safe and useless.
type refusing struct{ forgetful }

func (refusing) Filter(time.Time, Nodes, *membership.Ensemble, types.UID, []string, bool) Answer {
	return Answer{Outcome: Held}
}

// declaredAlone holds as it should, and forgets the live configuration.
type declaredAlone struct{ *Ledger }

func (d declaredAlone) Filter(now time.Time, nodes Nodes, e *membership.Ensemble, uid types.UID, given []string, nominated bool) Answer {
	without := *e
	without.Judgements = slices.DeleteFunc(slices.Clone(e.Judgements), func(j membership.Judgement) bool { return j.Name == membership.Live })
	return d.Ledger.Filter(now, nodes, &without, uid, given, nominated)
}

// neverPoking holds as it should, and leaves it to the scheduler to try again.
type neverPoking struct{ *Ledger }

func (neverPoking) Reopened(Nodes, *membership.Ensemble) []*membership.Member { return nil }

// trusting holds as it should, and does not care who answered before it.
type trusting struct{ *Ledger }

func (trusting) Doubt(time.Time, iter.Seq[*membership.Ensemble]) {}

// familiar holds as it should, and takes a pod that it sees for the first time for
// one that nobody has seen.
type familiar struct{ *Ledger }

func (familiar) Strangers(time.Time) {}

// TestHistoriesCatch makes sure that the histories find what they look for.
func TestHistoriesCatch(t *testing.T) {
	for name, c := range map[string]struct {
		decider func() decider
		word    string
		runs    uint64
		least   int
	}{
		"naive":          {func() decider { return naive{} }, "unsafe", 20, 5},
		"refusing":       {func() decider { return refusing{} }, "stuck", 20, 5},
		"declared alone": {func() decider { return declaredAlone{NewLedger(Timing{})} }, "unsafe", 40, 5},
		"spread":         {newSpread, "unsafe", 20, 5},
		"trusting":       {func() decider { return trusting{NewLedger(Timing{})} }, "unsafe", 80, 5},
		"familiar":       {func() decider { return familiar{NewLedger(Timing{})} }, "unsafe", 80, 1},
		"never poking":   {func() decider { return neverPoking{NewLedger(Timing{})} }, "stuck", 80, 5},
	} {
		caught, runs := 0, uint64(0)
		for ; runs < c.runs && caught < c.least; runs++ {
			r := rand.New(rand.NewPCG(runs, 1))
			h := &history{choose: r.IntN, decider: c.decider}
			if err := h.play(); err != nil && strings.HasPrefix(err.Error(), c.word) {
				caught++
			}
		}
		if caught < c.least {
			t.Errorf("%s: caught in %d of %d histories, want at least %d", name, caught, runs, c.least)
		}
		t.Logf("%s: caught in %d of %d histories", name, caught, runs)
	}
}
