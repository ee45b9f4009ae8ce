// Package conformance is a suite for any resourcelock.Interface: what a LeaderElector
// of client-go relies on, and what its users believe they have. Each case is run
// against two or more locks of one election.
//
// Where a lock cannot pass a case because of the defects of client-go that are known
// as D1 (a release clobbers the next leader) and D3 (durations are truncated), it
// says so (Suite.Defects), and the suite checks that it still has the defect: one
// that was mended must not stay excused.
//
// D2, D4 and D5 are the LeaderElector's own, and no call to a lock shows them: that it
// goes on leading for a renew deadline after it has seen another leader, that it releases
// before its work has stopped, and that it polls. A lock can only be better than the
// elector asks: see leaderelection.Run, Config.StopTime and Lock.Get.
//
// Not tested: that a lock excludes others while its store misbehaves. That takes
// faults, which are the store's own.
package conformance
