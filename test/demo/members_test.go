package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestVerdictSaysWhatMayBeLost(t *testing.T) {
	counts := func(a, b, c int) map[string]int { return map[string]int{"zone-a": a, "zone-b": b, "zone-c": c} }
	for name, c := range map[string]struct {
		state state
		want  string
	}{
		"safe":                {state{perZone: counts(2, 2, 1), alive: counts(2, 2, 1), members: 5, serving: 5}, "any zone may be lost"},
		"a majority in one":   {state{perZone: counts(2, 3, 0), alive: counts(2, 3, 0), members: 5, serving: 5}, "losing zone-b loses the quorum"},
		"safe, but one lost":  {state{perZone: counts(2, 2, 1), alive: counts(2, 0, 1), members: 5, serving: 3}, "none to spare"},
		"one waits":           {state{perZone: counts(2, 2, 0), alive: counts(2, 2, 0), members: 5, unplaced: 1, serving: 4}, "none to spare"},
		"nobody serves":       {state{perZone: counts(2, 3, 0), members: 5}, "no quorum: nobody serves"},
		"not yet all created": {state{perZone: counts(1, 0, 0), members: 3}, "no quorum yet"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := c.state.verdict(); !strings.Contains(got, c.want) {
				t.Errorf("got %q, want %q in it", got, c.want)
			}
		})
	}
}

func TestWrappedKeepsEveryWord(t *testing.T) {
	text := "Warning  FailedScheduling  zone a already holds 2 of 5 voters\n"
	got := wrapped(text, 30)
	for line := range strings.Lines(got) {
		if len(line) > 31 {
			t.Errorf("got the line %q, want at most 30 characters", line)
		}
	}
	if diff := cmp.Diff(strings.Fields(text), strings.Fields(got)); diff != "" {
		t.Errorf("words differ (-want +got):\n%s", diff)
	}
}
