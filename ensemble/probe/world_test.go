package probe

import (
	"fmt"
	"slices"
	"strconv"
	"testing"

	"pgregory.net/rapid"

	"github.com/quorate/quorate/ensemble/quorum"
)

// What one server really does. Only inSync counts for a quorum.
const (
	inSync = iota
	deaf   // says it follows in broadcast, but the leader lost it: only its count tells
	resyncing
	behind
	stale       // still follows a leader of an epoch before
	staleLeader // is that leader, and does not know it yet
	looking
	crashed
	conditions
)

// world is how an ensemble really is. Server i is number i in every set of it.
type world struct {
	config  Config
	system  quorum.System
	does    []int
	leader  int // -1: nobody leads
	counts  bool
	synced  quorum.Set // what is true
	counted quorum.Set // by the leader, although they still resync
	answers []Answer
	pods    []int // of each answer, the server that it is
}

const worldEpoch, worldPosition, worldLag = 9, 1000, 100

// drawWorld draws a world, and what its servers honestly say in it.
func drawWorld(t *rapid.T) world {
	w := world{leader: -1}
	n := rapid.IntRange(1, 7).Draw(t, "servers")
	grouped, weighed := rapid.Bool().Draw(t, "grouped"), rapid.Bool().Draw(t, "weighed")
	worst, untold := conditions-1, rapid.Bool().Draw(t, "nothing tells but the count")
	if untold {
		grouped, weighed, worst = false, false, resyncing
	}
	var members []quorum.Member
	for i := range n {
		m := ConfigMember{ServerID: strconv.Itoa(i + 10), Host: fmt.Sprintf("zk-%d.zk", i), Votes: i == 0 || rapid.IntRange(0, 4).Draw(t, "votes") > 0, Weight: 1}
		if grouped {
			m.Group = rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "group")
		}
		if weighed {
			m.Weight = uint64(rapid.IntRange(0, 3).Draw(t, "weight"))
		}
		w.config.Members = append(w.config.Members, m)
		members = append(members, quorum.Member{Server: i, Group: m.Group, Weight: m.Weight, Observer: !m.Votes})
		w.does = append(w.does, max(0, rapid.IntRange(-2*worst-2, worst).Draw(t, "does")))
	}
	plain := !grouped && !slices.ContainsFunc(w.config.Members, func(m ConfigMember) bool { return m.Weight != 1 })
	w.system, _ = system(members, plain) // without a quorum where all weights are zero
	w.counts = untold || rapid.Bool().Draw(t, "counts")
	w.elect(rapid.IntRange(0, n-1).Draw(t, "leader"))
	w.resync(t)
	w.speak(t)
	return w
}

// elect makes the world possible: there is a leader if a quorum is in sync, and
// those that still follow one of before are no quorum.
func (w *world) elect(leader int) {
	if w.system.Quorum(w.voters(inSync)) && w.does[leader] == inSync && w.config.Members[leader].Votes {
		w.leader = leader
	}
	lost := w.system.Quorum(w.voters(stale, staleLeader))
	for i, does := range w.does {
		switch {
		case does == deaf && (!w.counts || w.leader < 0): // without a count nobody could tell
			w.does[i] = resyncing
		case does == inSync && w.leader < 0, lost && (does == stale || does == staleLeader):
			w.does[i] = looking
		}
	}
	w.synced = w.voters(inSync)
}

// resync lets the leader count some that are not in sync yet: ZooKeeper counts all.
func (w *world) resync(t *rapid.T) {
	for i := range w.voters(resyncing).Servers() {
		if rapid.Bool().Draw(t, "counted") {
			w.counted = w.counted.With(i)
		}
	}
}

func (w *world) voters(does ...int) (s quorum.Set) {
	for i := range w.does {
		if slices.Contains(does, w.does[i]) && w.system.Voters().Has(i) {
			s = s.With(i)
		}
	}
	return s
}

// speak lets the servers answer; some are no pods of ours, some are not heard.
func (w *world) speak(t *rapid.T) {
	for i := range w.does {
		pod := rapid.IntRange(0, 6).Draw(t, "pod")
		if pod == 0 {
			continue
		}
		a := w.says(t, i)
		if pod == 1 {
			a = Answer{Target: a.Target}
		}
		w.answers = append(w.answers, a)
		w.pods = append(w.pods, i)
	}
}

func (w *world) says(t *rapid.T, i int) Answer {
	a := Answer{Target: Target{Name: fmt.Sprintf("zk-%d", i)}, Heard: true, Epoch: worldEpoch, Position: worldPosition}
	if rapid.Bool().Draw(t, "tells its id") {
		a.ServerID = w.config.Members[i].ServerID
	}
	votes := w.config.Members[i].Votes
	a.Role = Follower
	if !votes {
		a.Role = Observer
	}
	switch w.does[i] {
	case inSync, deaf:
		a.Serving = true
		a.Position -= uint64(rapid.IntRange(0, worldLag).Draw(t, "lag"))
	case behind:
		a.Serving = true
		a.Position -= worldLag + 1
	case resyncing:
		a.Epoch = 0
	case stale:
		a.Serving, a.Epoch = true, worldEpoch-1
	case staleLeader:
		a.Serving, a.Epoch, a.Role = true, worldEpoch-1, Leader
		a.Config = &w.config
	case looking:
		a.Role, a.Epoch = "", 0
	case crashed:
		return Answer{Target: a.Target}
	}
	if i == w.leader {
		a.Role, a.Position, a.Config = Leader, worldPosition, &w.config
		if w.counts {
			a.Count = &Count{Voters: w.config.voters(), SyncedFollowers: w.synced.Minus(quorum.SetOf(i)).Len() + w.counted.Len()}
		}
	}
	return a
}

// really maps members of a view to servers of the world.
func (w *world) really(view quorum.Set) (s quorum.Set) {
	for i := range view.Servers() {
		if i < len(w.pods) {
			s = s.With(w.pods[i])
		}
	}
	return s
}

// drawGone draws members to lose: few mostly, as whoever asks to lose half an ensemble
// is answered easily.
func (w *world) drawGone(t *rapid.T) (gone quorum.Set) {
	for i := range w.answers {
		if rapid.IntRange(0, 3).Draw(t, "gone") == 0 {
			gone = gone.With(i)
		}
	}
	return gone
}

// Whatever the answers are, honest but incomplete: no view says Safe where the real
// ensemble would be left without its quorum and spare, nor Unsafe where all would
// be well, and none counts more in sync than are.
//
// One bound: a view of a leader that is none any more may count its old followers;
// they are never a quorum.
func TestJudgeNeverOverstates(t *testing.T) {
	checkMany(t, func(t *rapid.T) {
		w := drawWorld(t)
		v := Judge(w.answers, Rules{Lag: worldLag}, scriptStart)
		if !v.Known {
			return
		}
		led := v.Members[v.Leader].Answer.Epoch == worldEpoch
		if claimed := v.Left(0); led && claimed > w.synced.Len() {
			t.Fatalf("%d are said to be in sync, %d are", claimed, w.synced.Len())
		}
		gone := w.drawGone(t)
		spare := rapid.IntRange(0, 2).Draw(t, "spare")
		left := w.system.Spare(w.synced.Minus(w.really(gone)))
		switch verdict := v.Without(gone, spare); {
		case verdict == quorum.Safe && left < spare:
			t.Fatalf("said to be safe with %d to spare, %d are left\n%s", spare, left, picture(&v))
		case verdict == quorum.Unsafe && left >= spare:
			t.Fatalf("said to be unsafe, %d are left\n%s", left, picture(&v))
		}
		if allowed := v.Allowed(gone, spare); allowed > max(0, left-spare) {
			t.Fatalf("%d said to be allowed, %d are\n%s%+v", allowed, left-spare, picture(&v), w.config)
		}
	})
}

// Hearing less never makes a verdict better, unless what was not heard was in doubt.
func TestSilenceNeverHelps(t *testing.T) {
	checkMany(t, func(t *rapid.T) {
		w := drawWorld(t)
		if len(w.answers) == 0 {
			return
		}
		gone := w.drawGone(t)
		before := Judge(w.answers, Rules{Lag: worldLag}, scriptStart)
		i := rapid.IntRange(0, len(w.answers)-1).Draw(t, "silenced")
		if w.does[w.pods[i]] == staleLeader || w.does[w.pods[i]] == stale || w.leader < 0 || w.does[w.pods[i]] == crashed {
			return // silencing one that contradicts the truth may bring the truth out
		}
		w.answers[i] = Answer{Target: w.answers[i].Target}
		after := Judge(w.answers, Rules{Lag: worldLag}, scriptStart)
		if before.Doubt() == 0 && after.Without(gone, 0) == quorum.Safe && before.Without(gone, 0) != quorum.Safe && before.Known {
			t.Fatalf("silence made it safe\n%s\n%s", picture(&before), picture(&after))
		}
	})
}

// checkMany looks at some thousands of worlds: rapid's default is a hundred.
func checkMany(t *testing.T, property func(*rapid.T)) {
	for range 40 {
		rapid.Check(t, property)
	}
}
