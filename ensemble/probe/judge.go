package probe

import (
	"time"

	"github.com/quorate/quorate/ensemble/v1alpha1"
)

// Rules are what answers are judged by.
type Rules struct {
	// Leaderless systems tell no leader: each member is taken at its own word.
	Leaderless bool
	// Voters that are declared (spec.voters, or the replicas of the owners): used
	// only where no live configuration was read. 0: not known.
	Voters int
	// Quorum declares weights and groups, by the name of the pod; used with Voters.
	Quorum *v1alpha1.QuorumSpec
	// Lag is how far behind the leader's position a synced member may be. 0: the
	// default of the package.
	Lag uint64
	// MaxAge of an answer; an older one was not heard. 0: any age.
	MaxAge time.Duration
}

// Judge makes one view of all answers of one ensemble: exactly one for each of its
// member pods, asked or not.
func Judge(answers []Answer, r Rules, now time.Time) View {
	v := View{Leader: -1}
	v.Reason = "not judged yet"
	return v
}
