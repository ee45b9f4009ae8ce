package election

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// entry is what a wrapped program writes into the journal when it starts.
type entry struct {
	Identity string
	Token    int64
	// PID of the program, and of its descendant that has left group and session.
	PID, Descendant int
	// Overlap names what still lived of an earlier one: its program or descendant.
	Overlap []string
}

func init() {
	roles["work"] = work
	roles["descendant"] = descendant
}

// work is a program that must never run twice. It and its descendant hold a lock of
// the kernel each, which goes when they do, so that whatever overlaps is seen.
func work() error {
	dir := os.Getenv("JOURNAL")
	terminated := make(chan os.Signal, 1)
	signal.Notify(terminated, syscall.SIGTERM)
	e := entry{Identity: os.Getenv("QUORATE_IDENTITY"), PID: os.Getpid()}
	var err error
	if e.Token, err = strconv.ParseInt(os.Getenv("QUORATE_FENCING_TOKEN"), 10, 64); err != nil {
		return err
	}
	if !hold(filepath.Join(dir, "program.lock")) {
		e.Overlap = append(e.Overlap, "program")
	}
	child := exec.Command("/proc/self/exe") //nolint:noctx // meant to outlive this process
	child.Env = append(os.Environ(), "ROLE=descendant")
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	answer, err := child.StdoutPipe()
	if err != nil {
		return err
	}
	if err := child.Start(); err != nil {
		return err
	}
	var held bool
	if _, err := fmt.Fscan(answer, &held); err != nil {
		return fmt.Errorf("hear the descendant: %w", err)
	}
	e.Descendant = child.Process.Pid
	if !held {
		e.Overlap = append(e.Overlap, "descendant")
	}
	if err := appendTo(dir, e); err != nil {
		return err
	}
	<-terminated
	return nil
}

// descendant says whether it is the only one, and stays.
func descendant() error {
	fmt.Println(hold(filepath.Join(os.Getenv("JOURNAL"), "descendant.lock")))
	select {}
}

// hold a lock for the life of this process, if nobody else does.
func hold(path string) bool {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return false
	}
	held = append(held, file)
	return syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil
}

var held []*os.File // kept from being closed

func appendTo(dir string, e entry) error {
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	file, err := os.OpenFile(filepath.Join(dir, "journal"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = file.Write(append(line, '\n'))
	return errors.Join(err, file.Close())
}

// journal is all that started so far.
func journal(dir string) []entry {
	content, err := os.ReadFile(filepath.Join(dir, "journal"))
	if err != nil {
		return nil
	}
	var entries []entry
	for line := range strings.Lines(string(content)) {
		var e entry
		if json.Unmarshal([]byte(line), &e) == nil {
			entries = append(entries, e)
		}
	}
	return entries
}

func alive(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	_, state, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(state, "Z") && !strings.HasPrefix(state, "X")
}

func (e entry) gone() bool { return !alive(e.PID) && !alive(e.Descendant) }
