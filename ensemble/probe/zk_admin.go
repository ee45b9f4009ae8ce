package probe

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// admin is what the AdminServer of one server said.
type admin struct {
	said
	// view is the configuration of voting_view, from 3.6, or of conf.
	view   *Config
	settle time.Duration
	// needZxid waits until it is known whether srvr told the zxid.
	needZxid func() bool
}

// askAdmin asks an AdminServer. What its version does not know is left out; only
// monitor must answer. Every answer comes with HTTP status 200, a refusal too.
// zabstate is asked only where nothing else tells what it does: newer servers first
// try whether they can reach themselves, which may take half a second.
func askAdmin(ctx context.Context, dial dialer, needZxid func() bool) (admin, error) {
	transport := &http.Transport{
		DialContext:            func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
		MaxConnsPerHost:        1,
		MaxResponseHeaderBytes: 16 << 10,
		DisableCompression:     true,
	}
	defer transport.CloseIdleConnections()
	ask := func(command string) (fields, error) { return command200(ctx, transport, command) }
	a := admin{needZxid: needZxid}
	err := a.monitor(ask)
	if err != nil || a.waits {
		return a, err
	}
	for _, more := range []func(func(string) (fields, error)) error{a.configuration, a.initial, a.leader, a.votingView, a.zabState} {
		if err := more(ask); err != nil && !errors.Is(err, errRefused) {
			return admin{}, err
		}
	}
	return a, nil
}

// fields of a JSON object, each still encoded.
type fields map[string]json.RawMessage

// errRefused is the refusal of one command by a server that answers others: its
// version does not know it.
var errRefused = errors.New("the AdminServer refuses the command")

func command200(ctx context.Context, rt http.RoundTripper, command string) (fields, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://member/commands/"+command, nil)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", command, err)
	}
	resp, err := rt.RoundTrip(req) // follows no redirect and no proxy
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", command, err)
	}
	defer resp.Body.Close()
	body, err := readBounded(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", command, err)
	}
	f, err := parseAdmin(body)
	switch {
	case resp.StatusCode == http.StatusNotFound, err == nil && f.text("error") != "":
		return f, fmt.Errorf("%s: %w: %.100s", command, errRefused, f.text("error"))
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("%s: HTTP status %d", command, resp.StatusCode)
	}
	return f, err
}

// parseAdmin reads one JSON object, and nothing after it.
func parseAdmin(body []byte) (fields, error) {
	d := json.NewDecoder(bytes.NewReader(body))
	f := fields{}
	if err := d.Decode(&f); err != nil || f == nil {
		return nil, fmt.Errorf("not an object: %w", errGarbage)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("more than one object: %w", errGarbage)
	}
	return f, nil
}

// text of a string, number or boolean; empty where there is none.
func (f fields) text(key string) string {
	raw := f[key]
	var s string
	if err := json.Unmarshal(raw, &s); err == nil {
		return s
	}
	if text := string(raw); text != "null" && !strings.HasPrefix(text, "{") && !strings.HasPrefix(text, "[") {
		return text
	}
	return ""
}

func (f fields) number(key string) int {
	n, err := strconv.Atoi(f.text(key))
	if err != nil {
		return -1
	}
	return n
}

func (a *admin) monitor(ask func(string) (fields, error)) error {
	f, err := ask("monitor")
	a.source = "AdminServer"
	if strings.Contains(f.text("error"), notServing) {
		a.waits = true
		return nil
	}
	if err != nil {
		return err
	}
	return a.monitored(func(key string) (string, bool) { _, ok := f[key]; return f.text(key), ok })
}

func (a *admin) configuration(ask func(string) (fields, error)) error {
	f, err := ask("configuration")
	if err != nil {
		return err
	}
	if id := f.text("server_id"); a.mode != "standalone" && f.number("server_id") >= 0 {
		a.id = id
	}
	a.settle = settle(f.text("tick_time"), f.text("sync_limit")) // few versions tell the second
	return nil
}

// initial is the zoo.cfg that it was started with, from 3.6.
func (a *admin) initial(ask func(string) (fields, error)) error {
	if a.settle > 0 {
		return nil
	}
	f, err := ask("initial_configuration")
	if err == nil {
		a.settle = parseConf(f.text("initial_configuration")).settle
	}
	return err
}

func (a *admin) zabState(ask func(string) (fields, error)) error {
	if a.state != "" && !a.needZxid() {
		return nil
	}
	f, err := ask("zabstate")
	if err != nil {
		return err
	}
	if f.number("myid") >= 0 {
		a.id = f.text("myid")
	}
	if zxid, err := strconv.ParseUint(strings.TrimPrefix(f.text("last_zxid"), "0x"), 16, 64); err == nil {
		a.zxid, a.zxided = zxid, true
	}
	if zab := f.text("zabstate"); a.state == "" && zab != "" { // 3.5 has no peer state
		a.state = zab
	}
	return nil
}

func (a *admin) leader(ask func(string) (fields, error)) error {
	f, err := ask("leader")
	if err == nil && f.number("leader_id") >= 0 {
		a.leaderID = f.text("leader_id")
	}
	return err
}

func (a *admin) votingView(ask func(string) (fields, error)) error {
	f, err := ask("voting_view")
	if err != nil {
		return err
	}
	a.view, err = parseVotingView(f["current_config"])
	return err
}

// parseVotingView reads the voters of voting_view. An empty one is no configuration.
func parseVotingView(raw json.RawMessage) (*Config, error) {
	var view map[string]struct {
		Addresses []string `json:"server_addresses"`
	}
	if err := json.Unmarshal(raw, &view); err != nil {
		return nil, fmt.Errorf("voting_view: %w", errGarbage)
	}
	if len(view) == 0 {
		return nil, nil
	}
	c := &Config{VotersOnly: true}
	for _, id := range slices.Sorted(maps.Keys(view)) {
		host := ""
		if a := view[id].Addresses; len(a) > 0 {
			host = hostOf(a[0])
		}
		if err := c.addServer(id, host+":participant"); err != nil {
			return nil, err
		}
	}
	return c, nil
}
