// Package scheduler tries placement on a real kube-scheduler and a real API server:
// many ensembles created at once, with bindings that are slow, fail, or land after
// the scheduler gave them up, because a proxy between the two makes them so.
//
// An oracle follows the watch of pods, bind by bind, and counts: a moment at which a
// zone holds voters that the quorum can't do without is a failure, and so is a pod
// that fits and is not bound in time. An extender that trusts its informers, and one
// that refuses everything, are put through the same and must fail.
package scheduler
