// Package wrapper runs a command while this process leads: what quorate elect does,
// apart from its flags.
//
// A candidacy (ZooKeeper or Leases) waits until it leads and then hands a Term to the
// Wrapper, which has a guardian run the command and feeds it the term's deadlines.
// The lock is given back only when nothing of the command is left, and at once then.
//
// Not promised: anything while the whole container or machine is paused, since nothing
// in it can kill. What the command writes to must look at the fencing token then, which
// it finds in its environment.
package wrapper
