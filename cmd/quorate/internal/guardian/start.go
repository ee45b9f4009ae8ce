package guardian

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// Config is what Start needs. Guardian, Command and Deadline have no default.
type Config struct {
	// Guardian is the command line of a process that calls Serve with the same
	// command and grace.
	Guardian []string
	// Env is added to the command's environment.
	Env []string
	// Deadline is when nothing of the command may be left, until Feed moves it.
	Deadline time.Time
	// Grace is what the guardian gives the command between SIGTERM and SIGKILL, of
	// the time before the deadline.
	Grace time.Duration
	// Margin is how long before the deadline SIGKILL is sent.
	Margin time.Duration
}

// Guarded is a command under a guardian. Its methods are safe for concurrent use.
type Guarded struct {
	config   Config
	commands *os.File
	guardian *exec.Cmd
	gone     chan struct{}
	fed      chan struct{}
	exit     Exit // set before gone is closed
	group    int  // the command's; owned by watch

	mu       sync.Mutex // guards below
	deadline time.Time
}

// Start starts a guardian, which starts the command. A command that cannot be
// started is Gone with the error in its Exit. This process becomes the reaper of
// its orphans, and all its children count as the command's: it must have no other.
func Start(c Config) (*Guarded, error) {
	if err := adoptOrphans(); err != nil {
		return nil, err
	}
	commandsRead, commands, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start guardian: %w", err)
	}
	defer commandsRead.Close()
	events, eventsWrite, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start guardian: %w", err), commands.Close())
	}
	defer eventsWrite.Close()
	g := &Guarded{
		config: c, commands: commands, deadline: c.Deadline,
		gone: make(chan struct{}), fed: make(chan struct{}, 1),
		guardian: exec.Command(c.Guardian[0], c.Guardian[1:]...), //nolint:noctx // ends by its deadline, not by a context
	}
	g.guardian.Env = append(os.Environ(), c.Env...)
	g.guardian.Stdin, g.guardian.Stdout, g.guardian.Stderr = os.Stdin, os.Stdout, os.Stderr
	g.guardian.ExtraFiles = []*os.File{commandsRead, eventsWrite}
	g.guardian.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a terminal's signals come by way of us
	if err := g.guardian.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start guardian: %w", err), commands.Close(), events.Close())
	}
	g.Feed(c.Deadline)
	said := make(chan message)
	go receive(events, said)
	go func() {
		defer events.Close()
		g.watch(said)
	}()
	return g, nil
}

// Feed moves the deadline. It never waits for the guardian: what a stuck one does
// not read is thrown away with it.
func (g *Guarded) Feed(deadline time.Time) {
	g.mu.Lock()
	g.deadline = deadline
	g.mu.Unlock()
	select {
	case g.fed <- struct{}{}:
	default:
	}
	g.tell(feedLine, onSharedClock(deadline.Add(-g.config.Margin)))
}

// onSharedClock reads the shared clock first, so that whatever comes between the two
// readings makes the result earlier, never later.
func onSharedClock(t time.Time) int64 {
	before := now()
	return before + int64(time.Until(t))
}

// Signal passes a signal to the command.
func (g *Guarded) Signal(s syscall.Signal) { g.tell(signalLine, int64(s)) }

// Stop asks the command to end: SIGTERM now, SIGKILL after the grace or at the
// deadline.
func (g *Guarded) Stop() { g.tell(stopLine, 0) }

// tell says something to a guardian, and never waits: if that is gone, or its pipe is
// full because it is stuck, watch deals with it.
func (g *Guarded) tell(verb string, value int64) {
	line := fmt.Appendf(nil, "%s %d\n", verb, value)
	g.mu.Lock()
	defer g.mu.Unlock()
	pipe, err := g.commands.SyscallConn()
	if err != nil {
		return
	}
	_ = pipe.Write(func(fd uintptr) bool {
		_, err := syscall.Write(int(fd), line) // a line goes into a pipe whole or not at all
		for errors.Is(err, syscall.EINTR) {
			_, err = syscall.Write(int(fd), line)
		}
		return true
	})
}

// Gone is closed when nothing of the command is left.
func (g *Guarded) Gone() <-chan struct{} { return g.gone }

// Exit is how the command ended. Ask only when it is Gone.
func (g *Guarded) Exit() Exit { return g.exit }

// watch follows the guardian, and kills it and the command when it does not do so
// itself.
func (g *Guarded) watch(said <-chan message) {
	defer close(g.gone)
	defer g.close()
	for {
		timer := time.NewTimer(max(g.patience(), time.Millisecond))
		select {
		case m, ok := <-said:
			timer.Stop()
			if !ok { // it died, and the command with it
				g.sweep()
				return
			}
			if g.note(m) {
				return
			}
		case <-g.fed:
			timer.Stop()
		case <-timer.C:
			if g.patience() <= 0 {
				_ = g.guardian.Process.Kill()
			}
		}
	}
}

// patience is how long until a guardian that has not killed must be stuck: half the
// margin after it should have.
func (g *Guarded) patience() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	return time.Until(g.deadline) - g.config.Margin/2
}

// note takes down what the guardian says, and whether it was the last.
func (g *Guarded) note(m message) bool {
	switch m.verb {
	case startedLine:
		g.group = int(m.value)
	case failedLine:
		g.exit.Err = syscall.Errno(m.value)
	case endedLine:
		g.exit.Status = syscall.WaitStatus(m.value)
	case goneLine:
		return true
	}
	return false
}

// sweep does the guardian's work after it died: its orphans are ours.
func (g *Guarded) sweep() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	g.exit.Status = syscall.WaitStatus(syscall.SIGKILL)
	ended := make(chan message)
	_, _ = g.guardian.Process.Wait()
	go reap(g.group, ended)
	for {
		killFamily(g.group)
		timer := time.NewTimer(again)
		select {
		case m := <-ended:
			timer.Stop()
			if m.verb == goneLine {
				return
			}
			g.exit.Status = syscall.WaitStatus(m.value)
		case <-timer.C:
		}
	}
}

// close ends a guardian that has nothing left to guard.
func (g *Guarded) close() {
	_ = g.guardian.Process.Kill()
	_, _ = g.guardian.Process.Wait() // a second time after sweep: refused, harmless
	g.mu.Lock()
	defer g.mu.Unlock()
	_ = g.commands.Close()
}
