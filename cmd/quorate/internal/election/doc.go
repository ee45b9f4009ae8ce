// Package election runs work on the one replica that leads, and moves the election
// when the configuration names another place for it.
//
// A move must not make two leaders, although replicas read a changed ConfigMap at
// different moments, and the old and the new ensemble know nothing of each other. So
// a Lease, the pointer, says on which ensemble the election is held; an ensemble is
// told by an identity that is kept in it, not by its address. Who wins a lock must
// then write the pointer, by compare-and-swap on what it read after it had won. If
// the pointer names another ensemble, it must first win that one's lock, too, and
// holds both while it writes. So a pointer is changed only by who excludes everybody
// else there, a write that was delayed fails on the write of the next winner, and a
// replica that still has the old configuration can't lead behind the others' backs.
//
// The price: an ensemble that is gone for good can't be moved from, since nobody
// knows what happens there. Then the pointer must be deleted by hand; the log says so.
package election
