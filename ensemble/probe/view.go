package probe

import (
	"time"

	"github.com/quorate/quorate/ensemble/quorum"
)

// Health of a member, in the words of status.members.health.
type Health uint8

const (
	// Unseen members were not heard: neither up nor down.
	Unseen Health = iota
	// NotSynced members were heard, and do not count.
	NotSynced
	// Synced members serve and are up with the one leader.
	Synced
)

// String is the health in one word.
func (h Health) String() string {
	switch h {
	case Synced:
		return "Synced"
	case NotSynced:
		return "NotSynced"
	default:
		return "Unseen"
	}
}

// Member is one member as it was judged.
type Member struct {
	// Name of the pod.
	Name string
	// ServerID by which the ensemble knows it: its own word, else what the
	// configuration says of its host, else its ordinal's; empty if not known.
	ServerID string
	// Role it has, or empty.
	Role Role
	// Votes is whether a configuration in force counts it as a voter.
	Votes bool
	// Health of it.
	Health Health
	// Reason in words where it is not Synced, e.g. `resyncing (peer state "following
	// - synchronization")`. Without times and zxids, so that it is stable.
	Reason string
	// Answer that this was judged from.
	Answer *Answer
}

// View is what the answers of one ensemble amount to. Its zero value is Unknown.
// Views never change once made.
type View struct {
	// Members in the order of the answers. A member's index is its number in every
	// Set here.
	Members []Member
	// Strangers are the voters of the configuration that no member is known to be, by
	// server id. Their numbers follow those of the members; they are Unseen.
	Strangers []string
	// Known is whether the view settles anything: one leader and a configuration.
	// Where it is false, every verdict is Unknown.
	Known bool
	// Reason in words where it is not Known.
	Reason string
	// Leader is the index of the leader, -1 without one.
	Leader int
	// System that is in force: of the live configuration, of the old and the new one
	// during a change, or of the declared one where Live is false.
	System quorum.System
	// Live is whether System was read from the members.
	Live bool
	// Changing is whether the membership is being changed.
	Changing bool
	// Synced voters, and voters that were not heard. Those in neither do not serve.
	Synced, Unseen quorum.Set
	// Counted is how many followers in sync the leader counts, whichever they are; -1
	// where it tells no number. See Doubt.
	Counted int
	// Settle is how long the leader's count may lag behind the loss of a member. It is
	// never 0: the longest that a member told, else ZooKeeper's default of 10 s.
	Settle time.Duration
	// Settled is whether the members' words and Counted have agreed for longer than that,
	// the view's Patience. One view can't tell: see Agreement.
	Settled bool
	// At is when the oldest answer that counts was asked for.
	At time.Time
}

// Voters of the system.
func (v *View) Voters() quorum.Set { return v.System.Voters() }

// Size of a quorum, for equal weights.
func (v *View) Size() int { return v.System.Size() }

// Without is the verdict on losing the members of gone, when spare further losses,
// whichever they are, must remain survivable. Members in Doubt are lost in the worst
// way.
func (v *View) Without(gone quorum.Set, spare int) quorum.Verdict {
	if !v.Known {
		return quorum.Unknown
	}
	switch up := v.Synced.Minus(gone); {
	case v.System.Spare(up) >= spare+v.Doubt():
		return quorum.Safe
	case v.System.Spare(up) >= spare, v.System.Spare((v.Synced | v.Unseen).Minus(gone)) >= spare:
		return quorum.Unknown
	default:
		return quorum.Unsafe
	}
}

// Allowed is how many synced voters may go now, whichever they are, so that spare
// further losses remain survivable. It is 0 where that is not known.
func (v *View) Allowed(gone quorum.Set, spare int) int {
	if !v.Known {
		return 0
	}
	return max(0, v.System.Spare(v.Synced.Minus(gone))-spare-v.Doubt())
}

// Index of the member of that name, -1 if there is none.
func (v *View) Index(name string) int {
	for i := range v.Members {
		if v.Members[i].Name == name {
			return i
		}
	}
	return -1
}
