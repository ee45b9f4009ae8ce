package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// ProcessConfig says what to start.
type ProcessConfig struct {
	// Name names the log file and appears in errors. Default: the base of Path.
	Name string
	// Path is the program; looked up in PATH when it has no slash.
	Path string
	// Args are its arguments, without the program's name.
	Args []string
	// Env is added to this process's own environment.
	Env []string
	// Dir is its working directory. Default: this process's own.
	Dir string
	// LogDir is the folder of its log, NAME.log, which gets its standard output and
	// error. Empty: both are thrown away, unless Output is set.
	LogDir string
	// Output also gets what it prints, as it comes. May be nil.
	Output io.Writer
	// Namespace is the network namespace to run in. Empty: this process's own.
	Namespace string
}

// Process is a child in a process group of its own. On Linux it dies with the
// process that started it, even when that one is killed with SIGKILL; its own
// children do not, so whatever forks must be ended by Kill or Close.
type Process struct {
	name string
	log  string
	pid  int
	done chan struct{}
	err  error // of the wait. Set before done is closed

	mu     sync.Mutex // guards below
	reaped bool       // its pid may belong to somebody else by now
	empty  bool       // so may the id of its group
}

// StartProcess starts a command. The context bounds the start alone: the process
// lives until it ends or is killed.
func StartProcess(ctx context.Context, c ProcessConfig) (*Process, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if c.Name == "" {
		c.Name = filepath.Base(c.Path)
	}
	p := &Process{name: c.Name, done: make(chan struct{})}
	out, log, err := p.output(c)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Name, err)
	}
	started := make(chan error, 1)
	go p.run(c, out, log, started)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Name, err)
	}
	return p, nil
}

// output opens the log and joins it with whoever else listens. A plain file is
// handed to the child as it is, so that the wait needs no copying goroutine.
func (p *Process) output(c ProcessConfig) (io.Writer, io.Closer, error) {
	if c.LogDir == "" {
		return c.Output, io.NopCloser(nil), nil
	}
	if err := os.MkdirAll(c.LogDir, 0o755); err != nil {
		return nil, nil, err
	}
	p.log = filepath.Join(c.LogDir, c.Name+".log")
	file, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, nil, err
	}
	if c.Output == nil {
		return file, file, nil
	}
	return io.MultiWriter(file, c.Output), file, nil
}

// run starts the child and waits for it on one OS thread: the parent-death signal
// follows the thread that forked, not the process.
func (p *Process) run(c ProcessConfig, out io.Writer, log io.Closer, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer log.Close()
	path, args := c.Path, c.Args
	if c.Namespace != "" {
		path, args = "ip", append([]string{"netns", "exec", c.Namespace, c.Path}, c.Args...)
	}
	cmd := exec.Command(path, args...) //nolint:noctx // outlives the context of its start
	cmd.Dir, cmd.Env = c.Dir, append(os.Environ(), c.Env...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = groupLeader()
	cmd.WaitDelay = time.Second // for grandchildren that keep the output open
	if err := cmd.Start(); err != nil {
		started <- err
		return
	}
	p.pid = cmd.Process.Pid
	started <- nil
	p.err = cmd.Wait()
	p.mu.Lock()
	p.reaped = true
	p.empty = errors.Is(syscall.Kill(-p.pid, 0), syscall.ESRCH)
	p.mu.Unlock()
	close(p.done)
}

// Pid is the process id, and the id of its group.
func (p *Process) Pid() int { return p.pid }

// Log is the path of its log file, empty when it has none.
func (p *Process) Log() string { return p.log }

// Done is closed once the process itself has ended and was reaped.
func (p *Process) Done() <-chan struct{} { return p.done }

// Wait returns how the process ended: nil for exit code 0, an *exec.ExitError for
// another end, or the context's error if that comes first.
func (p *Process) Wait(ctx context.Context) error {
	select {
	case <-p.done:
		return p.err
	case <-ctx.Done():
		return fmt.Errorf("wait for %s: %w", p.name, ctx.Err())
	}
}

// ExitCode is the code it ended with, -1 while it runs or when a signal ended it.
func (p *Process) ExitCode() int {
	select {
	case <-p.done:
	default:
		return -1
	}
	var exit *exec.ExitError
	switch {
	case p.err == nil:
		return 0
	case errors.As(p.err, &exit):
		return exit.ExitCode()
	}
	return -1
}

// Signal sends a signal to the process alone. An error says that it has ended.
func (p *Process) Signal(sig syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reaped {
		return fmt.Errorf("signal %s: %w", p.name, os.ErrProcessDone)
	}
	return syscall.Kill(p.pid, sig)
}

// signalGroup sends a signal to all that are in the group, also when its leader
// has ended. A group without members is no error.
func (p *Process) signalGroup(sig syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.empty {
		return nil
	}
	err := syscall.Kill(-p.pid, sig)
	if errors.Is(err, syscall.ESRCH) {
		return nil
	}
	return err
}

// Pause stops the group (SIGSTOP): it keeps its connections and does nothing.
func (p *Process) Pause() error { return p.signalGroup(syscall.SIGSTOP) }

// Resume lets a paused group go on (SIGCONT).
func (p *Process) Resume() error { return p.signalGroup(syscall.SIGCONT) }

// Kill ends the whole group at once (SIGKILL) and waits until the process itself
// is gone.
func (p *Process) Kill() error {
	if err := p.signalGroup(syscall.SIGKILL); err != nil {
		return fmt.Errorf("kill %s: %w", p.name, err)
	}
	<-p.done
	p.mu.Lock()
	p.empty = true
	p.mu.Unlock()
	return nil
}

// Close is Kill: whatever is left of the group is gone afterwards.
func (p *Process) Close() error { return p.Kill() }
