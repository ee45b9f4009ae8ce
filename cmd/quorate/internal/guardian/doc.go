// Package guardian runs a command that must be dead by a deadline, whatever happens
// to the process that wanted it run.
//
// The wrapper (Start) puts a small process, the guardian (Serve), between itself
// and the command. It feeds the guardian absolute deadlines on a clock that both
// share, each computed from the sending of the proof that justifies it, so that a
// message which arrives late says nothing new. The guardian terminates the command
// a grace before the last deadline it was fed, and kills it at the deadline:
//   - a wrapper that hangs or is paused (SIGSTOP) feeds nobody;
//   - a wrapper that is killed (SIGKILL) closes the pipe, and the guardian kills at
//     once;
//   - a guardian that is killed takes the command with it, and the wrapper kills
//     what the command left; one that is paused is killed by the wrapper.
//
// The whole family goes: the guardian is the reaper of orphans, so processes that
// left the group or the session are still its descendants, and it says that the
// command is gone only when it has no child left. What a command leaves behind when
// it ends by itself is killed too.
//
// Not promised:
//   - anything while both are paused, as by a frozen container or machine: only a
//     fencing token helps then;
//   - the end of processes that may not be killed (another user's, or in
//     uninterruptible sleep): they are never reported gone;
//   - on systems other than Linux, the end of processes that left the group, and a
//     clock that goes on while the machine sleeps.
package guardian
