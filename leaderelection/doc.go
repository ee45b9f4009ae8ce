// Package leaderelection elects a leader through ZooKeeper. Its Lock is a
// resourcelock.Interface: the unmodified LeaderElector of client-go and
// controller-runtime work with it.
//
// At most one process acts as leader at any moment, through crashes, partitions,
// fail-overs of ZooKeeper and slow servers, as long as a process that is not
// paused stops its work within its stop time. A successor leads within the
// session timeout, one and a half ticks, a notification and a write after a
// crash, and within a notification and a write after a graceful stop.
//
// Not promised:
//   - that a process which was paused for longer than its session does nothing
//     when it wakes: whatever it writes to must look at the fencing token, which
//     grows with every term (Term.Token);
//   - tokens that go on growing after ZooKeeper was restored from older data;
//   - with the bare LeaderElector, which learns of a loss only when it next
//     renews, that an administrator may delete the owner node. Ask for a
//     resignation instead (Session.Resign), or use Run.
//
// The pieces: a Session is one ZooKeeper session of a process and is shared by
// all its locks; it writes one proof per interval, and only answered writes
// prove that it lives (proof.go is the arithmetic). A Lock is one candidate in
// one election. Run is a LeaderElector whose context ends the moment leadership
// does. Options are the flags, and choose between Leases and ZooKeeper.
package leaderelection
