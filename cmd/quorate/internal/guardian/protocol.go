package guardian

import (
	"bufio"
	"fmt"
	"io"
	"syscall"
)

// What the wrapper says, a line each.
const (
	feedLine   = "deadline" // nanoseconds on the shared clock
	signalLine = "signal"   // its number
	stopLine   = "stop"     // 0
)

// What the guardian says, a line each.
const (
	startedLine = "started" // the command's process id
	failedLine  = "failed"  // the errno of the start
	endedLine   = "ended"   // the command's wait status
	goneLine    = "gone"    // 0
)

type message struct {
	verb  string
	value int64
}

func send(w io.Writer, verb string, value int64) error {
	_, err := fmt.Fprintf(w, "%s %d\n", verb, value)
	return err
}

// receive passes on what is said until nobody can say anything any more.
func receive(r io.Reader, to chan<- message) {
	defer close(to)
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		var m message
		if _, err := fmt.Sscanf(lines.Text(), "%s %d", &m.verb, &m.value); err != nil {
			return // half a line, from somebody who died while writing
		}
		to <- m
	}
}

// Exit is how a command ended.
type Exit struct {
	// Err is why it could not be started; nil if it was.
	Err error
	// Status is its wait status.
	Status syscall.WaitStatus
}

// Code is the exit code that a shell would show: the command's own, 128 and the
// signal that ended it, 127 if it was not found and 126 if it could not be run.
func (e Exit) Code() int {
	switch {
	case e.Err == syscall.ENOENT: //nolint:errorlint // an errno that came as a number
		return 127
	case e.Err != nil:
		return 126
	case e.Status.Signaled():
		return 128 + int(e.Status.Signal())
	}
	return e.Status.ExitStatus()
}
