package probe_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/quorate/quorate/ensemble/probe"
	"github.com/quorate/quorate/ensemble/quorum"
	"github.com/quorate/quorate/test/lab"
)

// Three servers become five and three again, while they are looked at all the time:
// who joins has no vote before the servers gave it one, who left none after, and no
// look in between takes them for anything but three, or five.
func TestZooKeeperReconfiguration(t *testing.T) {
	t.Parallel()
	subnet, err := lab.ClaimSubnet()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { subnet.Close() })
	c := lab.ZooKeeperConfig{Dir: t.TempDir(), SuperPassword: "secret"}
	for id := 1; id <= 3; id++ {
		c.Members = append(c.Members, lab.ZooKeeperMember{ID: id, Host: subnet.Addr(id)})
	}
	e := startZooKeeper(t, c)
	targets := append(members(e), join(t, c, 4, subnet.Addr(4)), join(t, c, 5, subnet.Addr(5)))
	p := &probe.ZooKeeper{ClientPort: 2181, AdminPort: 8080}
	v := await(t, p, targets, probe.Rules{}, "two to follow that do not vote", func(v *probe.View) bool {
		return three(v) && v.Members[3].Role == probe.Follower && v.Members[4].Role == probe.Follower
	})
	if v.Voters().Len() != 3 || v.Members[3].Votes || v.Members[4].Votes || v.Without(quorum.SetOf(0, 3), 0) != quorum.Safe || v.Without(quorum.SetOf(0, 1), 0) != quorum.Unsafe {
		t.Errorf("three voters and two that wait: %d voters, %q", v.Voters().Len(), shown(&v))
	}

	watched := watch(t, p, targets)
	conn := super(t, e)
	change := func(what string, joining, leaving []string) {
		t.Helper()
		if err := lab.Await(t.Context(), 2*time.Minute, what, func(context.Context) error {
			_, err := conn.IncrementalReconfig(joining, leaving, -1)
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	change("two to join", []string{line(4, subnet.Addr(4)), line(5, subnet.Addr(5))}, nil)
	v = await(t, p, targets, probe.Rules{}, "five voters", func(v *probe.View) bool {
		return v.Known && v.Doubt() == 0 && !v.Changing && v.Voters().Len() == 5 && v.Synced.Len() == 5
	})
	if v.Size() != 3 || v.Without(quorum.SetOf(0, 1), 0) != quorum.Safe || v.Without(quorum.SetOf(0, 1, 2), 0) != quorum.Unsafe {
		t.Errorf("five voters: quorum %d, %q", v.Size(), shown(&v))
	}
	change("two to leave", nil, []string{"4", "5"})
	v = await(t, p, targets, probe.Rules{}, "three voters", func(v *probe.View) bool {
		return v.Known && v.Doubt() == 0 && !v.Changing && v.Voters().Len() == 3 && v.Synced.Len() == 3
	})
	if v.Members[3].Votes || v.Members[4].Votes || v.Without(quorum.SetOf(3, 4), 1) != quorum.Safe || v.Without(quorum.SetOf(0, 1), 0) != quorum.Unsafe {
		t.Errorf("three voters again: %q", shown(&v))
	}
	views := watched()
	changing := 0
	for i := range views {
		v := &views[i]
		if v.Changing {
			changing++
		}
		if n := v.Voters().Len(); v.Known && n != 3 && n != 5 {
			t.Errorf("look %d found %d voters: %q", i, n, shown(v))
		}
		if old := v.Voters().Len(); v.Known && v.Changing && old != 5 {
			t.Errorf("look %d found a change among %d voters, want all that have a vote in either: %q", i, old, shown(v))
		}
	}
	t.Logf("%d looks, %d in the middle of a change", len(views), changing)
}

// join starts a server that is in nobody's configuration but its own.
func join(t *testing.T, c lab.ZooKeeperConfig, id int, host string) probe.Target {
	t.Helper()
	c.Members = append(slices.Clone(c.Members), lab.ZooKeeperMember{ID: id, Host: host})
	s, err := lab.NewZooKeeperServer(c, id)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return target(fmt.Sprintf("zk-%d", id-1), host)
}

func line(id int, host string) string {
	return fmt.Sprintf("server.%d=%s:2888:3888:participant;%s:2181", id, host, host)
}

// watch looks again and again until the returned function is called, which returns
// what was seen.
func watch(t *testing.T, p probe.Prober, targets []probe.Target) (stop func() []probe.View) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var views []probe.View
	var wait sync.WaitGroup
	wait.Go(func() {
		for ctx.Err() == nil {
			if v := look(ctx, p, targets, probe.Rules{}); ctx.Err() == nil {
				views = append(views, v)
			}
		}
	})
	t.Cleanup(func() { cancel(); wait.Wait() })
	return func() []probe.View { cancel(); wait.Wait(); return views }
}
