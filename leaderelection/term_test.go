package leaderelection

import (
	"testing"
	"time"
)

// A proof of which it is not known through which connection it came extends no term:
// one whose nodes were never looked at least of all.
func TestProofThroughAnUnknownConnection(t *testing.T) {
	deadline := time.Now()
	term := &Term{deadline: deadline, proven: make(chan struct{})}
	term.extend(deadline.Add(time.Second), 0)
	if got := term.Deadline(); !got.Equal(deadline) {
		t.Errorf("deadline was moved by %v, want no move", got.Sub(deadline))
	}
}
