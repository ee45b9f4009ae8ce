package status_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/ensemble/v1alpha1"
	"github.com/quorate/quorate/test/bench"
	"github.com/quorate/quorate/test/lab"
)

const (
	fleet    = 1000
	crew     = 5 // members of each
	division = 10
)

// BenchmarkFleet measures what quorate serve takes to keep the status of 1,000
// ensembles of five, of which nothing changes: the binary as it is shipped, a real
// API server, and servers that answer as ZooKeeper does.
func BenchmarkFleet(b *testing.B) {
	binary := filepath.Join(b.TempDir(), "quorate")
	if out, err := exec.CommandContext(b.Context(), "go", "build", "-o", binary, "../../cmd/quorate").CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	c, err := client.New(plane.RESTConfig(), client.Options{Scheme: scheme})
	if err != nil {
		b.Fatal(err)
	}
	if err := c.Create(b.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "quorate-system"}}); err != nil {
		b.Fatal(err)
	}
	servers := serveFleet(b)
	p, err := lab.StartProcess(b.Context(), lab.ProcessConfig{
		Name: "quorate", Path: binary, LogDir: plane.Logs(),
		Args: []string{"serve", "--webhook=false", "--kubeconfig=" + plane.Kubeconfig(), "--health-bind-address=127.0.0.1:0", "--metrics-bind-address="},
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { p.Close() })
	idle := servers.minute(b, p)
	populate(b, c, servers.port)
	awaitFleet(b, c)
	busy := servers.minute(b, p) // each pauses for longer and longer
	calm := servers.minute(b, p)
	b.ReportMetric(calm.memory, "MB-resident")
	b.ReportMetric(calm.cpu, "cpu-s/min")
	b.ReportMetric(calm.looks, "looks/min")
	const of = "status of 1,000 ensembles x 5"
	bench.Record(b, of+", resident", calm.memory, "MB", "the same process without ensembles", idle.memory)
	bench.Record(b, of+", CPU", calm.cpu, "s/min", "the same process without ensembles", idle.cpu)
	bench.Record(b, of+", CPU in the first minute", busy.cpu, "s/min", "the same process without ensembles", idle.cpu)
	bench.Record(b, of+", rounds of probes", calm.looks, "per min", "one every 10 s for each", 6*fleet)
}

// fleetServers answer for all members. A server knows which it is by the address that
// it was called at.
type fleetServers struct {
	port  int32
	looks atomic.Int64 // at leaders
}

func serveFleet(b *testing.B) *fleetServers {
	l, err := (&net.ListenConfig{}).Listen(b.Context(), "tcp", "0.0.0.0:0")
	if err != nil {
		b.Fatal(err)
	}
	s := &fleetServers{port: int32(l.Addr().(*net.TCPAddr).Port)}
	var wait sync.WaitGroup
	wait.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wait.Go(func() { s.answer(conn) })
		}
	})
	b.Cleanup(func() { l.Close(); wait.Wait() })
	return s
}

// hostOf is the address of a member.
func hostOf(ensemble, member int) string {
	return fmt.Sprintf("127.%d.%d.%d", 100+ensemble/200, ensemble%200, member+1)
}

func (s *fleetServers) answer(conn net.Conn) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	word := make([]byte, 4)
	if _, err := io.ReadFull(conn, word); err != nil {
		return
	}
	ip := conn.LocalAddr().(*net.TCPAddr).IP.To4()
	var servers strings.Builder
	for m := range byte(crew) {
		fmt.Fprintf(&servers, "server.%d=%d.%d.%d.%d:2888:3888:participant\n", m+1, ip[0], ip[1], ip[2], m+1)
	}
	mode, state, counts := "follower", "following - broadcast", ""
	if ip[3] == 1 {
		mode, state = "leader", "leading - broadcast"
		counts = fmt.Sprintf("zk_quorum_size\t%d\nzk_learners\t%d\nzk_synced_followers\t%d\nzk_synced_non_voting_followers\t0\nzk_synced_observers\t0\nzk_pending_syncs\t0\n", crew, crew-1, crew-1)
	}
	switch string(word) {
	case "srvr":
		if mode == "leader" {
			s.looks.Add(1)
		}
		fmt.Fprintf(conn, "Zookeeper version: 3.8.0\nLatency min/avg/max: 0/0.0/0\nZxid: 0x100000001\nMode: %s\nNode count: 5\n", mode)
	case "mntr":
		fmt.Fprintf(conn, "zk_version\t3.8.0\nzk_server_state\t%s\nzk_peer_state\t%s\n%s%s", mode, state, counts, strings.Repeat("zk_some_metric\t1234.5\n", 600))
	case "conf":
		fmt.Fprintf(conn, "clientPort=%d\ntickTime=2000\nsyncLimit=5\nserverId=%d\nmembership: \n%s", s.port, ip[3], &servers)
	default: // the length of a request for a session
		session(conn, binary.BigEndian.Uint32(word), servers.String()+"version=0")
	}
}

// session grants what the client asks for, and answers its one read with the
// configuration.
func session(conn net.Conn, length uint32, config string) {
	_, _ = io.CopyN(io.Discard, conn, int64(length))
	granted := append(binary.BigEndian.AppendUint32(nil, 0), 0, 0, 0x0f, 0xa0) // protocol, 4,000 ms
	granted = binary.BigEndian.AppendUint64(granted, 42)
	granted = append(binary.BigEndian.AppendUint32(granted, 16), make([]byte, 17)...) // password, not read-only
	_, _ = conn.Write(frame(granted))
	request := make([]byte, 8) // length, xid
	if _, err := io.ReadFull(conn, request); err != nil {
		return
	}
	_, _ = io.CopyN(io.Discard, conn, int64(binary.BigEndian.Uint32(request))-4)
	reply := append(request[4:8:8], make([]byte, 12)...) // xid, zxid, no error
	reply = append(binary.BigEndian.AppendUint32(reply, uint32(len(config))), config...)
	_, _ = conn.Write(frame(append(reply, make([]byte, 68)...))) // the node's Stat
	_, _ = io.Copy(io.Discard, conn)                             // until the client closes
}

func frame(body []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
}

// populate makes the fleet, all members running.
func populate(b *testing.B, c client.Client, port int32) {
	b.Helper()
	group, ctx := errgroup.WithContext(b.Context())
	group.SetLimit(16)
	for d := range fleet / division {
		group.Go(func() error {
			namespace := fmt.Sprintf("fleet-%d", d)
			if err := c.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}); err != nil {
				return err
			}
			for k := range division {
				if err := enlist(ctx, c, namespace, d*division+k, port); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		b.Fatal(err)
	}
}

func enlist(ctx context.Context, c client.Client, namespace string, ensemble int, port int32) error {
	name := fmt.Sprintf("zk%d", ensemble)
	for m := range crew {
		p := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprintf("%s-%d", name, m), Labels: map[string]string{"app": name}},
			Spec:       corev1.PodSpec{NodeName: fmt.Sprintf("node-%d", m), Containers: []corev1.Container{{Name: "zk", Image: "zk"}}},
		}
		if err := c.Create(ctx, p); err != nil {
			return err
		}
		p.Status = corev1.PodStatus{Phase: corev1.PodRunning, PodIP: hostOf(ensemble, m), PodIPs: []corev1.PodIP{{IP: hostOf(ensemble, m)}}}
		if err := c.Status().Update(ctx, p); err != nil {
			return err
		}
	}
	return c.Create(ctx, &v1alpha1.Ensemble{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: v1alpha1.EnsembleSpec{
			System: v1alpha1.ZooKeeper, Voters: new(int32(crew)), Selector: v1alpha1.Selector{MatchLabels: map[string]v1alpha1.LabelValue{"app": v1alpha1.LabelValue(name)}},
			Probe: &v1alpha1.ProbeSpec{ZooKeeper: &v1alpha1.ZooKeeperProbe{ClientPort: port, AdminPort: new(int32(0))}},
		},
	})
}

// awaitFleet waits until every ensemble is known to be in sync.
func awaitFleet(b *testing.B, c client.Client) {
	b.Helper()
	err := lab.Await(b.Context(), 15*time.Minute, "the status of all ensembles", func(ctx context.Context) error {
		var list v1alpha1.EnsembleList
		if err := c.List(ctx, &list); err != nil {
			return err
		}
		n := 0
		for i := range list.Items {
			if s := list.Items[i].Status.Synced; s != nil && *s == crew {
				n++
			}
		}
		if n < fleet {
			return fmt.Errorf("%d of %d are in sync", n, fleet)
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
}

// expense is what a process took in a minute.
type expense struct{ memory, cpu, looks float64 }

func (s *fleetServers) minute(b *testing.B, p *lab.Process) expense {
	b.Helper()
	looks, cpu, began := s.looks.Load(), cpuOf(b, p.Pid()), time.Now()
	timer := time.NewTimer(time.Minute)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-p.Done():
		b.Fatal("quorate ended")
	case <-b.Context().Done():
		b.Fatal(b.Context().Err())
	}
	minutes := time.Since(began).Minutes()
	return expense{memoryOf(b, p.Pid()), (cpuOf(b, p.Pid()) - cpu) / minutes, float64(s.looks.Load()-looks) / minutes}
}

// cpuOf a process, in seconds since it began.
func cpuOf(b *testing.B, pid int) float64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+2:])) // from the third on
	user, err := strconv.ParseFloat(fields[11], 64)
	system, err2 := strconv.ParseFloat(fields[12], 64)
	if err := errors.Join(err, err2); err != nil {
		b.Fatal(err)
	}
	return (user + system) / 100 // ticks
}

// memoryOf a process that is resident, in MB.
func memoryOf(b *testing.B, pid int) float64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 64)
			if err != nil {
				b.Fatal(err)
			}
			return kb * 1024 / 1e6
		}
	}
	b.Fatal("no VmRSS")
	return 0
}
