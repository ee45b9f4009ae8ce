package probe

import (
	"context"
	"net/netip"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// Prober asks one kind of server for its health. It is safe for concurrent use.
type Prober interface {
	// Probe asks the member and returns by the time ctx ends. It never fails: a
	// member that did not answer, or not well, yields an answer that was not Heard.
	Probe(ctx context.Context, t Target) Answer
}

// Target is a member to ask.
type Target struct {
	// Name of the pod.
	Name string
	// UID of the pod.
	UID types.UID
	// IP of the pod, from its status: no other address is ever asked. Invalid (zero)
	// where the pod has none: it is unseen then.
	IP netip.Addr
	// Ready is the pod's Ready condition. Only generic systems are judged by it.
	Ready bool
	// Observer is a pod that spec.observers selects.
	Observer bool
	// ServerID by which the ensemble knew the member when it was last heard, or
	// empty. It only helps to tell who an unseen member is.
	ServerID string
}

// Role is what a member is in its ensemble, in the words of status.members.role.
type Role string

const (
	// Leader of the ensemble.
	Leader Role = "Leader"
	// Follower votes, if the configuration says so.
	Follower Role = "Follower"
	// Observer never votes.
	Observer Role = "Observer"
	// Learner does not vote yet (etcd).
	Learner Role = "Learner"
	// Voter is a member of a system that tells no roles.
	Voter Role = "Voter"
)

// Answer is what one member said, at one moment. Its zero value was not heard.
type Answer struct {
	Target Target
	// Heard is whether the member said something whole that could be understood, or its
	// pod's readiness speaks for it. See Spoke.
	Heard bool
	// Reason it was not heard, in words, or what it said about why it does not serve.
	Reason string
	// Source that it was heard through: "AdminServer", "mntr", "srvr", ...
	Source string
	// At is when it was asked, on our own monotonic clock: the answer describes a
	// moment after it.
	At time.Time
	// Took is how long the answer took.
	Took time.Duration

	// ServerID by which the ensemble knows the member; empty where the source does
	// not tell.
	ServerID string
	// Role, empty where it has none: it looks for a leader, or does not serve.
	Role Role
	// State is the server's own word for what it does, e.g. "following - broadcast".
	State string
	// Serving is whether it says of itself that it leads, or follows its leader in
	// broadcast. It does not say that the leader agrees.
	Serving bool
	// Alone is a leader that let a client's session, which only a quorum can grant, go
	// unanswered: it may have lost its followers, and not have noticed. Reason says how.
	Alone bool
	// LeaderID that it follows; empty where the source does not tell.
	LeaderID string
	// Epoch (ZooKeeper) or term (etcd) that it is in; 0 where it is not told.
	Epoch uint64
	// Position is how far it got: the zxid's counter, or the raft index. Positions
	// compare within one epoch only.
	Position uint64
	// Alarms that it raises, e.g. NOSPACE. A corrupt member is not in sync.
	Alarms []string
	// Count is what a leader counts, or nil.
	Count *Count
	// Config that it runs by, or nil where it was not told.
	Config *Config
	// Settle is how long its ensemble's leader may take to miss a member: tickTime x
	// syncLimit. 0 where it is not told.
	Settle time.Duration
}

// Spoke reports whether a process of the member was heard: what its pod's readiness tells
// is no word of one.
func (a *Answer) Spoke() bool { return a.Heard && a.Source != readiness }

// Age of the answer at now.
func (a *Answer) Age(now time.Time) time.Duration { return now.Sub(a.At) }

// Count is what a leader counts of its ensemble. -1 is what it does not tell.
type Count struct {
	// Voters in its configuration, itself included (zk_quorum_size, which is not the
	// majority).
	Voters int
	// Learners that are connected, observers included.
	Learners int
	// SyncedFollowers that vote, without the leader itself.
	SyncedFollowers int
	// SyncedObservers of it.
	SyncedObservers int
	// PendingSyncs of clients.
	PendingSyncs int
}

// Config is a configuration of an ensemble, as one of its servers runs it.
type Config struct {
	// Version orders configurations of one ensemble; the highest is the newest.
	Version uint64
	// Members in it, voters and others.
	Members []ConfigMember
	// Oracle is whether an oracle lets one of two voters go on alone. What it says
	// is not heard, so that it counts as silent.
	Oracle bool
	// Joint is whether a change of the membership is under way, as far as told.
	Joint bool
	// VotersOnly is whether the source names the voters and nothing else: weights and
	// groups, where there are any, must be declared.
	VotersOnly bool
}

// ConfigMember is one server of a Config.
type ConfigMember struct {
	// ServerID of it.
	ServerID string
	// Host that the others reach it by, or its name: a DNS name whose first label is
	// often that of the pod, or an IP. Empty if not told.
	Host string
	// Votes is whether it is a voter.
	Votes bool
	// Weight of its vote: 1 unless weights are configured.
	Weight uint64
	// Group that it votes in, or empty.
	Group string
}
