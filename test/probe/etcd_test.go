package probe_test

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"k8s.io/apimachinery/pkg/types"

	"github.com/quorate/quorate/ensemble/probe"
	"github.com/quorate/quorate/ensemble/quorum"
	"github.com/quorate/quorate/test/lab"
)

// etcdMember is one real etcd process on an address of its own.
type etcdMember struct {
	name, ip, dir string
	binary        string
	process       *lab.Process
}

func (m *etcdMember) peer() string   { return "http://" + m.ip + ":2380" }
func (m *etcdMember) client() string { return "http://" + m.ip + ":2379" }

func (m *etcdMember) start(t *testing.T, cluster, state string) {
	t.Helper()
	p, err := lab.StartProcess(t.Context(), lab.ProcessConfig{
		Path: m.binary,
		Args: []string{
			"--name=" + m.name, "--data-dir=" + m.dir, "--unsafe-no-fsync", "--log-level=error",
			"--listen-peer-urls=" + m.peer(), "--initial-advertise-peer-urls=" + m.peer(),
			"--listen-client-urls=" + m.client(), "--advertise-client-urls=" + m.client(),
			"--initial-cluster=" + cluster, "--initial-cluster-state=" + state,
		},
		Name: m.name, LogDir: filepath.Dir(m.dir),
	})
	if err != nil {
		t.Fatal(err)
	}
	m.process = p
	t.Cleanup(func() { p.Close() })
}

func (m *etcdMember) target() probe.Target {
	return probe.Target{Name: m.name, UID: types.UID(m.name), IP: netip.MustParseAddr(m.ip), Ready: true}
}

func newEtcd(t *testing.T, n int) []*etcdMember {
	t.Helper()
	binaries, err := lab.Build(t.Context(), t.Output())
	if err != nil {
		t.Fatal(err)
	}
	subnet, err := lab.ClaimSubnet()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { subnet.Close() })
	dir := t.TempDir()
	var all []*etcdMember
	for i := range n {
		name := fmt.Sprintf("etcd-%d", i)
		all = append(all, &etcdMember{name: name, ip: subnet.Addr(i + 1), dir: filepath.Join(dir, name), binary: filepath.Join(binaries, "etcd")})
	}
	return all
}

func cluster(members []*etcdMember) string {
	var parts []string
	for _, m := range members {
		parts = append(parts, m.name+"="+m.peer())
	}
	return strings.Join(parts, ",")
}

// Three members and a learner: who leads, who votes; a member that hangs,
// and a cluster that lost its majority.
func TestEtcd(t *testing.T) {
	t.Parallel()
	all := newEtcd(t, 4)
	voters := all[:3]
	for _, m := range voters {
		m.start(t, cluster(voters), "new")
	}
	targets := []probe.Target{all[0].target(), all[1].target(), all[2].target(), all[3].target()}
	p := &probe.Etcd{ClientPort: 2379}
	await(t, p, targets[:3], probe.Rules{}, "three members in sync", three)

	client, err := clientv3.New(clientv3.Config{Endpoints: []string{all[0].client()}, DialTimeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := lab.Await(t.Context(), 2*time.Minute, "a learner to be added", func(ctx context.Context) error {
		_, err := client.MemberAddAsLearner(ctx, []string{all[3].peer()})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	all[3].start(t, cluster(all), "existing")
	v := await(t, p, targets, probe.Rules{}, "a learner beside them", func(v *probe.View) bool {
		return three(v) && v.Members[3].Role == probe.Learner && v.Members[3].Health == probe.Synced
	})
	if v.Voters().Len() != 3 || v.Members[3].Votes || !v.Live || len(v.Strangers) != 0 {
		t.Errorf("voters=%d, the learner votes=%t, live=%t, strangers=%v", v.Voters().Len(), v.Members[3].Votes, v.Live, v.Strangers)
	}

	follower, other := (v.Leader+1)%3, (v.Leader+2)%3
	if err := all[follower].process.Pause(); err != nil {
		t.Fatal(err)
	}
	v = await(t, p, targets, probe.Rules{}, "a paused member to be unseen", func(v *probe.View) bool {
		return v.Known && v.Synced.Len() == 2 && v.Members[follower].Health == probe.Unseen
	})
	if got := v.Without(quorum.SetOf(other), 0); got != quorum.Unknown {
		t.Errorf("losing another one: %s, want Unknown", got)
	}
	if err := all[other].process.Kill(); err != nil {
		t.Fatal(err)
	}
	await(t, p, targets, probe.Rules{Voters: 3}, "nobody to read through a quorum", func(v *probe.View) bool {
		return !v.Known && v.Synced == 0
	})
	if err := all[follower].process.Resume(); err != nil {
		t.Fatal(err)
	}
	await(t, p, targets, probe.Rules{}, "a majority again", func(v *probe.View) bool { return v.Known && v.Synced.Len() == 2 })
}
