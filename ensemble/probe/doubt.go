package probe

import (
	"fmt"
	"strings"
	"time"

	"github.com/quorate/quorate/ensemble/quorum"
)

// Doubt is how many of those that say they are in sync may not be, whichever they
// are, once the members of gone are lost. Nobody names those whom the leader counts:
// a server that was not heard may be one, in place of one that only believes it
// follows. As long as both stay, and votes are equal, the number is right all the
// same. If the unheard one goes, it is not: so whoever was not heard and goes is
// taken for counted. Where votes differ, everybody who was not heard is.
//
// A leader and its followers lose sight of each other within a settle time. Who was
// in sync by all numbers for that long is: see Agreement.
func (v *View) Doubt(gone quorum.Set) int {
	if v.Counted < 0 || v.Leader < 0 {
		return 0
	}
	unheard := v.Unseen & gone
	switch {
	case v.Settled:
		unheard = 0
	case v.uneven:
		unheard = v.Unseen
	}
	followers := v.followers()
	return min(followers, max(0, followers+unheard.Len()-v.Counted))
}

// followers is how many say that they are in sync with the leader.
func (v *View) followers() int { return v.Synced.Minus(quorum.SetOf(v.Leader)).Len() }

// Left is how many voters are surely in sync once the members of gone are lost.
func (v *View) Left(gone quorum.Set) int {
	return max(0, v.Synced.Minus(gone).Len()-v.Doubt(gone))
}

// Agreement is since when the same members say that they follow one leader, and that
// leader counts as many, in all views of one ensemble that one observer saw. The zero
// value has seen none.
type Agreement struct {
	on    string
	since time.Time
}

// See takes in a view, and settles it if they have agreed for its settle time. A view
// without agreement, or of another one, begins anew: a late observer only doubts for
// longer. Not excluded: an unheard server that joins in the very settle time in which
// a heard one is lost, as the number stays.
func (a *Agreement) See(v *View) {
	if on := v.agreement(); on == "" || on != a.on {
		a.on, a.since = on, v.At
	}
	v.Settled = a.on != "" && v.At.Sub(a.since) >= v.Settle
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
