package probe

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// said is what one source of a ZooKeeper server said of it.
type said struct {
	source string
	// mode is "leader", "follower", "observer", "standalone", "read-only", or empty.
	mode string
	// state is the peer state, from 3.6: "following - broadcast".
	state string
	// id and leaderID; empty where the source does not tell.
	id, leaderID string
	// zxid, if told.
	zxid   uint64
	zxided bool
	// waits is whether it answered that it does not serve now.
	waits bool
	count *Count
}

const notServing = "not currently serving requests"

var (
	errNotListed = errors.New("the word is not in the server's whitelist")
	errGarbage   = errors.New("the answer cannot be understood")
)

// parseSrvr reads the answer to srvr. Only Zxid and Mode count, so that no version
// string or date can spoil it. An answer that was cut short has no Mode.
func parseSrvr(text string) (said, error) {
	s := said{source: "srvr"}
	if err := refusal(text, &s); err != nil || s.waits {
		return s, err
	}
	for line := range strings.Lines(text) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), ": ")
		switch {
		case !ok:
		case key == "Zxid":
			n, err := strconv.ParseUint(strings.TrimPrefix(value, "0x"), 16, 64)
			if err != nil || s.zxided {
				return said{}, fmt.Errorf("zxid %.40q: %w", value, errGarbage)
			}
			s.zxid, s.zxided = n, true
		case key == "Mode":
			if s.mode != "" {
				return said{}, fmt.Errorf("two modes: %w", errGarbage)
			}
			s.mode = value
		}
	}
	if !s.zxided || !knownMode(s.mode) {
		return said{}, fmt.Errorf("mode %.40q: %w", s.mode, errGarbage)
	}
	return s, nil
}

// refusal finds the two answers that any word may get instead of its own.
func refusal(text string, s *said) error {
	switch {
	case strings.Contains(text, "is not in the whitelist"):
		return errNotListed
	case strings.Contains(text, notServing):
		s.waits = true
	}
	return nil
}

func knownMode(mode string) bool {
	switch mode {
	case "leader", "follower", "observer", "standalone", "read-only":
		return true
	}
	return false
}

// parseMntr reads the answer to mntr.
func parseMntr(text string) (said, error) {
	s := said{source: "mntr"}
	if err := refusal(text, &s); err != nil || s.waits {
		return s, err
	}
	values := map[string]string{}
	for line := range strings.Lines(text) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), "\t")
		if name, ours := strings.CutPrefix(key, "zk_"); ok && ours {
			values[name] = value
		}
	}
	return s, s.monitored(func(key string) (string, bool) { v, ok := values[key]; return v, ok })
}

// monitored fills in what mntr and the AdminServer's monitor have in common, under
// the names of 3.5 (followers) or of 3.6 and later (learners).
func (s *said) monitored(value func(string) (string, bool)) error {
	s.mode, _ = value("server_state")
	s.state, _ = value("peer_state")
	if !knownMode(s.mode) {
		return fmt.Errorf("server state %.40q: %w", s.mode, errGarbage)
	}
	if s.mode != "leader" {
		return nil
	}
	var bad error
	number := func(keys ...string) int {
		for _, key := range keys {
			text, ok := value(key)
			if !ok {
				continue
			}
			n, err := strconv.ParseFloat(text, 64)
			if err != nil || n != float64(int(n)) || n < 0 || n > 1e6 {
				bad = fmt.Errorf("%s %.40q: %w", key, text, errGarbage)
				return -1
			}
			return int(n)
		}
		return -1
	}
	c := Count{
		Voters:          number("quorum_size"),
		Learners:        number("learners", "followers"),
		SyncedFollowers: number("synced_followers"),
		SyncedObservers: number("synced_observers"),
		PendingSyncs:    number("pending_syncs"),
	}
	// The leader counts all synced followers, those without a vote too.
	if n := number("synced_non_voting_followers"); n > 0 && c.SyncedFollowers >= 0 {
		c.SyncedFollowers = max(0, c.SyncedFollowers-n)
	}
	s.count = &c
	if bad == nil && c.SyncedFollowers < 0 {
		// All versions tell it: this answer was cut short.
		bad = fmt.Errorf("a leader without synced_followers: %w", errGarbage)
	}
	return bad
}

// running is how a server says it was started: the answer to conf, or its zoo.cfg.
type running struct {
	// id of the server, empty if not told.
	id     string
	settle time.Duration
	// config, of conf only; nil if not told.
	config *Config
}

// parseConf reads the answer to conf, or the text of a zoo.cfg. What it does not
// tell stays empty; it never makes a server unseen.
func parseConf(text string) running {
	var r running
	values := map[string]string{}
	head, membership, found := strings.Cut(text, "membership:")
	for line := range strings.Lines(head) {
		if key, value, ok := strings.Cut(line, "="); ok {
			values[strings.TrimSpace(key)] = strings.TrimSpace(value)
		}
	}
	if n, err := strconv.Atoi(values["serverId"]); err == nil && n >= 0 {
		r.id = values["serverId"]
	}
	r.settle = settle(values["tickTime"], values["syncLimit"])
	if found {
		r.config, _ = parseConfig(membership)
	}
	return r
}

// settle is how long a leader takes to miss a follower; 0 where it is not told, or
// makes no sense. 3000 ms is tickTime's default.
func settle(tickTime, syncLimit string) time.Duration {
	tick, err := strconv.Atoi(or(tickTime, "3000"))
	limit, err2 := strconv.Atoi(syncLimit)
	if err != nil || err2 != nil || tick <= 0 || limit <= 0 || tick > 1e6 || limit > 1e4 {
		return 0
	}
	return time.Duration(tick*limit) * time.Millisecond
}

// parseConfig reads a ZooKeeper configuration as /zookeeper/config holds it.
func parseConfig(text string) (*Config, error) {
	c := &Config{}
	groups, weights := map[string]string{}, map[string]uint64{}
	for line := range strings.Lines(text) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		kind, id, _ := strings.Cut(key, ".")
		var err error
		switch {
		case !ok:
		case kind == "server":
			err = c.addServer(id, value)
		case kind == "group":
			for member := range strings.SplitSeq(value, ":") {
				if groups[member] != "" {
					err = fmt.Errorf("server %.20q in two groups: %w", member, errGarbage)
				}
				groups[member] = id
			}
		case kind == "weight":
			weights[id], err = strconv.ParseUint(value, 10, 32)
		case key == "version":
			c.Version, err = strconv.ParseUint(value, 16, 64)
		case key == "oraclePath":
			c.Oracle = true
		}
		if err != nil {
			return nil, fmt.Errorf("configuration: %w", err)
		}
	}
	if c.voters() == 0 {
		return nil, fmt.Errorf("configuration without voters: %w", errGarbage)
	}
	for i := range c.Members {
		m := &c.Members[i]
		m.Group = groups[m.ServerID]
		if w, ok := weights[m.ServerID]; ok {
			m.Weight = w
		}
	}
	return c, nil
}

// addServer reads the value of server.ID: HOST:PORT:PORT[|...][:ROLE][;CLIENT].
func (c *Config) addServer(id, value string) error {
	if _, err := strconv.ParseInt(id, 10, 64); err != nil {
		return fmt.Errorf("server id %.20q: %w", id, errGarbage)
	}
	peers, _, _ := strings.Cut(value, ";")
	m := ConfigMember{ServerID: id, Votes: !strings.HasSuffix(peers, ":observer"), Weight: 1}
	m.Host = hostOf(peers)
	for i := range c.Members {
		if c.Members[i].ServerID == id {
			return fmt.Errorf("server %s twice: %w", id, errGarbage)
		}
	}
	c.Members = append(c.Members, m)
	return nil
}

// hostOf is the host of "host:port..." or "[host]:port...".
func hostOf(address string) string {
	if rest, ok := strings.CutPrefix(address, "["); ok {
		host, _, _ := strings.Cut(rest, "]")
		return host
	}
	host, _, _ := strings.Cut(address, ":")
	return host
}
