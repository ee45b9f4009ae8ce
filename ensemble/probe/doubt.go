package probe

import (
	"fmt"
	"strings"
	"time"

	"github.com/quorate/quorate/ensemble/quorum"
)

// Doubt is how many of those that say they are in sync may not be, whichever they are.
// The leader counts its followers, and nobody names whom: a voter that is not in sync,
// or was not heard, may be one of them, in place of one that was lost and only believes
// it follows. ZooKeeper counts a server that still resyncs from the beginning, so that
// the number is right for none of the two. Whoever is not seen in sync is therefore
// taken for counted.
//
// A leader and its followers lose sight of each other within a settle time. Who was
// in sync by all numbers for longer is: see Agreement.
func (v *View) Doubt() int {
	if v.Counted < 0 || v.Leader < 0 {
		return 0
	}
	others := 0
	if !v.Settled {
		others = v.Voters().Minus(v.Synced).Len()
	}
	followers := v.followers()
	return min(followers, max(0, followers+others-v.Counted))
}

// Disputed is how many fewer the leader counts than say that they are in sync: the part
// of Doubt that is there even if it counts nobody else.
func (v *View) Disputed() int {
	if v.Counted < 0 || v.Leader < 0 {
		return 0
	}
	return max(0, v.followers()-v.Counted)
}

// Beyond is how many followers the leader counts beyond those that were heard to be in
// sync: some that were not heard, or still resync.
func (v *View) Beyond() int {
	if v.Counted < 0 || v.Leader < 0 {
		return 0
	}
	return max(0, v.Counted-v.followers())
}

// Agreed is how many voters are in sync by their own words and by the leader's count,
// the smaller number. For a settle time after a loss it may still be one too high.
func (v *View) Agreed() int { return v.Synced.Len() - min(v.followers(), v.Disputed()) }

// followers is how many say that they are in sync with the leader.
func (v *View) followers() int { return v.Synced.Minus(quorum.SetOf(v.Leader)).Len() }

// Left is how many voters are surely in sync once the members of gone are lost.
func (v *View) Left(gone quorum.Set) int {
	return max(0, v.Synced.Minus(gone).Len()-v.Doubt())
}

// Agreement is since when the same members say that they follow one leader, and that
// leader counts as many, in all views of one ensemble that one observer saw. The zero
// value has seen none.
type Agreement struct {
	on            string
	since, latest time.Time
}

// rare are looks that are so many times a Patience apart: too much may have happened in
// between.
const rare = 4

// See takes in a view, and settles it if they have agreed for its Patience. A view
// without agreement, of another one, or long after the one before, begins anew: a late
// observer only doubts for longer. Views may come in another order than they were asked
// for in: of two, the later one holds. Not excluded: another server that joins between the
// same two looks as one of the followers is lost, as the number stays.
func (a *Agreement) See(v *View) {
	on := v.agreement()
	if on == "" || on != a.on || v.At.Sub(a.latest) > rare*v.Patience() {
		a.on, a.since = on, later(a.latest, v.answered())
	}
	a.latest = later(a.latest, v.At)
	v.Settled = a.on != "" && v.At.Sub(a.since) > v.Patience()
}

// Patience is for how long words and number must agree before the view is Settled: a
// settle time and a quarter. A leader's timer fires when the time is over, and it counts
// again some time after that.
func (v *View) Patience() time.Duration { return v.Settle + v.Settle/4 }

// answered is when the last of those in sync had answered. Until then one of them may have
// been lost that said before that it follows.
func (v *View) answered() time.Time {
	at := v.At
	for i := range v.Members {
		if a := v.Members[i].Answer; v.Members[i].Health == Synced {
			at = later(at, a.At.Add(a.Took))
		}
	}
	return at
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// agreement names who agrees on what; it is empty where there is none.
func (v *View) agreement() string {
	if !v.Known || v.Counted < 0 || v.Leader < 0 || v.followers() > v.Counted {
		return ""
	}
	leader := v.Members[v.Leader].Answer
	var b strings.Builder
	fmt.Fprintf(&b, "%s %d %d", leader.Target.UID, leader.Epoch, v.Counted)
	for i := range v.Synced.Servers() {
		fmt.Fprintf(&b, " %s", v.Members[i].Answer.Target.UID)
	}
	return b.String()
}
