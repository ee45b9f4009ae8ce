package probe

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
)

// What servers of each version answer, and what is made of it. The answers of 3.8
// were taken from running servers; those of the other versions are made from its
// form and the sources of each version (MonitorCommand, Commands, ServerStats).
func TestZooKeeperVersions(t *testing.T) {
	datadriven.Walk(t, "testdata/zookeeper", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			z := scriptServer(t, d)
			prober, target := z.start(t)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			a := prober.Probe(ctx, target)
			return told(&a)
		})
	})
}

// scriptServer reads the answers to words and commands, each after a line
// "-- NAME"; commands of the AdminServer are those with a slash before.
func scriptServer(t *testing.T, d *datadriven.TestData) *zkServer {
	z := &zkServer{words: map[string]string{}}
	name := ""
	for line := range strings.Lines(d.Input + "\n") {
		if header, ok := strings.CutPrefix(line, "-- "); ok {
			name = strings.TrimSpace(header)
			continue
		}
		switch command, isCommand := strings.CutPrefix(name, "/"); {
		case name == "":
			t.Fatalf("%s: an answer without a name", d.Pos)
		case name == "config":
			z.config += line
		case isCommand:
			if z.commands == nil {
				z.commands = map[string]string{}
			}
			z.commands[command] += line
		default:
			z.words[name] += line
		}
	}
	return z
}

func told(a *Answer) string {
	var b strings.Builder
	if !a.Heard {
		return fmt.Sprintf("unseen: %s\n", a.Reason)
	}
	fmt.Fprintf(&b, "%s: %s serving=%t", a.Source, or(string(a.Role), "no role"), a.Serving)
	if a.State != "" {
		fmt.Fprintf(&b, " state=%q", a.State)
	}
	if a.ServerID != "" {
		fmt.Fprintf(&b, " id=%s", a.ServerID)
	}
	if a.LeaderID != "" {
		fmt.Fprintf(&b, " follows=%s", a.LeaderID)
	}
	fmt.Fprintf(&b, " at=%d/%d settle=%s\n", a.Epoch, a.Position, a.Settle)
	if a.Reason != "" {
		fmt.Fprintf(&b, "reason: %s\n", a.Reason)
	}
	if a.Count != nil {
		fmt.Fprintf(&b, "counts: %+v\n", *a.Count)
	}
	if c := a.Config; c != nil {
		fmt.Fprintf(&b, "config: version=%x voters-only=%t\n", c.Version, c.VotersOnly)
		for _, m := range c.Members {
			fmt.Fprintf(&b, "  %+v\n", m)
		}
	}
	return b.String()
}

const srvrOfLeader = "Zookeeper version: 3.8.0, built on 2024-12-29 17:54 UTC\nZxid: 0x500000007\nMode: leader\nNode count: 5\n"

// Every way not to answer well is unseen, and none outlasts its bound.
func TestZooKeeperUnseen(t *testing.T) {
	huge := strings.Repeat("zk_x\t1\n", maxAnswer/7+2)
	cases := map[string]struct {
		answer func(net.Conn)
		want   string
	}{
		"half-open":    {func(c net.Conn) { hold(c) }, "no answer in time"},
		"drips":        {drip, "no answer in time"},
		"huge":         {func(c net.Conn) { _, _ = c.Write([]byte(huge)) }, "its answer makes no sense"},
		"garbage":      {func(c net.Conn) { _, _ = c.Write([]byte("\x00\xff{]\n\tMode: king\nZxid: 0x1")) }, "its answer makes no sense"},
		"empty":        {func(net.Conn) {}, "its answer makes no sense"},
		"cut short":    {func(c net.Conn) { _, _ = c.Write([]byte(srvrOfLeader[:80])) }, "its answer makes no sense"},
		"two modes":    {func(c net.Conn) { _, _ = c.Write([]byte(srvrOfLeader + "Mode: follower\n")) }, "its answer makes no sense"},
		"only imok":    {func(c net.Conn) { _, _ = c.Write([]byte("imok")) }, "its answer makes no sense"},
		"not listed":   {func(c net.Conn) { _, _ = c.Write([]byte("srvr is not executed because it is not in the whitelist.")) }, errNotListed.Error()},
		"another text": {func(c net.Conn) { _, _ = c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n")) }, "its answer makes no sense"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			l := listen(t)
			go func() {
				for {
					conn, err := l.Accept()
					if err != nil {
						return
					}
					go func() {
						defer conn.Close()
						var asked [4]byte
						if _, err := conn.Read(asked[:]); err == nil {
							c.answer(conn)
						}
					}()
				}
			}()
			timeout := 30 * time.Second
			if c.want == "no answer in time" {
				timeout = 300 * time.Millisecond
			}
			ctx, cancel := context.WithTimeout(t.Context(), timeout)
			defer cancel()
			for _, z := range []*ZooKeeper{{ClientPort: portOf(l.Addr())}, {ClientPort: portOf(l.Addr()), AdminPort: portOf(l.Addr())}} {
				a := z.Probe(ctx, loopback("zk-0"))
				if a.Heard || a.Serving || a.Role != "" || !strings.Contains(a.Reason, c.want) {
					t.Errorf("got %s, want unseen: %s", told(&a), c.want)
				}
			}
		})
	}
}

// hold keeps the connection until the other side closes it.
func hold(c net.Conn) {
	var b [1]byte
	for {
		if _, err := c.Read(b[:]); err != nil {
			return
		}
	}
}

// drip sends a byte now and then, for ever.
func drip(c net.Conn) {
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for range ticker.C {
		if _, err := c.Write([]byte("Z")); err != nil {
			return
		}
	}
}

func TestZooKeeperNobodyThere(t *testing.T) {
	at := nobody(t)
	z := &ZooKeeper{ClientPort: at, AdminPort: at}
	a := z.Probe(t.Context(), loopback("zk-0"))
	if a.Heard || a.Reason != "connection refused" {
		t.Errorf("got %s", told(&a))
	}
	if a = z.Probe(t.Context(), Target{Name: "zk-1"}); a.Heard || a.Reason == "" {
		t.Errorf("a pod without an address: got %s", told(&a))
	}
}

// A server whose configuration is guarded is read with credentials only.
func TestZooKeeperAuth(t *testing.T) {
	s := &zkServer{words: map[string]string{"srvr": srvrOfLeader}, config: "server.1=h:1:2:participant\nversion=0\n", credentials: "quorate:secret"}
	z, target := s.start(t)
	a := z.Probe(t.Context(), target)
	if a.Config != nil || !strings.Contains(a.Reason, "configuration") {
		t.Errorf("without credentials: got %s", told(&a))
	}
	z.Auth = &Digest{User: "quorate", Password: "secret"}
	if a = z.Probe(t.Context(), target); a.Config == nil || len(a.Config.Members) != 1 {
		t.Errorf("with credentials: got %s", told(&a))
	}
	z.SkipConfig = true
	if a = z.Probe(t.Context(), target); a.Config != nil || !a.Serving {
		t.Errorf("with a configuration that is known: got %s", told(&a))
	}
}

// What a leader has told before it may not leave out, as one that is slow does: only where
// nobody ever tells whom a leader counts is it believed without.
func TestZooKeeperLeaderThatDoesNotSayWhomItCounts(t *testing.T) {
	const mntr = "zk_server_state\tleader\nzk_peer_state\tleading - broadcast\nzk_quorum_size\t5\nzk_synced_followers\t4\n"
	for name, c := range map[string]struct {
		mntr  string // empty: not listed
		admin string // "slow", "refuses", or not asked
		heard bool
	}{
		"mntr tells":                       {mntr, "", true},
		"mntr tells, the AdminServer slow": {mntr, "slow", true},
		"nobody is asked":                  {"", "", true},
		"the AdminServer is switched off":  {"", "refuses", true},
		"the AdminServer is slow":          {"", "slow", false},
		"mntr is cut short":                {mntr[:60], "", false},
		"mntr is cut short, admin refuses": {mntr[:60], "refuses", false},
	} {
		t.Run(name, func(t *testing.T) {
			s := &zkServer{words: map[string]string{"srvr": srvrOfLeader}}
			if c.mntr != "" {
				s.words["mntr"] = c.mntr
			}
			z, target := s.start(t)
			switch c.admin {
			case "slow":
				z.AdminPort = portOf(listen(t).Addr()) // accepts, and says nothing
			case "refuses":
				z.AdminPort = nobody(t)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			a := z.Probe(ctx, target)
			if a.Heard != c.heard {
				t.Errorf("got %s, want heard=%t", told(&a), c.heard)
			}
			if want := "it says that it leads, but not whom it counts"; !c.heard && !strings.HasPrefix(a.Reason, want) {
				t.Errorf("got the reason %q, want %q", a.Reason, want)
			}
		})
	}
}

// A leader answers every question that it can answer alone after its followers have
// left it: it is seen to write in granting a session. One that grants none in time, or
// breaks off, settles nothing, whatever else told the voters. One that refuses, or whose
// clients' port nobody could ask, is taken at its word as before.
func TestZooKeeperGrantsNoSession(t *testing.T) {
	words := map[string]string{"srvr": srvrOfLeader}
	admin := map[string]string{
		"monitor":     `{"server_state":"leader","peer_state":"leading - broadcast","quorum_size":"1","synced_followers":"0","error":null}`,
		"voting_view": `{"current_config":{"1":{"server_addresses":["zk-0.zk:2888"],"learner_type":"PARTICIPANT"}},"error":null}`,
	}
	silent := func(c net.Conn, giveUp func()) { giveUp(); hold(c) }
	for name, c := range map[string]struct {
		server *zkServer
		greets func(c net.Conn, giveUp func())
		known  bool
	}{
		"silent":                    {&zkServer{words: words, commands: admin}, silent, false},
		"silent, but for mntr":      {&zkServer{words: map[string]string{"srvr": "", "mntr": "zk_server_state\tleader\nzk_peer_state\tleading - broadcast\nzk_synced_followers\t0\n"}}, silent, false},
		"silent, but for srvr":      {&zkServer{words: words}, silent, false},
		"silent, no word listed":    {&zkServer{commands: admin}, silent, false},
		"breaks off":                {&zkServer{words: words, commands: admin}, func(net.Conn, func()) {}, false},
		"refuses the session":       {&zkServer{words: words, commands: admin}, func(c net.Conn, _ func()) { _ = send(c, make([]byte, 37)) }, true},
		"asks who it is":            {&zkServer{words: words, commands: admin, config: "x", credentials: "quorate:secret"}, nil, true},
		"has no such node":          {&zkServer{words: words, commands: admin}, nil, true},
		"speaks TLS to its clients": {&zkServer{words: map[string]string{"srvr": "\x15\x03\x03\x00\x02\x02\x0a"}, commands: admin}, silent, true},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, giveUp := context.WithCancel(t.Context())
			defer giveUp()
			if c.greets != nil {
				c.server.greets = func(conn net.Conn) { c.greets(conn, giveUp) }
			}
			prober, target := c.server.start(t)
			a := prober.Probe(ctx, target)
			v := Judge([]Answer{a}, Rules{Voters: 1}, time.Now())
			if !a.Heard || v.Known != c.known || !c.known && (v.Synced != 0 || v.Unseen.Len() != 1) {
				t.Errorf("got %s%s", told(&a), picture(&v))
			}
		})
	}
}
