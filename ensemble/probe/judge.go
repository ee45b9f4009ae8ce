package probe

import (
	"fmt"
	"slices"
	"time"

	"github.com/quorate/quorate/ensemble/quorum"
	"github.com/quorate/quorate/ensemble/v1alpha1"
)

// Rules are what answers are judged by.
type Rules struct {
	// Leaderless systems tell no leader: each member is taken at its own word.
	Leaderless bool
	// Voters that are declared (spec.voters, or what the StatefulSets tell): used
	// only where no live configuration was read. 0: not known.
	Voters int
	// Quorum declares weights and groups, by the name of the pod; used where the live
	// configuration does not tell them.
	Quorum *v1alpha1.QuorumSpec
	// Lag is how far behind the leader's position a synced member may be. 0: the
	// default of the package.
	Lag uint64
	// MaxAge of an answer; an older one was not heard. 0: any age.
	MaxAge time.Duration
}

const (
	// defaultLag allows for answers that were taken a second apart from an ensemble
	// that takes ten thousand writes a second.
	defaultLag = 10_000
	// defaultSettle is tickTime x syncLimit of ZooKeeper's own sample configuration.
	defaultSettle = 10 * time.Second
)

// Judge makes one view of all answers of one ensemble: exactly one for each of its
// member pods, asked or not.
//
// A member is Synced if it serves under the one leader, in that leader's epoch and
// not far behind it, and the configuration in force knows it. The view is Known if
// there is one leader and no sign of another, and a configuration whose voters it
// counts too. testdata/judge has the cases, TestJudgeNeverOverstates the claim.
func Judge(answers []Answer, r Rules, now time.Time) View {
	v := View{Leader: -1, Counted: -1, Settle: defaultSettle}
	if len(answers) > quorum.MaxVoters {
		v.Reason = fmt.Sprintf("%d members are more than the %d that can be told apart", len(answers), quorum.MaxVoters)
	}
	v.hear(answers, r, now)
	switch {
	case v.Reason != "":
	case r.Leaderless:
		v.declared(r)
	default:
		v.lead(r)
	}
	v.Known = v.Reason == ""
	v.count()
	return v
}

// hear gives every member its first health: Unseen if it was not heard, NotSynced
// if it says of itself that it does not serve, and Synced if it does. The rest of
// Judge only ever takes health away.
func (v *View) hear(answers []Answer, r Rules, now time.Time) {
	v.Members = make([]Member, len(answers))
	var settle time.Duration
	for i := range answers {
		a := answers[i]
		m := &v.Members[i]
		*m = Member{Name: a.Target.Name, ServerID: a.ServerID, Role: a.Role, Answer: &a}
		switch {
		case !a.Heard:
			m.Reason, m.Role = or(a.Reason, "it did not answer"), ""
		case r.MaxAge > 0 && a.Age(now) > r.MaxAge:
			m.Reason, m.Role = "its last answer is too old", ""
		case slices.Contains(a.Alarms, alarmCorrupt):
			m.Health, m.Reason = NotSynced, "its data is corrupt"
		case !a.Serving:
			m.Health, m.Reason = NotSynced, unserving(&a)
		default:
			m.Health = Synced
		}
		if m.Health != Unseen {
			settle = max(settle, a.Settle)
		}
	}
	if settle > 0 {
		v.Settle = settle
	}
}

// alarmCorrupt is etcd's word for a member whose data differs from the others'.
const alarmCorrupt = "CORRUPT"

func unserving(a *Answer) string {
	switch {
	case a.Reason != "":
		return a.Reason
	case a.State == "":
		return "it does not serve"
	case a.Role == "":
		return fmt.Sprintf("looking for a leader (peer state %q)", a.State)
	default:
		return fmt.Sprintf("resyncing (peer state %q)", a.State)
	}
}

// lead judges a system with a leader.
func (v *View) lead(r Rules) {
	if why := v.findLeader(); why != "" {
		v.doubt("it serves, but not under one known leader")
		v.declared(r) // so that it can be told when a quorum is lost for certain
		v.Reason = why
		return
	}
	v.followLeader(or(r.Lag, defaultLag))
	configs := v.configs()
	v.identify(configs)
	v.refuseTwins()
	v.underLeader()
	if len(configs) == 0 {
		v.declared(r)
	} else {
		v.live(configs, r)
	}
	if v.Reason == "" {
		v.crossCheck(configs)
	}
}

// findLeader sets Leader, or says why there is none.
func (v *View) findLeader() string {
	for i := range v.Members {
		m := &v.Members[i]
		if m.Role != Leader || m.Health == Unseen {
			continue
		}
		if v.Leader >= 0 {
			why := fmt.Sprintf("two members lead: %s and %s", v.Members[v.Leader].Name, m.Name)
			v.Leader = -1
			return why
		}
		v.Leader = i
	}
	if v.Leader < 0 {
		return "no member leads, as far as heard"
	}
	l := &v.Members[v.Leader]
	if l.Health != Synced {
		v.Leader = -1
		return fmt.Sprintf("%s leads, but does not serve: %s", l.Name, l.Reason)
	}
	if l.Answer.Alone {
		v.Leader = -1
		return fmt.Sprintf("%s leads, but whether a quorum follows it is not known: %s", l.Name, l.Answer.Reason)
	}
	for i := range v.Members {
		if m := &v.Members[i]; m.Health == Synced && m.Answer.Epoch > l.Answer.Epoch {
			v.Leader = -1
			return fmt.Sprintf("%s serves in a newer epoch than the leader %s: another leads", m.Name, l.Name)
		}
	}
	return ""
}

// doubt makes everything that serves unseen: it may count under a leader that was
// not heard.
func (v *View) doubt(why string) {
	for i := range v.Members {
		if m := &v.Members[i]; m.Health == Synced {
			m.Health, m.Reason = Unseen, why
		}
	}
}

// followLeader takes the health of those that serve, but are not seen to be up with
// the leader. They are unseen: nobody may call a quorum lost because of them. An
// idle follower shows the epoch before, until the first write in the new one.
func (v *View) followLeader(lag uint64) {
	l := v.Members[v.Leader].Answer
	for i := range v.Members {
		m := &v.Members[i]
		a := m.Answer
		switch {
		case i == v.Leader || m.Health != Synced:
		case a.Epoch == 0 && l.Epoch > 0:
			m.Health, m.Reason = Unseen, "it serves, but does not say in which epoch"
		case a.Epoch < l.Epoch:
			m.Health, m.Reason = Unseen, "it serves, but shows nothing of the leader's epoch yet"
		case l.Position > a.Position && l.Position-a.Position > lag:
			m.Health, m.Reason = Unseen, "it serves, but is too far behind the leader"
		}
	}
}

// refuseTwins makes all members unseen that say they are the same server: at most
// one of them is.
func (v *View) refuseTwins() {
	first := map[string]int{}
	for i := range v.Members {
		m := &v.Members[i]
		if m.ServerID == "" || m.Health == Unseen {
			continue
		}
		j, twin := first[m.ServerID]
		if !twin {
			first[m.ServerID] = i
			continue
		}
		for _, k := range []int{i, j} {
			v.Members[k].Health = Unseen
			v.Members[k].Reason = fmt.Sprintf("%s and %s both say they are server %s", v.Members[j].Name, m.Name, m.ServerID)
		}
	}
}

// underLeader takes the health of those that name another leader.
func (v *View) underLeader() {
	id := v.Members[v.Leader].ServerID
	for i := range v.Members {
		m := &v.Members[i]
		if told := m.Answer.LeaderID; i != v.Leader && m.Health == Synced && id != "" && told != "" && told != id {
			m.Health, m.Reason = Unseen, fmt.Sprintf("it follows server %s, which does not lead", told)
		}
	}
}

// crossCheck compares what was judged with what the leader counts: it sets Counted, and
// the reason of a view whose voters are not those that the leader counts.
func (v *View) crossCheck(configs []Config) {
	c := v.Members[v.Leader].Answer.Count
	if c == nil {
		return
	}
	agrees := func(k Config) bool { return k.voters() == c.Voters }
	counted := v.Voters().Len() == c.Voters || slices.ContainsFunc(configs, agrees)
	if c.Voters >= 0 && !counted {
		v.Changing = v.Live
		v.Reason = fmt.Sprintf("the leader counts %d voters, its configuration has %d", c.Voters, v.Voters().Len())
	}
	v.Counted = c.SyncedFollowers
}

// voting are the voters of that health, among the members.
func (v *View) voting(h Health) (s quorum.Set) {
	for i := range v.Members {
		if v.Members[i].Health == h && v.Voters().Has(i) {
			s = s.With(i)
		}
	}
	return s
}

// count fills in the sets.
func (v *View) count() {
	v.Synced = v.voting(Synced)
	heard := v.Synced | v.voting(NotSynced)
	v.Unseen = v.Voters().Minus(heard)
	for i := range v.Members {
		at := v.Members[i].Answer.At
		if v.Members[i].Health == Synced && (v.At.IsZero() || at.Before(v.At)) {
			v.At = at
		}
	}
}

func or[T comparable](a, b T) T {
	var zero T
	if a == zero {
		return b
	}
	return a
}
