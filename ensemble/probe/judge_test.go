package probe

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"net/netip"

	"github.com/cockroachdb/datadriven"

	"github.com/quorate/quorate/ensemble/quorum"
	"github.com/quorate/quorate/ensemble/v1alpha1"
)

// The cases of Judge, in words: testdata/judge. Rewrite what is expected with
// go test -run TestJudge -rewrite, and read the difference.
func TestJudge(t *testing.T) {
	datadriven.Walk(t, "testdata/judge", func(t *testing.T, path string) {
		var v View
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "judge":
				v = judgeScript(t, d)
				return picture(&v)
			case "without":
				return without(t, d, &v)
			}
			t.Fatalf("unknown command %q", d.Cmd)
			return ""
		})
	})
}

// One of two voters may lead alone by an oracle that was told, or is declared where the
// source names no oracle. That it may is no quorum.
func TestOracleMayLetOneLead(t *testing.T) {
	two := []ConfigMember{{ServerID: "1", Votes: true, Weight: 1}, {ServerID: "2", Votes: true, Weight: 1}}
	for name, c := range map[string]struct {
		config   Config
		declared bool
		want     bool
	}{
		"told":               {Config{Members: two, Oracle: true}, false, true},
		"declared":           {Config{Members: two, VotersOnly: true}, true, true},
		"neither":            {Config{Members: two, VotersOnly: true}, false, false},
		"declared, not true": {Config{Members: two}, true, false},
		"of three":           {Config{Members: append(two, ConfigMember{ServerID: "3", Votes: true, Weight: 1}), Oracle: true}, true, false},
	} {
		a := Answer{Heard: true, Serving: true, Role: Leader, ServerID: "1", Config: &c.config}
		v := Judge([]Answer{a}, Rules{Quorum: &v1alpha1.QuorumSpec{Oracle: c.declared}}, scriptStart)
		if got := v.System.MayLead(v.Synced); got != c.want || v.System.Quorum(v.Synced) {
			t.Errorf("%s: got MayLead=%t, Quorum=%t, want %t, false", name, got, v.System.Quorum(v.Synced), c.want)
		}
	}
}

var scriptStart = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func judgeScript(t *testing.T, d *datadriven.TestData) View {
	r := Rules{Leaderless: d.HasArg("leaderless")}
	var age int
	d.MaybeScanArgs(t, "voters", &r.Voters)
	d.MaybeScanArgs(t, "lag", &r.Lag)
	if d.MaybeScanArgs(t, "max-age", &age); age > 0 {
		r.MaxAge = time.Duration(age) * time.Second
	}
	configs := map[string]*Config{}
	var answers []Answer
	for line := range strings.Lines(d.Input) {
		f := strings.Fields(line)
		switch {
		case len(f) == 0:
		case f[0] == "config":
			configs[f[1]] = scriptConfig(t, f[2:])
		case f[0] == "declared":
			r.Quorum = scriptDeclared(t, f[1:])
		default:
			answers = append(answers, scriptAnswer(t, f, configs))
		}
	}
	return Judge(answers, r, scriptStart)
}

// scriptAnswer reads: NAME ROLE [KEY=VALUE ...] ['reason']. The roles that serve
// are leader, follower, observer, learner, voter; looking, syncing and silent don't.
func scriptAnswer(t *testing.T, f []string, configs map[string]*Config) Answer {
	a := Answer{Target: Target{Name: f[0]}, Heard: true, Serving: true, At: scriptStart}
	switch f[1] {
	case "leader", "follower", "observer", "learner", "voter":
		a.Role = Role(strings.ToUpper(f[1][:1]) + f[1][1:])
	case "looking":
		a.Serving, a.State = false, "looking"
	case "syncing":
		a.Serving, a.Role, a.State = false, Follower, "following - synchronization"
	case "electing":
		a.Serving, a.Role, a.State = false, Leader, "leading - discovery"
	case "silent":
		a.Heard, a.Serving = false, false
	default:
		t.Fatalf("unknown role %q", f[1])
	}
	for _, kv := range f[2:] {
		k, val, _ := strings.Cut(kv, "=")
		scriptField(t, &a, k, val, configs)
	}
	return a
}

func scriptField(t *testing.T, a *Answer, k, val string, configs map[string]*Config) {
	n, _ := strconv.Atoi(val)
	switch k {
	case "id":
		a.ServerID = val
	case "was":
		a.Target.ServerID = val
	case "ip":
		a.Target.IP = netip.MustParseAddr(val)
	case "alone":
		a.Alone, a.Reason = true, "it grants no session: no answer in time"
	case "labelled-observer":
		a.Target.Observer = true
	case "epoch":
		a.Epoch = uint64(n)
	case "pos":
		a.Position = uint64(n)
	case "follows":
		a.LeaderID = val
	case "age":
		a.At = scriptStart.Add(-time.Duration(n) * time.Second)
	case "settle":
		a.Settle = time.Duration(n) * time.Second
	case "alarm":
		a.Alarms = append(a.Alarms, val)
	case "counts": // voters/synced followers; - is not told
		voters, synced, _ := strings.Cut(val, "/")
		a.Count = &Count{Voters: numberOr(voters, -1), SyncedFollowers: numberOr(synced, -1)}
	case "config":
		if a.Config = configs[val]; a.Config == nil {
			t.Fatalf("no config %q yet", val)
		}
	default:
		t.Fatalf("unknown field %q", k)
	}
}

func numberOr(s string, otherwise int) int {
	if n, err := strconv.Atoi(s); err == nil {
		return n
	}
	return otherwise
}

// scriptConfig reads: [voters-only] [oracle] [joint] ID[@HOST][,observer][,wWEIGHT][,gGROUP] ...
func scriptConfig(t *testing.T, f []string) *Config {
	c := &Config{}
	for _, word := range f {
		switch word {
		case "voters-only":
			c.VotersOnly = true
			continue
		case "oracle":
			c.Oracle = true
			continue
		case "joint":
			c.Joint = true
			continue
		}
		parts := strings.Split(word, ",")
		m := ConfigMember{Votes: true, Weight: 1}
		m.ServerID, m.Host, _ = strings.Cut(parts[0], "@")
		for _, p := range parts[1:] {
			switch p[0] {
			case 'o':
				m.Votes = false
			case 'w':
				m.Weight = uint64(numberOr(p[1:], 1))
			case 'g':
				m.Group = p[1:]
			default:
				t.Fatalf("unknown attribute %q", p)
			}
		}
		c.Members = append(c.Members, m)
	}
	return c
}

func scriptDeclared(t *testing.T, f []string) *v1alpha1.QuorumSpec {
	s := &v1alpha1.QuorumSpec{}
	for _, m := range scriptConfig(t, f).Members {
		w := int64(m.Weight)
		s.Members = append(s.Members, v1alpha1.QuorumMember{Name: m.ServerID, Weight: &w, Group: m.Group})
	}
	return s
}

func picture(v *View) string {
	var b strings.Builder
	switch {
	case !v.Known:
		fmt.Fprintf(&b, "unknown: %s\n", v.Reason)
	case v.Leader >= 0:
		fmt.Fprintf(&b, "known, led by %s\n", v.Members[v.Leader].Name)
	default:
		fmt.Fprintf(&b, "known\n")
	}
	fmt.Fprintf(&b, "voters=%d quorum=%d synced=%d unseen=%d doubt=%d live=%t changing=%t settle=%s\n",
		v.Voters().Len(), v.Size(), v.Synced.Len(), v.Unseen.Len(), v.Doubt(), v.Live, v.Changing, v.Settle)
	for i := range v.Members {
		m := &v.Members[i]
		fmt.Fprintf(&b, "%s id=%s", m.Name, or(m.ServerID, "?"))
		if m.Votes {
			b.WriteString(" votes")
		}
		fmt.Fprintf(&b, " %s", m.Health)
		if m.Reason != "" {
			fmt.Fprintf(&b, ": %s", m.Reason)
		}
		b.WriteByte('\n')
	}
	if len(v.Strangers) > 0 {
		fmt.Fprintf(&b, "strangers: %s\n", strings.Join(v.Strangers, " "))
	}
	return b.String()
}

// without answers: without NAME ... [spare=N] [settled]
func without(t *testing.T, d *datadriven.TestData, v *View) string {
	var gone quorum.Set
	spare := 0
	d.MaybeScanArgs(t, "spare", &spare)
	v.Settled = d.HasArg("settled")
	for _, arg := range d.CmdArgs {
		if arg.Key == "spare" || arg.Key == "settled" {
			continue
		}
		i := v.Index(arg.Key)
		if i < 0 {
			t.Fatalf("%s: no member %q", d.Pos, arg.Key)
		}
		gone = gone.With(i)
	}
	return fmt.Sprintf("%s, allowed after that: %d\n", v.Without(gone, spare), v.Allowed(gone, spare))
}
