package deploy

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/quorate/quorate/test/lab"
)

// The log's sentences that the election is followed by.
const (
	leads   = "Leads: keeps the status of Ensembles"
	ended   = "Leads no longer"
	movesOn = "The election moves: its configuration changed"
)

// term is a time for which a replica led. Until is infinite while it does.
type term struct {
	pod          string
	since, until float64
}

// terms are what all replicas' logs say, and how often each heard of a move.
func (c *cluster) terms(t *testing.T) (all []term, moves map[string]int) {
	t.Helper()
	logs, err := filepath.Glob(filepath.Join(c.Logs(), "quorate-[0-9]*.log"))
	if err != nil {
		t.Fatal(err)
	}
	moves = map[string]int{}
	for _, log := range logs {
		text, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		open := map[string]int{}
		for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
			var line struct {
				Time      float64 `json:"ts"`
				Message   string  `json:"msg"`
				Candidate string  `json:"candidate"`
			}
			if json.Unmarshal(lines.Bytes(), &line) != nil {
				continue // it is being written
			}
			switch line.Message {
			case leads:
				open[line.Candidate] = len(all)
				pod, _, _ := strings.Cut(line.Candidate, "_")
				all = append(all, term{pod, line.Time, math.Inf(1)})
			case ended:
				all[open[line.Candidate]].until = line.Time
			case movesOn:
				moves[filepath.Base(log)]++
			}
		}
	}
	slices.SortFunc(all, func(a, b term) int { return cmp.Compare(a.since, b.since) })
	return all, moves
}

// leader awaits that somebody leads whose term is not among those that are known.
func (c *cluster) leader(t *testing.T, when string, known []term) (now term) {
	t.Helper()
	await(t, "a leader "+when, func(context.Context) error {
		all, _ := c.terms(t)
		for _, now = range all {
			if math.IsInf(now.until, 1) && !slices.Contains(known, now) {
				return nil
			}
		}
		return fmt.Errorf("terms were %v", all)
	})
	return now
}

// moves changes the connection string in the ConfigMap: from the Lease to a real
// ZooKeeper, and on to another one, of which one replica hears late. There is one
// leader at most at any time, and one again after each step.
func (c *cluster) moves(t *testing.T) {
	var servers [2]string
	start, ctx := errgroup.WithContext(t.Context())
	for i := range servers {
		start.Go(func() error {
			e, err := lab.StartZooKeeper(ctx, lab.ZooKeeperConfig{Voters: 1})
			if err != nil {
				return err
			}
			t.Cleanup(func() { _ = e.Close() })
			servers[i] = e.Server(1).Addr()
			return nil
		})
	}
	if err := start.Wait(); err != nil {
		t.Fatal(err)
	}
	configs := c.Client.CoreV1().ConfigMaps("quorate-system")
	before, err := configs.Get(t.Context(), "quorate", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	configure := func(more string) {
		t.Helper()
		now, err := configs.Get(t.Context(), "quorate", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		now.Data["quorate.yaml"] = before.Data["quorate.yaml"] + more
		if _, err := configs.Update(t.Context(), now, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	by := func(server string) string {
		return fmt.Sprintf("statusController:\n  leaderElection: {resourceLock: zookeeper, leaseDuration: 3s, renewDeadline: 2500ms, retryPeriod: 500ms, zooKeeper: {servers: %q, sessionTimeout: 10s, tick: 500ms}}\n", server)
	}
	heard := func(times int) {
		t.Helper()
		await(t, "both replicas to hear of a change", func(context.Context) error {
			_, moves := c.terms(t)
			n := 0
			for _, m := range moves {
				if m >= times {
					n++
				}
			}
			if n < 2 {
				return fmt.Errorf("changes heard of: %v", moves)
			}
			return nil
		})
	}

	led, _ := c.terms(t)
	configure(by(servers[0]))
	first := c.leader(t, "by the first ZooKeeper", led)
	c.pointsTo(t, servers[0])
	heard(1)

	late := ""
	for _, pod := range c.replicas(t) {
		if pod != first.pod {
			late = pod
		}
	}
	led, _ = c.terms(t)
	c.hold(late, true)
	configure(by(servers[1]))
	c.leader(t, "while one replica has the former address", led)
	c.hold(late, false)
	heard(2)
	c.pointsTo(t, servers[1])
	c.leader(t, "by the second ZooKeeper", nil)

	all, _ := c.terms(t)
	for i, a := range all[1:] {
		if all[i].until > a.since {
			t.Errorf("two leaders: %+v and %+v", all[i], a)
		}
	}
	t.Logf("terms: %+v", all)
	c.returns(t, func() { configure(""); heard(3) })
}

// returns goes back to the Lease as docs/leader-election.md says: what is in it keeps
// everybody away until it is deleted by hand, once nobody leads elsewhere.
func (c *cluster) returns(t *testing.T, configure func()) {
	t.Helper()
	configure()
	var led []term
	await(t, "nobody to lead", func(context.Context) error {
		led, _ = c.terms(t)
		for _, l := range led {
			if math.IsInf(l.until, 1) {
				return fmt.Errorf("%s leads", l.pod)
			}
		}
		return nil
	})
	for _, name := range []string{"quorate-status", "quorate-status-store"} {
		if err := c.Client.CoordinationV1().Leases("quorate-system").Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	c.leader(t, "by the Lease again", led)
}

// pointsTo awaits that the Lease of the election's place names the address.
func (c *cluster) pointsTo(t *testing.T, address string) {
	t.Helper()
	await(t, "the election to be held at "+address, func(ctx context.Context) error {
		lease, err := c.Client.CoordinationV1().Leases("quorate-system").Get(ctx, "quorate-status-store", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if at := lease.Annotations["quorate.io/election-address"]; at != address {
			return errors.New("it is at " + at)
		}
		return nil
	})
}

// replicas are the names of the guard's pods.
func (c *cluster) replicas(t *testing.T) (names []string) {
	t.Helper()
	pods, err := c.Client.CoreV1().Pods("quorate-system").List(t.Context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=quorate"})
	if err != nil {
		t.Fatal(err)
	}
	for i := range pods.Items {
		names = append(names, pods.Items[i].Name)
	}
	return names
}
