package admission

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/quorate/quorate/ensemble/probe"
	"github.com/quorate/quorate/ensemble/quorum"
	"github.com/quorate/quorate/ensemble/v1alpha1"
)

// noon is when the scripts happen.
var noon = time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)

// TestDecide runs the cases of testdata/decide; -rewrite writes what they answer.
func TestDecide(t *testing.T) {
	datadriven.Walk(t, "testdata/decide", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, td *datadriven.TestData) string {
			ev, ask := scene(t, td)
			return answer(Decide(ev, ask, Timing{}))
		})
	})
}

func answer(d Decision) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %d", d.Outcome, d.Code())
	if d.RetryAfter() > 0 {
		fmt.Fprintf(&b, " retry-after=%d", d.RetryAfter())
	}
	fmt.Fprintln(&b)
	if d.Message != "" {
		fmt.Fprintln(&b, d.Message)
	}
	if d.Warning != "" {
		fmt.Fprintln(&b, "warning:", d.Warning)
	}
	for _, g := range d.Grants {
		fmt.Fprintf(&b, "grant %s uid=%s server=%s ip=%s %s requests=%s\n", g.Name, g.PodUID, g.ServerID, g.PodIP, g.Reason, strings.Join(g.RequestUIDs, ","))
	}
	return b.String()
}

// words are the words of one line: "zk-0 leader uid=x" is the name zk-0, the flag
// leader and the value x of uid.
type words struct {
	name   string
	flags  []string
	values map[string]string
}

func split(line string) words {
	w := words{values: map[string]string{}}
	for i, f := range strings.Fields(line) {
		k, v, ok := strings.Cut(f, "=")
		switch {
		case i == 0:
			w.name = f
		case ok:
			w.values[k] = v
		default:
			w.flags = append(w.flags, f)
		}
	}
	return w
}

func (w words) has(flag string) bool { return slices.Contains(w.flags, flag) }

func (w words) get(key, otherwise string) string {
	if v, ok := w.values[key]; ok {
		return v
	}
	return otherwise
}

func (w words) duration(t *testing.T, key string) time.Duration {
	d, err := time.ParseDuration(w.get(key, "0s"))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func (w words) number(t *testing.T, key, otherwise string) int {
	n, err := strconv.Atoi(w.get(key, otherwise))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// scene reads a case: who asks in the command, one member, grant or circumstance a
// line.
func scene(t *testing.T, td *datadriven.TestData) (Evidence, Ask) {
	t.Helper()
	e := &v1alpha1.Ensemble{ObjectMeta: metav1.ObjectMeta{Namespace: "data", Name: "zk", UID: "ens"}}
	e.Status.Guard = &v1alpha1.GuardStatus{UID: "ens", Armed: true}
	ev := Evidence{
		Ensemble: e, Now: noon, Fates: map[string]Fate{}, Ages: Ages{Guard: time.Hour, Grants: map[string]GrantAge{}},
		View: probe.View{Known: true, Live: true, Leader: -1, Counted: -1, Settle: 10 * time.Second, At: noon.Add(-100 * time.Millisecond)},
	}
	for line := range strings.Lines(td.Input) {
		switch w := split(line); w.name {
		case "spec":
			e.Spec.Disruption.Spare = int32(w.number(t, "spare", "0"))
			e.Spec.Disruption.WhenQuorumIsLost = v1alpha1.QuorumLostPolicy(w.get("whenQuorumIsLost", "DenySynced"))
		case "guard":
			e.Status.Guard = &v1alpha1.GuardStatus{UID: w.get("uid", "ens"), Armed: w.has("armed")}
			ev.Ages.Guard = w.duration(t, "age")
		case "grant":
			readGrant(t, w, &ev)
		case "view":
			readView(t, w, &ev)
		case "seen", "told": // members in the status; and voters of the configuration read last
			for _, id := range w.flags {
				e.Status.Members = append(e.Status.Members, v1alpha1.MemberStatus{ServerID: id, Votes: w.name == "told"})
			}
		default:
			readMember(w, &ev)
		}
	}
	closeView(&ev)
	return ev, readAsk(t, td, &ev)
}

func readAsk(t *testing.T, td *datadriven.TestData, ev *Evidence) Ask {
	ask := Ask{RequestUID: "r-new", User: "ada"}
	switch td.Cmd {
	case "evict":
		ask.Reason = Eviction
	case "evict-by-name":
		ask.Reason = EvictionByName
	case "delete":
		ask.Reason = Deletion
	case "scale-away":
		ask.Reason = ScaleDown
	default:
		t.Fatalf("%s: unknown request %q", td.Pos, td.Cmd)
	}
	for _, arg := range td.CmdArgs {
		switch arg.Key {
		case "waiting":
			ask.Waiting = arg.Vals
			continue
		case "exactly":
			ask.Exact = true
			continue
		case "budget":
			ask.Budget = arg.Vals[0]
			continue
		}
		ask.Targets = append(ask.Targets, slices.IndexFunc(ev.Pods, func(p Pod) bool { return p.Name == arg.Key }))
	}
	return ask
}

func readMember(w words, ev *Evidence) {
	i := len(ev.Pods)
	id := w.get("server", w.name[strings.LastIndex(w.name, "-")+1:])
	if id == "?" {
		id = ""
	}
	if w.name == "stranger" {
		ev.View.Strangers = append(ev.View.Strangers, id)
		return
	}
	p := Pod{
		Name: w.name, UID: types.UID(w.get("uid", w.name+"-uid")), Node: "node-" + id, Ordinal: i, Observer: w.has("observer") || w.has("labelled"),
		IP: netip.MustParseAddr(w.get("ip", "10.0.0."+strconv.Itoa(i))), Running: !w.has("down"), Terminating: w.has("terminating"),
	}
	m := probe.Member{Name: w.name, ServerID: id, Votes: !w.has("observer") && !w.has("outside"), Health: probe.Synced, Role: probe.Follower}
	switch {
	case w.has("leader"):
		m.Role, ev.View.Leader = probe.Leader, i
	case w.has("resyncing"):
		m.Health, m.Reason = probe.NotSynced, `resyncing (peer state "following - synchronization")`
	case w.has("looking"):
		m.Health, m.Reason = probe.NotSynced, "looking for a leader"
	case w.has("silent-to-clients"):
		m.Health, m.Reason = probe.NotSynced, "it says that it is not serving"
	case w.has("unseen"), w.has("down"):
		m.Health, m.Reason = probe.Unseen, "no answer in time"
	}
	if w.has("answers") {
		m.Answer, m.Reason = &probe.Answer{Heard: true, Serving: true}, "it serves, but not under one known leader"
	}
	ev.Pods, ev.View.Members = append(ev.Pods, p), append(ev.View.Members, m)
}

func readGrant(t *testing.T, w words, ev *Evidence) {
	name := w.flags[0]
	g := v1alpha1.Grant{
		PodUID: w.get("uid", name+"-uid"), Name: name, ServerID: w.get("server", name[strings.LastIndex(name, "-")+1:]),
		PodIP: w.get("ip", "10.0.9.9"), Reason: w.get("reason", Eviction), Since: metav1.NewTime(noon.Add(-w.duration(t, "age"))),
	}
	if g.ServerID == "?" {
		g.ServerID = ""
	}
	for i := range w.number(t, "yes", "1") {
		g.RequestUIDs = append(g.RequestUIDs, "r"+strconv.Itoa(i))
	}
	fates := map[string]Fate{"lives": Lives, "terminating": Terminating, "gone": Gone, "unread": FateUnknown}
	ev.Fates[g.PodUID] = fates[w.get("fate", "lives")]
	age := w.duration(t, "age")
	ev.Ages.Grants[g.PodUID] = GrantAge{First: age, Unchanged: age, Synced: w.duration(t, "synced")}
	if _, ok := w.values["unchanged"]; ok {
		ev.Ages.Grants[g.PodUID] = GrantAge{First: age, Unchanged: w.duration(t, "unchanged"), Synced: w.duration(t, "synced")}
	}
	ev.Ensemble.Status.Grants = append(ev.Ensemble.Status.Grants, g)
}

func readView(t *testing.T, w words, ev *Evidence) {
	if w.has("no-leader") {
		ev.View.Known, ev.View.Reason = false, "no server leads"
	}
	if w.has("untold") {
		ev.View.Known, ev.View.Reason = false, "the membership is being changed, to what was not told"
	}
	if w.has("declared") {
		ev.View.Live = false
	}
	ev.View.Changing = w.has("changing")
	ev.View.Counted = w.number(t, "counted", "-1")
	ev.View.Settled = w.has("settled")
	ev.Ages.Lost = w.duration(t, "lost")
	if w.has("oracle") {
		ev.View.System, _ = quorum.Oracle(quorum.First(2), false)
	}
}

// closeView derives the sets and the system from the members. While the membership is
// changing, the next configuration is of the first three alone.
func closeView(ev *Evidence) {
	v := &ev.View
	var voters quorum.Set
	for i := range v.Members {
		if !v.Members[i].Votes {
			continue
		}
		voters = voters.With(i)
		switch v.Members[i].Health {
		case probe.Synced:
			v.Synced = v.Synced.With(i)
		case probe.Unseen:
			v.Unseen = v.Unseen.With(i)
		default:
		}
	}
	for k := range v.Strangers {
		voters, v.Unseen = voters.With(len(v.Members)+k), v.Unseen.With(len(v.Members)+k)
	}
	if v.System.Voters() != 0 {
		return // told already
	}
	v.System = quorum.Majority(voters)
	if v.Changing {
		v.System = quorum.Joint(v.System, quorum.Majority(voters&quorum.First(3)))
	}
}
