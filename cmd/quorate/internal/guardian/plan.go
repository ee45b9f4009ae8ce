package guardian

import "time"

// act is what the guardian has to do to the command.
type act uint8

const (
	wait      act = iota // until told otherwise, or until the time
	terminate            // ask the command to end (SIGTERM), once
	kill                 // end all that is left (SIGKILL), until nothing is
)

// plan is when a command must go. It knows no clock: times are nanoseconds since
// whenever, all on the same clock.
//
// Invariant: once a moment has passed at which the command was due to be killed, it
// will be, whatever is said later.
type plan struct {
	grace      int64 // between the request to end and the kill
	deadline   int64 // the kill. It must begin with one: zero has passed
	stopped    int64 // when somebody asked for a stop. 0: nobody did
	terminated bool
	killing    bool
}

// feed sets a new deadline, unless the last one has passed.
func (p *plan) feed(now, deadline int64) {
	p.settle(now)
	p.deadline = deadline
}

// stop asks for an end within the grace, and by the deadline.
func (p *plan) stop(now int64) {
	if p.stopped == 0 {
		p.stopped = now
	}
}

// end asks for an end at once.
func (p *plan) end() { p.killing = true }

// settle fixes what has become due.
func (p *plan) settle(now int64) {
	if now >= p.killAt() {
		p.killing = true
	}
}

func (p *plan) killAt() int64 {
	if p.stopped != 0 {
		return min(p.deadline, p.stopped+p.grace)
	}
	return p.deadline
}

func (p *plan) terminateAt() int64 {
	if p.stopped != 0 {
		return p.stopped
	}
	return p.deadline - p.grace
}

// next is what to do now, and for how long that holds if nothing is said.
func (p *plan) next(now int64) (act, time.Duration) {
	p.settle(now)
	switch {
	case p.killing:
		return kill, 0
	case !p.terminated && now >= p.terminateAt():
		p.terminated = true
		p.stop(now)
		return terminate, 0
	case p.terminated:
		return wait, time.Duration(p.killAt() - now)
	}
	return wait, time.Duration(p.terminateAt() - now)
}
