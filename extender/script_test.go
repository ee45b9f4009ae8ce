package extender

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"k8s.io/apimachinery/pkg/types"

	"github.com/quorate/quorate/ensemble/v1alpha1"
)

// script is one file of testdata/filter in the making. Its commands:
//
//	nodes                 one line per node: NAME LABEL=VALUE...; with count=N each line stands for NAME1 to NAMEN
//	ensemble voters=N levels=(host,zone,rack<zone,zone?) live=(zk-0,...) [told, that they vote] weights=(zk-0:2) only=(a,b), the zones of an affinity
//	pods                  one line per pod: NAME [on NODE] [terminating|gated|observer|nominated NODE]; others stay
//	volume pod=P LABEL=V  the member's volume leaves it the nodes with this label
//	ask pod=P nodes=(...) Filter; all nodes where none are named, those of zone=Z; times=N tells the last answer of so many
//	score pod=P           Prioritize
//	bind pod=P node=N, gone pod=P, lost node=N, after s=SECONDS, says pod=P text=T, restart, takeover
type script struct {
	w      *world
	ledger *Ledger
	now    time.Time
}

func TestFilterScripts(t *testing.T) {
	datadriven.Walk(t, "testdata/filter", func(t *testing.T, path string) {
		s := &script{w: newWorld(), ledger: NewLedger(Timing{}), now: time.Unix(1000, 0)}
		datadriven.RunTest(t, path, s.run)
	})
}

func (s *script) run(t *testing.T, d *datadriven.TestData) string {
	t.Helper()
	switch d.Cmd {
	case "nodes":
		for line := range strings.Lines(d.Input) {
			f := strings.Fields(line)
			labels := map[string]string{}
			for _, l := range f[1:] {
				k, v, _ := strings.Cut(l, "=")
				labels[k] = v
			}
			if !d.HasArg("count") {
				s.w.addNode(f[0], labels)
				continue
			}
			for i := range number(t, d, "count") {
				s.w.addNode(fmt.Sprint(f[0], i+1), labels)
			}
		}
	case "ensemble":
		s.ensemble(t, d)
	case "pods":
		for line := range strings.Lines(d.Input) {
			s.pod(strings.Fields(line))
		}
	case "volume":
		s.volume(t, d)
	case "ask":
		return s.ask(t, d)
	case "score":
		return s.score(t, d)
	case "bind":
		p := s.w.pods[arg(t, d, "pod")]
		s.w.run(p, arg(t, d, "node"))
	case "gone":
		delete(s.w.pods, arg(t, d, "pod"))
	case "lost":
		delete(s.w.nodes, arg(t, d, "node"))
	case "says":
		s.w.pods[arg(t, d, "pod")].condition = arg(t, d, "text")
	case "after":
		s.now = s.now.Add(time.Duration(number(t, d, "s")) * time.Second)
	case "restart":
		s.ledger = NewLedger(Timing{})
		s.ledger.Doubt(s.now, s.w.snapshot().Ensembles())
	case "takeover":
		s.ledger.Doubt(s.now, s.w.snapshot().Ensembles())
		s.ledger.Strangers(s.now)
	default:
		t.Fatalf("%s: unknown command %q", d.Pos, d.Cmd)
	}
	if len(s.w.levels) > 0 {
		s.ledger.See(s.now, s.w.ensemble(s.w.snapshot()))
	}
	return ""
}

func arg(t *testing.T, d *datadriven.TestData, name string) string {
	t.Helper()
	var v string
	d.ScanArgs(t, name, &v)
	return v
}

func number(t *testing.T, d *datadriven.TestData, name string) int {
	t.Helper()
	var v int
	d.ScanArgs(t, name, &v)
	return v
}

func list(d *datadriven.TestData, name string) []string {
	for _, a := range d.CmdArgs {
		if a.Key == name {
			return a.Vals
		}
	}
	return nil
}

func (s *script) ensemble(t *testing.T, d *datadriven.TestData) {
	t.Helper()
	d.ScanArgs(t, "voters", &s.w.voters)
	s.w.levels, s.w.live, s.w.quorum, s.w.only = nil, nil, nil, list(d, "only")
	for _, word := range list(d, "levels") {
		s.w.levels = append(s.w.levels, level(word))
	}
	if live := list(d, "live"); live != nil {
		s.w.live = liveConfig(live, func(string) bool { return d.HasArg("told") })
	}
	for _, word := range list(d, "weights") {
		name, n, _ := strings.Cut(word, ":")
		var weight int64
		if _, err := fmt.Sscan(n, &weight); err != nil {
			t.Fatal(err)
		}
		if s.w.quorum == nil {
			s.w.quorum = &v1alpha1.QuorumSpec{}
		}
		s.w.quorum.Members = append(s.w.quorum.Members, v1alpha1.QuorumMember{Name: name, Weight: &weight})
	}
}

func (s *script) pod(f []string) {
	p := &worldPod{uid: types.UID(fmt.Sprintf("%s-%d", f[0], s.now.UnixNano()))}
	if old := s.w.pods[f[0]]; old != nil && len(f) > 1 && f[1] != "anew" {
		p.uid = old.uid
	}
	for i := 1; i < len(f); i++ {
		switch f[i] {
		case "on":
			s.w.run(p, f[i+1])
		case "nominated":
			p.nominated = f[i+1]
		case "terminating":
			p.terminating = true
		case "gated":
			p.gated = true
		case "observer":
			s.w.observer[f[0]] = true
		}
	}
	s.w.pods[f[0]] = p
}

func (s *script) volume(t *testing.T, d *datadriven.TestData) {
	t.Helper()
	labels := map[string]string{}
	for word, key := range keys {
		if d.HasArg(word) {
			labels[key] = arg(t, d, word)
		}
	}
	s.w.volumes[arg(t, d, "pod")] = labels
}

func (s *script) ask(t *testing.T, d *datadriven.TestData) string {
	t.Helper()
	given := list(d, "nodes")
	if given == nil {
		given = s.w.nodeNames()
	}
	if zone := list(d, "zone"); zone != nil {
		given = slices.DeleteFunc(given, func(n string) bool { return s.w.nodes[n][keys["zone"]] != zone[0] })
	}
	snapshot := s.w.snapshot()
	p := s.w.pods[arg(t, d, "pod")]
	nominated := p.nominated != "" && len(given) == 1 && given[0] == p.nominated
	times := 1
	if d.HasArg("times") {
		times = number(t, d, "times")
	}
	var a Answer
	for range times {
		a = s.ledger.Filter(s.now, snapshot, s.w.ensemble(snapshot), p.uid, given, nominated)
	}
	return tell(a)
}

// tell writes an answer for people: who is refused for one reason stands together.
func tell(a Answer) string {
	var b strings.Builder
	fmt.Fprint(&b, a.Outcome)
	if len(a.Nodes) > 0 {
		fmt.Fprint(&b, ": ", some(a.Nodes))
	}
	if a.Message != "" {
		fmt.Fprint(&b, ": ", a.Message)
	}
	fmt.Fprintln(&b)
	by := map[string][]string{}
	for n, reason := range a.Reasons() {
		by[reason] = append(by[reason], n)
	}
	lines := make([]string, 0, len(by))
	for reason, nodes := range by {
		slices.Sort(nodes)
		lines = append(lines, fmt.Sprintf("not %s: %s\n", some(nodes), reason))
	}
	slices.Sort(lines)
	return b.String() + strings.Join(lines, "")
}

// some of many names.
func some(names []string) string {
	if len(names) > 9 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:3], " "), len(names)-3)
	}
	return strings.Join(names, " ")
}

func (s *script) score(t *testing.T, d *datadriven.TestData) string {
	t.Helper()
	snapshot := s.w.snapshot()
	e := s.w.ensemble(snapshot)
	given := s.w.nodeNames()
	scores := Prioritize(snapshot, e, find(e, s.w.pods[arg(t, d, "pod")].uid), given, s.ledger.claimsAt(s.now))
	by := map[int64][]string{}
	for i, n := range given {
		by[scores[i]] = append(by[scores[i]], n)
	}
	var b strings.Builder
	for _, score := range slices.Backward(slices.Sorted(maps.Keys(by))) {
		fmt.Fprintf(&b, "%d: %s\n", score, strings.Join(by[score], " "))
	}
	return b.String()
}
