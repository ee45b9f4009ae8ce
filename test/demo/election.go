package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/quorate/quorate/test/lab"
)

// electionTick is a tick of the ensemble that the election is held in, and
// electionSession how long it keeps the lock for a leader that is not heard.
const (
	electionTick    = 500 * time.Millisecond
	electionSession = 5 * time.Second
)

// overlapped is how a manager ends that met another which still lived.
const overlapped = 99

// election is several copies of kube-controller-manager, which knows nothing of it,
// each run by quorate elect.
type election struct {
	s       *stage
	store   []string // flags
	command []string // the manager, and what refuses to run two
	copies  map[string]*lab.Process
	all     []*lab.Process // those that ended, too
}

// electManagers shows that one of three leads at any time, and how soon another does
// when the leader is killed, and when it is told to stop.
func electManagers(ctx context.Context, s *stage) (err error) {
	s.out.say("Three ZooKeeper servers, and three copies of kube-controller-manager, each run by quorate elect.")
	ensemble, err := lab.StartZooKeeper(ctx, lab.ZooKeeperConfig{TickTime: electionTick})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ensemble.Close()) }()
	e := newElection(s, ensemble)
	defer func() { err = errors.Join(err, e.close(context.WithoutCancel(ctx))) }()
	for _, name := range []string{"manager-a", "manager-b", "manager-c"} {
		if err := e.start(ctx, name); err != nil {
			return err
		}
	}
	first, err := e.next(ctx, elected{})
	if err != nil {
		return err
	}
	if err := e.tell(ctx, first); err != nil {
		return err
	}
	second, err := e.crash(ctx, first)
	if err != nil {
		return err
	}
	return e.handOver(ctx, second)
}

func newElection(s *stage, ensemble *lab.Ensemble) *election {
	c := s.cluster
	return &election{
		s: s, copies: map[string]*lab.Process{},
		store: []string{
			"--leader-elect-resource-lock=zookeeper", "--leader-elect-zookeeper-servers=" + ensemble.Connect(),
			"--leader-elect-zookeeper-tick=" + electionTick.String(), "--leader-elect-zookeeper-session-timeout=" + electionSession.String(),
		},
		command: []string{
			// The kernel keeps this lock for a manager until it is gone.
			"flock", "--nonblock", "--no-fork", fmt.Sprintf("--conflict-exit-code=%d", overlapped), filepath.Join(c.Dir, "manager.lock"),
			filepath.Join(c.Binaries, managerProgram), "--kubeconfig=" + c.Kubeconfig(), "--leader-elect=false", "--secure-port=0",
			"--controllers=token-cleaner-controller", // which the cluster's own manager leaves alone
		},
	}
}

func (e *election) start(ctx context.Context, name string) error {
	args := append([]string{
		"elect", "--identity=" + name, "--leader-elect-resource-name=manager", "--leader-elect-zookeeper-stop-time=1s",
	}, e.store...)
	p, err := lab.StartProcess(ctx, lab.ProcessConfig{
		Name: "elect-" + name, Path: e.s.cluster.binary, LogDir: e.s.cluster.Logs(), Args: append(append(args, "--"), e.command...),
	})
	if err != nil {
		return err
	}
	e.copies[name] = p
	e.all = append(e.all, p)
	return nil
}

// crash kills the leading quorate elect, as a machine or the kernel would, so that
// nobody can give the lock back; and starts it again, as a kubelet would.
func (e *election) crash(ctx context.Context, leader elected) (elected, error) {
	e.s.out.say("Now %s is killed with SIGKILL; nobody gives its lock back.", leader.name)
	killed := time.Now()
	if err := e.copies[leader.name].Signal(syscall.SIGKILL); err != nil {
		return elected{}, err
	}
	if err := e.awaitEnd(ctx, leader); err != nil {
		return elected{}, err
	}
	gone := time.Since(killed)
	next, err := e.next(ctx, leader)
	if err != nil {
		return elected{}, err
	}
	taken := time.Since(killed)
	if err := e.start(ctx, leader.name); err != nil {
		return elected{}, err
	}
	if err := e.tell(ctx, next); err != nil {
		return elected{}, err
	}
	e.s.out.say("Nothing of its manager was left after %s. The next one ran after %s: when the session ended that",
		short(gone), good.Render(short(taken)))
	e.s.out.say("ZooKeeper keeps for who is not heard, %s here, 10s by default. A Lease with client-go's defaults (15s, 10s, 2s)", electionSession)
	e.s.out.say("takes 13 to 24 s, by arithmetic, not measured here: 15 s after a standby saw the last renewal, at its next try.")
	return next, nil
}

// handOver tells the leader to stop, as a rolling update does.
func (e *election) handOver(ctx context.Context, leader elected) error {
	e.s.out.say("Now %s is told to stop (SIGTERM); it gives the lock back once its manager has ended.", leader.name)
	told := time.Now()
	if err := e.copies[leader.name].Signal(syscall.SIGTERM); err != nil {
		return err
	}
	if err := e.awaitEnd(ctx, leader); err != nil {
		return err
	}
	gone := time.Now()
	next, err := e.next(ctx, leader)
	if err != nil {
		return err
	}
	handed := time.Since(gone)
	if err := e.tell(ctx, next); err != nil {
		return err
	}
	e.s.out.say("Hand-over: the manager took %s to end, and the next one ran %s later.", short(gone.Sub(told)), good.Render(short(handed)))
	e.s.out.say("With a Lease that is given back it takes up to 4.4 s, a standby's next try; kube-controller-manager gives")
	e.s.out.say("none back by default, so that its successor waits as after a crash. That was not measured here, either.")
	return nil
}

// awaitEnd waits until the manager of a term is gone.
func (e *election) awaitEnd(ctx context.Context, t elected) error {
	return e.watch(ctx, "the end of the manager of "+t.name, func(running []elected) bool {
		return len(running) == 0 || running[0].pid != t.pid
	})
}

// next waits for the manager of another term than the last, with a higher token.
func (e *election) next(ctx context.Context, last elected) (next elected, err error) {
	err = e.watch(ctx, "another leader", func(running []elected) bool {
		if len(running) == 0 || running[0].pid == last.pid {
			return false
		}
		next = running[0]
		return true
	})
	if err == nil && next.token <= last.token {
		err = fmt.Errorf("the fencing token of %s is %d, that of %s before it %d", next.name, next.token, last.name, last.token)
	}
	return next, err
}

// watch looks at the managers that run until they are as holds says. Two at once end
// the story, however short it was.
func (e *election) watch(ctx context.Context, what string, holds func([]elected) bool) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 30*time.Second, errors.New("30 seconds have passed"))
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		running, err := managersOf(e.s.cluster.Kubeconfig())
		if err != nil {
			return err
		}
		if len(running) > 1 {
			return fmt.Errorf("%d managers run at once: %v", len(running), running)
		}
		for _, p := range e.all {
			if p.ExitCode() == overlapped {
				return errors.New("a manager met another that still lived")
			}
		}
		if holds(running) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", what, context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// tell shows what quorate leaders says once all others stand by, and that the manager
// does its work.
func (e *election) tell(ctx context.Context, t elected) error {
	if err := e.s.cluster.cleansTokens(ctx); err != nil {
		return fmt.Errorf("the manager of %s: %w", t.name, err)
	}
	table := ""
	err := lab.Await(ctx, 30*time.Second, "quorate leaders to show it", func(ctx context.Context) error {
		out, err := exec.CommandContext(ctx, e.s.cluster.binary, append([]string{"leaders", "manager"}, e.store...)...).Output()
		if table = string(out); err != nil {
			return fmt.Errorf("quorate leaders: %w", err)
		}
		if !leads(table, t, e.alive()-1) {
			return fmt.Errorf("%s leads with the fencing token %d, and quorate leaders says:\n%s", t.name, t.token, table)
		}
		return nil
	})
	if err != nil {
		return err
	}
	e.s.out.quote(table)
	return e.watch(ctx, "the same leader", func(running []elected) bool { return len(running) == 1 && running[0] == t })
}

// alive is how many copies have not ended.
func (e *election) alive() (n int) {
	for _, p := range e.copies {
		select {
		case <-p.Done():
		default:
			n++
		}
	}
	return n
}

// leads says whether a table of leaders has this one, with this token and so many
// that stand by.
func leads(table string, t elected, standbys int) bool {
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) != 7 || !strings.HasPrefix(f[2], t.name+"_") || f[4] != fmt.Sprint(t.token) {
			continue
		}
		return standbys == strings.Count(f[6], "_")
	}
	return false
}

// close ends all copies, and waits until nothing that they ran is left.
func (e *election) close(ctx context.Context) error {
	var errs []error
	for _, p := range e.all {
		errs = append(errs, p.Close())
	}
	errs = append(errs, e.watch(ctx, "the end of all managers", func(running []elected) bool { return len(running) == 0 }))
	return errors.Join(errs...)
}

// short is a duration as people read it.
func short(d time.Duration) string {
	if d < time.Second {
		return d.Round(time.Millisecond).String()
	}
	return d.Round(100 * time.Millisecond).String()
}
