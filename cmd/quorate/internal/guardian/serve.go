package guardian

import (
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"
	"time"
)

const (
	commandsFD = 3 // where the guardian hears its wrapper
	eventsFD   = 4 // where it answers
	// nap bounds every sleep: timers stand still while the machine sleeps, the shared
	// clock does not.
	nap = 250 * time.Millisecond
	// again is how soon those that survived a kill, or were born during it, get the
	// next.
	again = 2 * time.Millisecond
)

// Serve is the guardian's whole life: it runs a command until it ends, its wrapper
// ends, or the last deadline is reached, and returns when nothing of it is left. It
// takes over its process: file descriptors 3 and 4, its children, its signals.
func Serve(command []string, grace time.Duration) error {
	runtime.LockOSThread() // the command dies with the thread that started it
	commands, events := os.NewFile(commandsFD, "commands"), os.NewFile(eventsFD, "events")
	if commands == nil || events == nil || len(command) == 0 {
		return errors.New("serve as guardian: only quorate elect starts one")
	}
	syscall.CloseOnExec(commandsFD)
	syscall.CloseOnExec(eventsFD)
	if err := adoptOrphans(); err != nil {
		return err
	}
	// Noticed and forgotten: an ignored signal would stay ignored in the command.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGPIPE, syscall.SIGTSTP)

	g := &guard{events: events, heard: make(chan message), ended: make(chan message)}
	go receive(commands, g.heard)
	first, ok := <-g.heard
	if !ok || first.verb != feedLine {
		return nil // the wrapper died before it asked for anything
	}
	g.plan = plan{grace: int64(grace), deadline: first.value}
	g.run(command)
	return nil
}

// guard is a guardian at work.
type guard struct {
	plan   plan
	events *os.File
	heard  chan message // closed when the wrapper is gone
	ended  chan message // from reap
	pid    int
}

func (g *guard) run(command []string) {
	if did, _ := g.plan.next(now()); did == kill {
		g.say(goneLine, 0) // too late to begin
		return
	}
	if err := g.start(command); err != nil {
		errno := syscall.EACCES
		_ = errors.As(err, &errno)
		if errors.Is(err, exec.ErrNotFound) {
			errno = syscall.ENOENT
		}
		g.say(failedLine, int64(errno))
		g.say(goneLine, 0)
		return
	}
	g.say(startedLine, int64(g.pid))
	go reap(g.pid, g.ended)
	for g.turn() {
	}
	g.say(goneLine, 0)
}

func (g *guard) start(command []string) error {
	path, err := exec.LookPath(command[0])
	if err != nil {
		return err
	}
	p, err := os.StartProcess(path, command, &os.ProcAttr{
		Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
		Sys:   commandAttr(),
	})
	if err != nil {
		return err
	}
	g.pid = p.Pid
	return nil
}

// turn does what is due, then listens until something is said or due. It says
// whether anything of the command may be left.
func (g *guard) turn() bool {
	did, sleep := g.plan.next(now())
	switch did {
	case terminate:
		_ = syscall.Kill(g.pid, syscall.SIGTERM)
	case kill:
		killFamily(g.pid)
		sleep = again
	case wait:
		sleep = min(sleep, nap)
	}
	timer := time.NewTimer(sleep)
	defer timer.Stop()
	select {
	case m, ok := <-g.heard:
		if !ok {
			g.heard = nil
			g.plan.end()
			return true
		}
		g.obey(m)
	case m := <-g.ended:
		if m.verb == goneLine {
			return false
		}
		g.say(m.verb, m.value)
		g.plan.end() // of what the command leaves behind
	case <-timer.C:
	}
	return true
}

func (g *guard) obey(m message) {
	switch m.verb {
	case feedLine:
		g.plan.feed(now(), m.value)
	case stopLine:
		g.plan.stop(now())
	case signalLine:
		_ = syscall.Kill(g.pid, syscall.Signal(m.value))
	}
}

// say tells the wrapper, which may no longer be there to hear it.
func (g *guard) say(verb string, value int64) { _ = send(g.events, verb, value) }

// reap waits for every descendant. The command's own end is reported, and the end
// of the last.
func reap(command int, to chan<- message) {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil: // ECHILD: there is none left
			to <- message{verb: goneLine}
			return
		case pid == command:
			to <- message{endedLine, int64(status)}
		}
	}
}
