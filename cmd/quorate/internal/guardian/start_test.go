package guardian

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// The test binary is also the guardian and, for tests that kill it, the wrapper.
func TestMain(m *testing.M) {
	switch role, args := os.Getenv("ROLE"), os.Args[1:]; {
	case role == "wrapper":
		os.Exit(wrap(args))
	case len(args) > 0 && args[0] == "guardian":
		grace, err := time.ParseDuration(args[1])
		if err == nil {
			err = Serve(args[2:], grace)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

const (
	soon   = margin + grace + 500*time.Millisecond // a deadline that a test waits for
	never  = time.Hour                             // one that it must not need
	margin = 3 * time.Second                       // what the machine may be late
	grace  = time.Second
)

func config(command ...string) Config {
	return Config{
		Guardian: append([]string{"/proc/self/exe", "guardian", grace.String()}, command...),
		Env:      []string{"ROLE="}, Deadline: time.Now().Add(never), Grace: grace, Margin: margin,
	}
}

// wrap is a wrapper with one feed, when a line is said to it: what remains of its
// deadline then is its first argument. It says when the command is gone.
func wrap(args []string) int {
	deadline, err := time.ParseDuration(args[0])
	if err != nil {
		return 1
	}
	g, err := Start(config(args[1:]...))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if !bufio.NewScanner(os.Stdin).Scan() {
		return 1
	}
	g.Feed(time.Now().Add(deadline))
	fmt.Println("fed", g.guardian.Process.Pid)
	<-g.Gone()
	return g.Exit().Code()
}

// family is a script whose processes try to escape: a child in the group, one in a
// session of its own whose parent has ended, and one below that. Each writes its
// id.
const family = `
cd "$0"
sh -c 'echo $$ > child; exec sleep 1000' &
setsid sh -c 'sh -c "echo \$\$ > grandchild; exec sleep 1000" & echo $$ > daemon; exec sleep 1000' &
trap 'echo got >> signals' USR1
echo $$ > command
while :; do sleep 0.1; done
`

var members = []string{"command", "child", "daemon", "grandchild"}

func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	limit := time.NewTimer(2 * time.Minute)
	defer limit.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-limit.C:
			t.Fatalf("waited in vain for %s", what)
		case <-tick.C:
		}
	}
}

// pids waits until all of a family live, and returns their ids.
func pids(t *testing.T, dir string) map[string]int {
	t.Helper()
	found := map[string]int{}
	for _, name := range members {
		await(t, "the "+name, func() bool {
			content, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				return false
			}
			pid, err := strconv.Atoi(strings.TrimSpace(string(content)))
			found[name] = pid
			return err == nil
		})
		if !alive(found[name]) {
			t.Fatalf("the %s ended too early", name)
		}
	}
	return found
}

func alive(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	_, state, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(state, "Z") && !strings.HasPrefix(state, "X")
}

func start(t *testing.T, c Config) *Guarded {
	t.Helper()
	g, err := Start(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		g.Feed(time.Now())
		<-g.Gone()
	})
	return g
}

func awaitGone(t *testing.T, g *Guarded) {
	t.Helper()
	await(t, "the command to be gone", func() bool {
		select {
		case <-g.Gone():
			return true
		default:
			return false
		}
	})
}

// wantNone checks that a family is gone at this very moment.
func wantNone(t *testing.T, family map[string]int) {
	t.Helper()
	for name, pid := range family {
		if alive(pid) {
			t.Errorf("the %s lives", name)
		}
	}
}

func TestExitCodes(t *testing.T) {
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, []byte("not a program"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		command []string
		want    int
	}{
		"its own":      {[]string{"sh", "-c", "exit 7"}, 7},
		"success":      {[]string{"true"}, 0},
		"by a signal":  {[]string{"sh", "-c", "kill -9 $$"}, 137},
		"not found":    {[]string{"/nowhere/to/be/found"}, 127},
		"not in path":  {[]string{"no-such-command-anywhere"}, 127},
		"not runnable": {[]string{plain}, 126},
	} {
		t.Run(name, func(t *testing.T) {
			g := start(t, config(c.command...))
			awaitGone(t, g)
			if got := g.Exit().Code(); got != c.want {
				t.Errorf("exit code: got %d, want %d", got, c.want)
			}
		})
	}
}

func TestUnfedFamilyIsGoneBeforeTheDeadline(t *testing.T) {
	dir := t.TempDir()
	g := start(t, config("sh", "-c", family, dir))
	all := pids(t, dir)
	deadline := time.Now().Add(soon)
	g.Feed(deadline)
	awaitGone(t, g)
	if late := time.Since(deadline); late > 0 {
		t.Errorf("gone %v after the deadline", late)
	}
	wantNone(t, all)
}

func TestFeedingKeepsItAlive(t *testing.T) {
	dir := t.TempDir()
	c := config("sh", "-c", family, dir)
	c.Margin = time.Second
	g := start(t, c)
	all := pids(t, dir)
	deadline := time.Now().Add(6 * time.Second)
	g.Feed(deadline)
	g.Feed(time.Now().Add(never))
	await(t, "the first deadline to pass", func() bool { return time.Now().After(deadline) })
	for name, pid := range all {
		if !alive(pid) {
			t.Errorf("the %s was killed although its deadline had moved", name)
		}
	}
	g.Feed(time.Now())
	awaitGone(t, g)
	wantNone(t, all)
}

// What is said to a guardian that listens reaches it, however busy the machine is.
func TestNothingSaidIsLost(t *testing.T) {
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	done := make(chan struct{})
	var busy sync.WaitGroup
	for range 2 * runtime.GOMAXPROCS(0) {
		busy.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	g, heard := &Guarded{commands: write}, bufio.NewScanner(read)
	for range 50 {
		const batch = 200 // fits into the smallest pipe, of 4 KiB
		for i := range batch {
			g.tell(signalLine, int64(i))
		}
		g.tell(stopLine, -1)
		for i := range batch {
			if want := fmt.Sprintf("%s %d", signalLine, i); !heard.Scan() || heard.Text() != want {
				t.Fatalf("got %q, want %q", heard.Text(), want)
			}
		}
		if want := stopLine + " -1"; !heard.Scan() || heard.Text() != want {
			t.Fatalf("got %q, want %q", heard.Text(), want)
		}
	}
	close(done)
	busy.Wait()
	if err := write.Close(); err != nil {
		t.Error(err)
	}
}

func TestSignalsReachTheCommand(t *testing.T) {
	dir := t.TempDir()
	g := start(t, config("sh", "-c", family, dir))
	pids(t, dir)
	g.Signal(syscall.SIGUSR1)
	await(t, "the signal", func() bool {
		_, err := os.Stat(filepath.Join(dir, "signals"))
		return err == nil
	})
}

func TestWhatItLeavesBehindIsKilled(t *testing.T) {
	dir := t.TempDir()
	g := start(t, config("sh", "-c", strings.Replace(family, "while :", `
while ! [ -s child -a -s daemon -a -s grandchild ]; do sleep 0.05; done; echo all > ready
while ! [ -e go ]; do sleep 0.05; done; exit 3; while :`, 1), dir))
	all := pids(t, dir)
	if err := os.WriteFile(filepath.Join(dir, "go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	awaitGone(t, g)
	wantNone(t, all)
	if got := g.Exit().Code(); got != 3 {
		t.Errorf("exit code: got %d, want the command's own 3", got)
	}
}

func TestStopAsksFirst(t *testing.T) {
	for name, c := range map[string]struct {
		onTerm string
		want   int
	}{
		"who ends is not killed": {"exit 5", 5},
		"who does not is killed": {"", 137},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			g := start(t, config("sh", "-c", "trap '"+c.onTerm+"' TERM\n"+family, dir))
			all := pids(t, dir)
			g.Stop()
			awaitGone(t, g)
			wantNone(t, all)
			if got := g.Exit().Code(); got != c.want {
				t.Errorf("exit code: got %d, want %d", got, c.want)
			}
		})
	}
}

// A guardian that is killed, or paused past the deadline, does not save the family.
func TestGuardianIsGuardedToo(t *testing.T) {
	for name, c := range map[string]struct {
		signal   syscall.Signal
		deadline time.Duration
	}{
		"killed": {syscall.SIGKILL, never},
		"paused": {syscall.SIGSTOP, soon},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			g := start(t, config("sh", "-c", family, dir))
			all := pids(t, dir)
			deadline := time.Now().Add(c.deadline)
			g.Feed(deadline)
			if err := g.guardian.Process.Signal(c.signal); err != nil {
				t.Fatal(err)
			}
			awaitGone(t, g)
			wantNone(t, all)
			if late := time.Since(deadline); late > 0 {
				t.Errorf("gone %v after the deadline", late)
			}
		})
	}
}

// The family of a wrapper that is killed is gone long before its deadline, and that
// of a paused one by its deadline.
func TestFamilyDoesNotOutliveItsWrapper(t *testing.T) {
	for name, c := range map[string]struct {
		signal   syscall.Signal
		deadline time.Duration
	}{
		"killed": {syscall.SIGKILL, never},
		"paused": {syscall.SIGSTOP, soon},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			wrapper := exec.CommandContext(t.Context(), "/proc/self/exe", c.deadline.String(), "sh", "-c", family, dir)
			wrapper.Env = append(os.Environ(), "ROLE=wrapper")
			wrapper.Stderr = os.Stderr
			out, err := wrapper.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			in, err := wrapper.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := wrapper.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				_ = wrapper.Process.Kill()
				_ = wrapper.Wait()
			})
			all := pids(t, dir)
			deadline := time.Now().Add(c.deadline)
			if _, err := fmt.Fprintln(in, "feed"); err != nil {
				t.Fatal(err)
			}
			if !bufio.NewScanner(out).Scan() {
				t.Fatal("the wrapper said nothing")
			}
			if err := wrapper.Process.Signal(c.signal); err != nil {
				t.Fatal(err)
			}
			for name, pid := range all {
				await(t, "the end of the "+name, func() bool { return !alive(pid) })
			}
			if late := time.Since(deadline); late > 0 {
				t.Errorf("gone %v after the deadline", late)
			}
		})
	}
}
