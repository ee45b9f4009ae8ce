package election

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/quorate/quorate/test/lab"
)

const (
	ownerNode = "/quorate/elections/default/work/owner"
	tick      = 500 * time.Millisecond
)

// room is three wrapped copies of a program, each with its own links to three
// ZooKeeper servers.
type room struct {
	dir      string
	ensemble *lab.Ensemble
	direct   *zk.Conn
	subnet   *lab.Subnet // of the copies' health servers
	copies   []*wrapped
	command  []string
}

// wrapped is one copy.
type wrapped struct {
	name    string
	health  string // host:port
	links   *lab.ClientLinks
	process *lab.Process
}

func openRoom(t *testing.T) *room {
	t.Helper()
	r := &room{dir: t.TempDir(), command: []string{must(os.Executable())(t)}}
	r.ensemble = sharedEnsemble(t)
	r.direct = dial(t, r.ensemble.Connect())
	r.subnet = must(lab.ClaimSubnet())(t)
	closeAfter(t, r.subnet)
	return r
}

func closeAfter(t testing.TB, c interface{ Close() error }) {
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
}

type quietly struct{}

func (quietly) Printf(string, ...any) {}

func dial(t testing.TB, connect string) *zk.Conn {
	t.Helper()
	conn, _, err := zk.Connect(strings.Split(connect, ","), 10*time.Second, zk.WithLogger(quietly{}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	return conn
}

// enter adds a copy with links of its own.
func (r *room) enter(t *testing.T, name string) {
	t.Helper()
	w := &wrapped{name: name, links: must(lab.LinkClient(t.Context(), r.ensemble))(t)}
	closeAfter(t, w.links)
	r.copies = append(r.copies, w)
	w.health = r.subnet.Addr(len(r.copies)) + ":8081"
	r.start(t, w)
}

// start a copy, again if it has ended.
func (r *room) start(t *testing.T, w *wrapped) {
	t.Helper()
	args := []string{
		"elect", "--identity", w.name, "--leader-elect-resource-name", "work", "--health-bind-address", w.health,
		"--leader-elect-zookeeper-servers", w.links.Connect(), "--leader-elect-zookeeper-tick", tick.String(),
		"--leader-elect-zookeeper-session-timeout", "10s", "--leader-elect-zookeeper-stop-time", "4s", "--",
	}
	w.process = must(lab.StartProcess(t.Context(), lab.ProcessConfig{
		Name: w.name, Path: quorate, Args: append(args, r.command...), LogDir: r.dir,
		Env: []string{"ROLE=work", "JOURNAL=" + r.dir},
	}))(t)
	closeAfter(t, w.process)
}

// next waits for the program that starts after n others, and for the copy that it
// belongs to.
func (r *room) next(t *testing.T, n int) (entry, *wrapped) {
	t.Helper()
	await(t, fmt.Sprintf("start %d of the program", n+1), func() bool { return len(journal(r.dir)) > n })
	e := journal(r.dir)[n]
	if len(e.Overlap) > 0 {
		t.Errorf("start %d, of %s, with token %d, met the earlier one's %s", n+1, e.Identity, e.Token, strings.Join(e.Overlap, " and "))
	}
	for _, w := range r.copies {
		if strings.HasPrefix(e.Identity, w.name+"_") {
			return e, w
		}
	}
	t.Fatalf("start %d: identity %q is nobody's", n+1, e.Identity)
	return e, nil
}

// wantGoneBeforeExpiry waits until nothing of a program is left, and checks that
// ZooKeeper had not ended its session by then: nobody else could lead.
func (r *room) wantGoneBeforeExpiry(t *testing.T, e entry) {
	t.Helper()
	await(t, "the end of the program", e.gone)
	exists, stat, err := r.direct.Exists(ownerNode)
	if err != nil {
		t.Fatal(err)
	}
	if !exists || stat.Czxid != e.Token {
		t.Errorf("when the program was gone, its session was, too")
	}
}

func (r *room) wantCode(t *testing.T, w *wrapped, want int) {
	t.Helper()
	await(t, "the end of "+w.name, func() bool {
		select {
		case <-w.process.Done():
			return true
		default:
			return false
		}
	})
	if got := w.process.ExitCode(); got != want {
		t.Errorf("exit code of %s: got %d, want %d", w.name, got, want)
	}
}

func (r *room) leaders(t *testing.T, args ...string) string {
	t.Helper()
	return leaders(t, append(args, "--leader-elect-zookeeper-servers", r.ensemble.Connect(), "--leader-elect-zookeeper-tick", tick.String())...)
}

// wantHealth checks what a copy says of itself.
func (w *wrapped) wantHealth(t *testing.T, leads bool) {
	t.Helper()
	ready, running := "standing by", "quorate_elect_command_running 0"
	if leads {
		ready, running = "leading", "quorate_elect_command_running 1"
	}
	for path, want := range map[string]string{"/healthz": "ok", "/readyz": ready, "/metrics": running} {
		await(t, w.name+" to answer "+path+" with "+want, func() bool {
			res, err := http.Get("http://" + w.health + path) //nolint:noctx // a test on loopback
			if err != nil {
				return false
			}
			defer res.Body.Close()
			body, err := io.ReadAll(res.Body)
			return err == nil && res.StatusCode == http.StatusOK && strings.Contains(string(body), want)
		})
	}
}

// leaders is what quorate leaders prints.
func leaders(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, quorate, append([]string{"leaders"}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("quorate leaders %s: %v: %s", strings.Join(args, " "), err, stderr.String())
	}
	return string(out)
}

// Whatever happens to the leader, one copy of the program runs at any time, and
// nothing of it is left when another may lead.
func TestElectRunsOneAtATime(t *testing.T) {
	together(t)
	r := openRoom(t)
	for _, name := range []string{"ann", "bob", "cyd"} {
		r.enter(t, name)
	}
	shown := r.watchLeaders(t)
	terms := 0
	fault := func(name string, do func(t *testing.T, e entry, w *wrapped)) {
		t.Run(name, func(t *testing.T) {
			e, w := r.next(t, terms)
			do(t, e, w)
			terms++
			r.next(t, terms)
		})
		for _, w := range r.copies {
			select {
			case <-w.process.Done():
				r.start(t, w)
			default:
			}
		}
	}
	first, leader := r.next(t, 0)
	awaitShown(t, shown, first)
	for _, w := range r.copies {
		w.wantHealth(t, w == leader)
	}
	fault("program killed", func(t *testing.T, e entry, w *wrapped) {
		check(t, syscall.Kill(e.PID, syscall.SIGKILL))
		r.wantCode(t, w, 128+int(syscall.SIGKILL))
	})
	fault("wrapper told to end", func(t *testing.T, _ entry, w *wrapped) {
		check(t, w.process.Signal(syscall.SIGTERM))
		r.wantCode(t, w, 0)
	})
	fault("wrapper killed", func(t *testing.T, e entry, w *wrapped) {
		check(t, w.process.Signal(syscall.SIGKILL))
		r.wantGoneBeforeExpiry(t, e)
	})
	fault("wrapper paused", func(t *testing.T, e entry, w *wrapped) {
		check(t, w.process.Signal(syscall.SIGSTOP))
		r.wantGoneBeforeExpiry(t, e)
		t.Cleanup(func() { check(t, w.process.Signal(syscall.SIGCONT)) })
	})
	fault("wrapper cut off", func(t *testing.T, e entry, w *wrapped) {
		check(t, w.links.All((*lab.Link).Drop))
		r.wantGoneBeforeExpiry(t, e)
		r.wantCode(t, w, 124)
		check(t, w.links.All((*lab.Link).Restore))
	})
	fault("asked to resign", func(t *testing.T, e entry, w *wrapped) {
		if table := r.leaders(t); !strings.Contains(table, e.Identity) || !strings.Contains(table, fmt.Sprint(e.Token)) {
			t.Errorf("quorate leaders shows neither leader %s nor token %d:\n%s", e.Identity, e.Token, table)
		}
		r.leaders(t, "resign", "work")
		r.wantCode(t, w, 124)
	})
	wantGrowing(t, journal(r.dir))
	all := journal(r.dir)
	awaitShown(t, shown, all[len(all)-1]) // by the same process, which has gone on
}

// awaitShown waits until a line names a term's leader and token.
func awaitShown(t *testing.T, shown func() string, e entry) {
	t.Helper()
	await(t, "quorate leaders --watch to show the term of "+e.Identity, func() bool {
		return slices.ContainsFunc(strings.Split(shown(), "\n"), func(line string) bool {
			return strings.Contains(line, e.Identity) && strings.Contains(line, fmt.Sprint(e.Token))
		})
	})
}

// watchLeaders starts quorate leaders --watch, and returns what tells all that it has
// shown.
func (r *room) watchLeaders(t *testing.T) func() string {
	t.Helper()
	watch := must(lab.StartProcess(t.Context(), lab.ProcessConfig{
		Name: "watch", Path: quorate, LogDir: r.dir, Args: []string{
			"leaders", "work", "--watch", "--interval=20ms",
			"--leader-elect-zookeeper-servers", r.ensemble.Connect(), "--leader-elect-zookeeper-tick", tick.String(),
		},
	}))(t)
	closeAfter(t, watch)
	return func() string { return string(must(os.ReadFile(watch.Log()))(t)) }
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
}

// wantGrowing checks that each term's token is higher than that of the one before.
func wantGrowing(t *testing.T, entries []entry) {
	t.Helper()
	for i := 1; i < len(entries); i++ {
		if entries[i].Token <= entries[i-1].Token {
			t.Errorf("token of start %d: got %d, want more than %d", i+1, entries[i].Token, entries[i-1].Token)
		}
	}
}
