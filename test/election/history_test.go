package election

import (
	"cmp"
	"math"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// act is one act of a leader on the resource. All times are nanoseconds on the
// monotonic clock, which all processes of a machine share, so that what the checker
// finds is exact.
type act struct {
	Token int64
	// Checked is a moment before the leader asked its lock whether it may act.
	Checked int64
	// At is when the resource saw the act.
	At int64
	// Visit is the leader's connection to the resource, another in each term: tokens begin
	// anew in an ensemble whose data is lost, and may be those that were.
	Visit int
}

func monotonic() int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		panic(err)
	}
	return t.Nano()
}

// violations are the acts of a term so long, or longer, after a later term began. A
// lock that says yes leaves the stop time to act in; an act that took longer was paused
// on its way, and counts from when its lock was asked: that it does no harm is for the
// token.
func violations(acts []act, stop, allowed time.Duration) []act {
	begun := map[int64]int64{}
	for _, a := range acts {
		if first, ok := begun[a.Token]; !ok || a.Checked < first {
			begun[a.Token] = a.Checked
		}
	}
	byToken := slices.SortedFunc(slices.Values(acts), func(a, b act) int { return cmp.Compare(b.Token, a.Token) })
	var found []act
	later := int64(math.MaxInt64) // when the first of all later terms began
	for i, a := range byToken {
		if i > 0 && byToken[i-1].Token != a.Token {
			later = min(later, begun[byToken[i-1].Token])
		}
		end := a.At
		if a.At-a.Checked > int64(stop) {
			end = a.Checked
		}
		if end-int64(allowed) >= later {
			found = append(found, a)
		}
	}
	return found
}

// stale are the tokens of writes that landed after one with a higher token.
func stale(tokens []int64) []int64 {
	var found []int64
	highest := int64(0)
	for _, token := range tokens {
		if token < highest {
			found = append(found, token)
		}
		highest = max(highest, token)
	}
	return found
}

func TestChecker(t *testing.T) {
	const stop = 10
	for name, c := range map[string]struct {
		acts    []act
		allowed time.Duration
		want    int
	}{
		"one after the other":       {[]act{{Token: 1, Checked: 1, At: 5}, {Token: 2, Checked: 6, At: 7}}, 0, 0},
		"act after a later one":     {[]act{{Token: 1, Checked: 1, At: 5}, {Token: 2, Checked: 6, At: 7}, {Token: 1, Checked: 8, At: 9}}, 0, 1},
		"act while a later begins":  {[]act{{Token: 2, Checked: 6, At: 9}, {Token: 1, Checked: 5, At: 7}}, 0, 1},
		"paused on its way":         {[]act{{Token: 1, Checked: 1, At: 50}, {Token: 2, Checked: 6, At: 7}}, 0, 0},
		"paused, then asked again":  {[]act{{Token: 2, Checked: 6, At: 7}, {Token: 1, Checked: 50, At: 51}}, 0, 1},
		"two terms before":          {[]act{{Token: 1, Checked: 20, At: 21}, {Token: 2, Checked: 10, At: 11}, {Token: 3, Checked: 30, At: 31}}, 0, 1},
		"as long after as allowed":  {[]act{{Token: 2, Checked: 6, At: 7}, {Token: 1, Checked: 8, At: 9}}, 4, 0},
		"longer after than allowed": {[]act{{Token: 2, Checked: 6, At: 7}, {Token: 1, Checked: 8, At: 9}}, 3, 1},
		"tokens that do not grow":   {[]act{{Token: 2, Checked: 1, At: 5}, {Token: 1, Checked: 6, At: 7}}, 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			if got := violations(c.acts, stop, c.allowed); len(got) != c.want {
				t.Errorf("violations: got %v, want %d", got, c.want)
			}
		})
	}
	if got := stale([]int64{1, 1, 2, 1, 2, 3, 2}); !slices.Equal(got, []int64{1, 2}) {
		t.Errorf("stale writes: got %v, want those of 1 and 2", got)
	}
}
