package election

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"github.com/quorate/quorate/test/lab"
)

// The checker is worth nothing if it does not catch locks that are broken. Each of
// these has one defect, which people's locks have, and the fault that shows it.
var controls = map[string]struct {
	role  string
	open  func(*testing.T, string) *arena
	fault func(t *testing.T, a *arena, leader *wrapped) (heal func())
	// allowed is what the fault allows a lock that is not broken.
	allowed time.Duration
	long    bool // for the long form only
}{
	"a lock that keeps no time": {role: "control-timeless", open: openArena, fault: func(t *testing.T, _ *arena, leader *wrapped) func() {
		check(t, leader.process.Signal(syscall.SIGSTOP))
		return func() { check(t, leader.process.Signal(syscall.SIGCONT)) }
	}},
	"a lock that does not watch its owner": {role: "control-timeless", open: openArena, long: true, allowed: unnoticed, fault: func(t *testing.T, a *arena, _ *wrapped) func() {
		check(t, a.direct.Delete("/control-timeless", -1))
		return func() { a.awaitLeader(t, monotonic()+int64(unnoticed)) }
	}},
	"a lock that ignores contexts": {role: "control-deaf", open: openArena, fault: func(t *testing.T, _ *arena, leader *wrapped) func() {
		check(t, leader.links.All((*lab.Link).Drop))
		return func() { check(t, leader.links.All((*lab.Link).Restore)) }
	}},
	"a lock that renews by reads": {role: "control-reader", long: true, open: func(t *testing.T, role string) *arena {
		return openServers(t, role, 20) // a follower without peers serves for so long
	}, fault: partTheLeadersServer},
}

func TestChaosCatchesBrokenLocks(t *testing.T) {
	together(t)
	for name, c := range controls {
		if c.long && !longForm() {
			continue
		}
		t.Run(name, func(t *testing.T) {
			together(t)
			a, runs := c.open(t, c.role), 0
			await(t, "the violation", func() bool {
				leader, now := a.identified(t)
				heal := c.fault(t, a, leader)
				a.awaitSuccessor(t, now.Token)
				a.awaitLeader(t, monotonic()+int64(short)/4)
				heal()
				a.awaitLeader(t, monotonic()+int64(short)/4)
				runs++
				return len(violations(a.resource.history(0), chaosStop, c.allowed)) > 0
			})
			fmt.Printf("chaos: control, %s runs=%d violations=%d\n", name, runs, len(violations(a.resource.history(0), chaosStop, c.allowed)))
		})
	}
}

// identified is the candidate that acts, and an act of its.
func (a *arena) identified(t *testing.T) (*wrapped, act) {
	t.Helper()
	a.awaitLeader(t, 0)
	for {
		now := a.awaitLeader(t, monotonic())
		for _, c := range a.candidates {
			if strings.Contains(a.said(t, c), fmt.Sprintf("leads with token %d\n", now.Token)) {
				return c, now
			}
		}
	}
}

func (a *arena) said(t *testing.T, c *wrapped) string {
	t.Helper()
	return string(must(os.ReadFile(c.process.Log()))(t))
}

// partTheLeadersServer leaves the leader a follower alone, and that one no peer.
func partTheLeadersServer(t *testing.T, a *arena, leader *wrapped) func() {
	_, follower := a.servers(t)
	for i, s := range a.ensemble.Servers() {
		for _, c := range a.candidates {
			if (c == leader) != (s == follower) {
				check(t, c.links.Links()[i].Cut())
			}
		}
	}
	a.awaitLeader(t, monotonic()+int64(short)) // it has moved, and goes on
	check(t, a.network.PartPeers(t.Context(), follower.ID()))
	return func() {
		check(t, a.network.JoinPeers(t.Context(), follower.ID()))
		for _, c := range a.candidates {
			check(t, c.links.All((*lab.Link).Restore))
		}
	}
}

func init() {
	roles["control-timeless"] = controlTimeless
	roles["control-reader"] = controlReader
	roles["control-deaf"] = controlDeaf
}

// leadControl says who leads, and acts until the lock says no.
func leadControl(ctx context.Context, token int64, valid func() error) {
	fmt.Printf("leads with token %d\n", token)
	lead(ctx, token, valid)
}

// awaitNode makes an ephemeral node, whenever nobody else has it, and returns the
// zxid of that.
func awaitNode(conn *zk.Conn) (int64, error) {
	for retry := time.NewTicker(20 * time.Millisecond); ; <-retry.C {
		if _, err := conn.Create("/"+os.Getenv("ROLE"), nil, zk.FlagEphemeral, zk.WorldACL(zk.PermAll)); err != nil {
			continue
		}
		_, stat, err := conn.Exists("/" + os.Getenv("ROLE"))
		if err != nil || stat == nil {
			return 0, errors.Join(err, errors.New("own node not seen"))
		}
		return stat.Czxid, nil
	}
}

// controlTimeless is a lock as many are: an ephemeral node, and leadership until the
// session is said to have expired. It keeps no time of its own.
func controlTimeless() error {
	conn, events, err := zk.Connect(strings.Split(os.Getenv("SERVERS"), ","), chaosTimeout, zk.WithLogger(quietly{}))
	if err != nil {
		return err
	}
	defer conn.Close()
	expired := make(chan struct{}, 1)
	go func() {
		for e := range events {
			if e.State == zk.StateExpired {
				expired <- struct{}{}
			}
		}
	}()
	for {
		token, err := awaitNode(conn)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithCancel(context.Background())
		go func() {
			<-expired
			cancel()
		}()
		leadControl(ctx, token, func() error { return nil })
	}
}

// controlReader keeps the time well, and counts it from reads of its own node. Any
// server answers those, one that is cut off from the others, too.
func controlReader() error {
	for {
		if err := readerTerm(); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
}

// readerTerm is one term, in a session of its own.
func readerTerm() error {
	conn, _, err := zk.Connect(strings.Split(os.Getenv("SERVERS"), ","), chaosTimeout, zk.WithLogger(quietly{}))
	if err != nil {
		return err
	}
	defer conn.Close()
	proven := monotonic()
	token, err := awaitNode(conn)
	if err != nil {
		return err
	}
	var deadline atomic.Int64
	deadline.Store(proven + int64(chaosTimeout))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		for interval := time.NewTicker(100 * time.Millisecond); ctx.Err() == nil; <-interval.C {
			sent := monotonic()
			_, stat, err := conn.Exists("/" + os.Getenv("ROLE"))
			switch {
			case err == nil && stat != nil && stat.Czxid == token:
				deadline.Store(sent + int64(chaosTimeout))
			case err == nil || errors.Is(err, zk.ErrNoNode):
				cancel()
			}
		}
	}()
	leadControl(ctx, token, func() error {
		if monotonic() > deadline.Load()-int64(chaosStop) {
			return errors.New("past the deadline")
		}
		return nil
	})
	return nil
}

// controlDeaf is a LeaderElector on a record with versions, as on a Lease. Its lock
// calls the client as it is, which knows no contexts: while a call hangs the elector
// cannot stop.
func controlDeaf() error {
	conn, _, err := zk.Connect(strings.Split(os.Getenv("SERVERS"), ","), 3*chaosTimeout, zk.WithLogger(quietly{}))
	if err != nil {
		return err
	}
	defer conn.Close()
	lock := &deafLock{conn: conn, path: "/" + os.Getenv("ROLE"), identity: os.Getenv("NAME")}
	for {
		leaderelection.RunOrDie(context.Background(), leaderelection.LeaderElectionConfig{
			Lock: lock, LeaseDuration: chaosTimeout, RenewDeadline: chaosTimeout * 2 / 3, RetryPeriod: chaosTimeout / 10,
			Callbacks: leaderelection.LeaderCallbacks{
				OnStartedLeading: func(ctx context.Context) { leadControl(ctx, lock.token.Load(), func() error { return nil }) },
				OnStoppedLeading: func() {},
			},
		})
	}
}

// deafLock is a resourcelock.Interface that ignores contexts.
type deafLock struct {
	conn           *zk.Conn
	path, identity string
	holder         string // when last read
	version        int32
	token          atomic.Int64 // of the write that changed the holder to this one
}

// Get implements resourcelock.Interface.
func (l *deafLock) Get(context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	data, stat, err := l.conn.Get(l.path)
	if errors.Is(err, zk.ErrNoNode) {
		return nil, nil, apierrors.NewNotFound(schema.GroupResource{Resource: "znodes"}, l.path)
	}
	if err != nil {
		return nil, nil, err
	}
	var r resourcelock.LeaderElectionRecord
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, nil, err
	}
	l.version, l.holder = stat.Version, r.HolderIdentity
	return &r, fmt.Append(data, stat.Version), nil
}

// Create implements resourcelock.Interface.
func (l *deafLock) Create(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	if _, err := l.conn.Create(l.path, []byte("{}"), 0, zk.WorldACL(zk.PermAll)); err != nil {
		return err
	}
	l.version, l.holder = 0, ""
	return l.Update(ctx, r)
}

// Update implements resourcelock.Interface.
func (l *deafLock) Update(_ context.Context, r resourcelock.LeaderElectionRecord) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	stat, err := l.conn.Set(l.path, data, l.version)
	if err != nil {
		return err
	}
	if l.holder != l.identity {
		l.token.Store(stat.Mzxid)
	}
	l.version, l.holder = stat.Version, r.HolderIdentity
	return nil
}

// RecordEvent implements resourcelock.Interface.
func (l *deafLock) RecordEvent(string) {}

// Identity implements resourcelock.Interface.
func (l *deafLock) Identity() string { return l.identity }

// Describe implements resourcelock.Interface.
func (l *deafLock) Describe() string { return l.path }
