package leaderelection

import (
	"testing"
	"time"
)

// A proof moves the deadline of a term whose nodes were looked at through the connection
// that it came through, while no event waits that may say that they are gone.
func TestProofExtendsWhatWasLookedAt(t *testing.T) {
	quiet, fired := make(chan struct{}), make(chan struct{})
	close(fired)
	for name, tt := range map[string]struct {
		conn, looked uint64
		watched      chan struct{}
		move         time.Duration
	}{
		"looked at through it":         {conn: 2, looked: 2, watched: quiet, move: time.Second},
		"looked at through another":    {conn: 2, looked: 1, watched: quiet},
		"through an unknown one":       {conn: 0, looked: 1, watched: quiet},
		"unknown, and never looked at": {conn: 0, looked: 0, watched: quiet},
		"an event waits":               {conn: 2, looked: 2, watched: fired},
	} {
		t.Run(name, func(t *testing.T) {
			deadline := time.Now()
			term := &Term{deadline: deadline, proven: make(chan struct{}), looked: tt.looked, watched: []<-chan struct{}{quiet, tt.watched}}
			term.extend(deadline.Add(time.Second), tt.conn)
			if got := term.Deadline().Sub(deadline); got != tt.move {
				t.Errorf("deadline was moved by %v, want %v", got, tt.move)
			}
		})
	}
}
