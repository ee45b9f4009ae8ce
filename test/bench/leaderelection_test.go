package bench

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clientgo "k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"github.com/quorate/quorate/leaderelection"
	"github.com/quorate/quorate/leaderelection/zookeeper"
	"github.com/quorate/quorate/test/lab"
)

const electionTick = 2 * time.Second

func electionEnsemble(b *testing.B) *lab.Ensemble {
	b.Helper()
	return ensembleOf(b, electionTick)
}

func ensembleOf(b *testing.B, tick time.Duration) *lab.Ensemble {
	b.Helper()
	e, err := lab.StartZooKeeper(b.Context(), lab.ZooKeeperConfig{TickTime: tick})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := e.Close(); err != nil {
			b.Error(err)
		}
	})
	return e
}

func electionSession(b *testing.B, e *lab.Ensemble) *leaderelection.Session {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	defer cancel()
	s, err := leaderelection.Dial(ctx, leaderelection.SessionConfig{Servers: e.Connect(), Tick: electionTick, MaxMessage: 1 << 20})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.Close(context.WithoutCancel(b.Context())); err != nil {
			b.Error(err)
		}
	})
	return s
}

// BenchmarkHandOver of a leader that stops in peace, by client-go's own elector with
// its default settings: ours beside LeaseLock, and beside Curator's LeaderLatch. The
// work has stopped first.
func BenchmarkHandOver(b *testing.B) {
	e := electionEnsemble(b)
	cp, err := lab.StartControlPlane(b.Context(), lab.ControlPlaneConfig{})
	if err != nil {
		b.Fatal(err)
	}
	defer cp.Close()
	sessions := []*leaderelection.Session{electionSession(b, e), electionSession(b, e)}
	ourLock := func(i, n int) resourcelock.Interface {
		l, err := leaderelection.New(leaderelection.Config{
			Session: sessions[n%2], Namespace: "bench", Name: fmt.Sprint("x", i), Identity: fmt.Sprint(n), StopsFirst: true,
		})
		if err != nil {
			b.Fatal(err)
		}
		return l
	}
	const n = 15
	twoWrites(b, e, "/warm", 100*n) // the servers' code is compiled before anything is measured
	ours := handOvers(b, n, settled, ourLock)
	anytime := handOvers(b, 2*n, joinedAnytime, func(i, n int) resourcelock.Interface { return ourLock(1000+i, n) })
	theirs := handOvers(b, n, settled, func(i, n int) resourcelock.Interface {
		return &resourcelock.LeaseLock{
			LeaseMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprint("x", i)}, Client: cp.Client.CoordinationV1(),
			LockConfig: resourcelock.ResourceLockConfig{Identity: fmt.Sprint(n)},
		}
	})
	latch := handOversOfLatches(b, e, n)
	floor := twoWrites(b, e, "/floor", 10*n)
	for _, q := range []struct {
		name string
		at   int
	}{{"p50", 50}, {"p90", 90}, {"max", 100}} {
		Record(b, "graceful hand-over "+q.name, quantile(ours, q.at), "ms", "LeaseLock", quantile(theirs, q.at))
		Record(b, "graceful hand-over "+q.name, quantile(ours, q.at), "ms", "Curator's LeaderLatch", quantile(latch, q.at))
		Record(b, "graceful hand-over "+q.name, quantile(ours, q.at), "ms", "two quorum writes (floor)", quantile(floor, q.at))
		Record(b, "graceful hand-over "+q.name+", the standby joined up to 9 s before, and may sleep", quantile(anytime, q.at), "ms", "LeaseLock", quantile(theirs, q.at))
	}
	if ours, theirs := quantile(ours, 50), quantile(theirs, 50); ours*100 > theirs {
		b.Errorf("graceful hand-over p50: got %.4g ms, want a hundredth of LeaseLock's %.4g ms", ours, theirs)
	}
}

// settled is how long the standby is there: longer than a retry period, as standbys are.
func settled() time.Duration { return 6*time.Second + rand.N(3*time.Second) }

// joinedAnytime is how long it is there if nobody waited for it: it may have been told
// who leads a moment ago, and sleeps for a retry period or more before it stands in line.
func joinedAnytime() time.Duration { return rand.N(9 * time.Second) }

func quantile(ms []float64, percent int) float64 {
	slices.Sort(ms)
	return ms[(len(ms)-1)*percent/100]
}

// handOvers measures, in milliseconds, elections of two each, side by side. The second
// joins so long before the first stops.
func handOvers(b *testing.B, n int, before func() time.Duration, lock func(i, n int) resourcelock.Interface) []float64 {
	b.Helper()
	results := make(chan float64, n)
	for i := range n {
		go func() { results <- handOver(b, before(), lock(i, 0), lock(i, 1)) }()
	}
	var out []float64
	for range n {
		out = append(out, <-results)
	}
	return out
}

// twoWrites measures, in milliseconds, what no hand-over can be shorter than: one session
// writes, and then another.
func twoWrites(b *testing.B, e *lab.Ensemble, path string, n int) []float64 {
	b.Helper()
	write := func(c *zookeeper.Client, op zookeeper.Op) {
		if _, err := c.Multi(b.Context(), op); err != nil {
			b.Fatal(err)
		}
	}
	var clients []*zookeeper.Client
	for range 2 {
		c, err := zookeeper.Dial(b.Context(), zookeeper.Config{Servers: e.Connect(), Timeout: leaderelection.DefaultSessionTimeout})
		if err != nil {
			b.Fatal(err)
		}
		defer c.Close(context.WithoutCancel(b.Context()))
		clients = append(clients, c)
	}
	write(clients[0], &zookeeper.Create{Path: path})
	var out []float64
	for range n {
		begin := time.Now()
		for _, c := range clients {
			write(c, &zookeeper.Set{Path: path, Version: zookeeper.AnyVersion})
		}
		out = append(out, float64(time.Since(begin))/float64(time.Millisecond))
	}
	return out
}

func handOver(b *testing.B, before time.Duration, first, second resourcelock.Interface) float64 {
	ctx, stop := context.WithCancel(b.Context())
	defer stop()
	begun := make(chan time.Time, 2)
	run := func(ctx context.Context, l resourcelock.Interface) {
		clientgo.RunOrDie(ctx, clientgo.LeaderElectionConfig{
			Lock: l, LeaseDuration: 15 * time.Second, RenewDeadline: 10 * time.Second, RetryPeriod: 2 * time.Second, ReleaseOnCancel: true,
			Callbacks: clientgo.LeaderCallbacks{
				OnStartedLeading: func(context.Context) { begun <- time.Now() }, OnStoppedLeading: func() {},
			},
		})
	}
	go run(ctx, first)
	<-begun
	standby, cancel := context.WithCancel(b.Context())
	defer cancel()
	go run(standby, second)
	<-time.After(before)
	stopped := time.Now()
	stop()
	return float64((<-begun).Sub(stopped)) / float64(time.Millisecond)
}

// BenchmarkAtRest is what locks cost that are held, in one process: quorum writes,
// which do not grow with their number, memory and goroutines.
func BenchmarkAtRest(b *testing.B) {
	e := electionEnsemble(b)
	s := electionSession(b, e)
	elect := func(from, to int) {
		for i := from; i < to; i++ {
			l, err := leaderelection.New(leaderelection.Config{Session: s, Namespace: "rest", Name: fmt.Sprint("x", i), Identity: "a"})
			if err != nil {
				b.Fatal(err)
			}
			ctx := b.Context()
			go clientgo.RunOrDie(ctx, clientgo.LeaderElectionConfig{
				Lock: l, LeaseDuration: 15 * time.Second, RenewDeadline: 10 * time.Second, RetryPeriod: 2 * time.Second,
				Callbacks: clientgo.LeaderCallbacks{OnStartedLeading: func(context.Context) {}, OnStoppedLeading: func() {}},
			})
			for l.Term() == nil {
				<-time.After(time.Millisecond)
			}
		}
	}
	const many, rest = 1000, 20 * time.Second
	elect(0, 1)
	heap, goroutines := footprint()
	one := writesPerMinute(b, e, rest)
	begin := time.Now()
	elect(1, many)
	b.Logf("%d locks acquired one after the other in %v", many-1, time.Since(begin))
	all := writesPerMinute(b, e, rest)
	heap2, goroutines2 := footprint()
	if within := 2 * float64(time.Minute/rest); math.Abs(all-one) > within { // one write more or less at each end
		b.Errorf("quorum writes per minute at rest: got %.4g with 1 lock and %.4g with %d, want the same", one, all, many)
	}
	Record(b, "quorum writes per minute at rest, 1000 locks", all, "writes/min", "1 lock", one)
	Record(b, "quorum writes per minute at rest, 1000 locks", all, "writes/min", "LeaseLock (1000 x 30, by its retry period)", 30*many)
	Record(b, "heap per held lock, with its elector", float64(heap2-heap)/(many-1)/1024, "KiB", "a ZooKeeper connection of its own", 132)
	Record(b, "goroutines per held lock, its elector's two included", float64(goroutines2-goroutines)/(many-1), "goroutines", "a ZooKeeper connection of its own", 3)
}

func footprint() (heap int64, goroutines int) {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc), runtime.NumGoroutine()
}

func writesPerMinute(b *testing.B, e *lab.Ensemble, over time.Duration) float64 {
	b.Helper()
	before := zxid(b, e)
	<-time.After(over)
	return float64(zxid(b, e)-before) * float64(time.Minute) / float64(over)
}

func zxid(b *testing.B, e *lab.Ensemble) int64 {
	b.Helper()
	out, err := e.Servers()[0].FourLetters(b.Context(), "srvr")
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(out) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "Zxid: 0x"); ok {
			n, err := strconv.ParseInt(v, 16, 64)
			if err != nil {
				b.Fatal(err)
			}
			return n
		}
	}
	b.Fatalf("no zxid in %q", out)
	return 0
}
