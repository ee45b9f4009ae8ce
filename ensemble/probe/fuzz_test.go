package probe

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// The parsers meet whatever listens at a pod's address. They never panic, and never
// take for serving what did not say so in full.

func seed(f *testing.F) {
	files, err := filepath.Glob("testdata/zookeeper/*")
	if err != nil || len(files) == 0 {
		f.Fatal("no answers to begin with", err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		for part := range bytes.SplitSeq(text, []byte("\n-- ")) {
			_, body, _ := bytes.Cut(part, []byte("\n"))
			f.Add(string(body))
		}
	}
}

func FuzzSrvr(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, text string) {
		if s, err := parseSrvr(text); err == nil && !s.waits && (!s.zxided || !knownMode(s.mode)) {
			t.Errorf("accepted without zxid or mode: %+v", s)
		}
	})
}

func FuzzMntr(f *testing.F) {
	seed(f)
	f.Add("zk_server_state\tleader\nzk_peer_state\tleading - broadcast\n") // cut short
	f.Fuzz(func(t *testing.T, text string) {
		s, err := parseMntr(text)
		if err != nil || s.waits {
			return
		}
		if !knownMode(s.mode) || s.mode == "leader" && (s.count == nil || s.count.SyncedFollowers < 0) {
			t.Errorf("accepted without what it needs: %+v", s)
		}
		if c := s.count; c != nil && (c.Voters < -1 || c.SyncedFollowers < -1) {
			t.Errorf("counts below nothing: %+v", *c)
		}
	})
}

func FuzzConf(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, text string) {
		if r := parseConf(text); r.settle < 0 || r.config != nil && r.config.voters() == 0 {
			t.Errorf("makes no sense: %+v", r)
		}
	})
}

func FuzzConfig(f *testing.F) {
	seed(f)
	f.Add("server.1=[fd00::1]:2888:3888|h2:2888:3888:participant;[::]:2181\nserver.2=h:1:2:observer\ngroup.1=1:2\nweight.1=3\nversion=1f\n")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := parseConfig(text)
		if err != nil {
			return
		}
		ids := map[string]bool{}
		for _, m := range c.Members {
			if ids[m.ServerID] || m.ServerID == "" {
				t.Errorf("server %q twice or without a name", m.ServerID)
			}
			ids[m.ServerID] = true
		}
		if c.voters() == 0 {
			t.Error("accepted without voters")
		}
	})
}

func FuzzAdmin(f *testing.F) {
	seed(f)
	f.Add(`{"current_config":{"1":{"server_addresses":["h:1"]}}}`)
	f.Fuzz(func(t *testing.T, text string) {
		fields, err := parseAdmin([]byte(text))
		if err != nil {
			return
		}
		var s said
		_ = s.monitored(func(key string) (string, bool) { _, ok := fields[key]; return fields.text(key), ok })
		if c, err := parseVotingView(fields["current_config"]); err == nil && c != nil && c.voters() == 0 {
			t.Error("accepted without voters")
		}
	})
}

func FuzzReply(f *testing.F) {
	f.Add([]byte{0, 0, 0, 20, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, data []byte) {
		body, err := getData(replay{bytes.NewReader(data)}, 1, configPath)
		if err == nil && len(body) > len(data) {
			t.Errorf("%d bytes read of %d", len(body), len(data))
		}
	})
}

// replay reads what was recorded, and takes whatever is written.
type replay struct{ *bytes.Reader }

func (replay) Write(p []byte) (int, error) { return len(p), nil }
