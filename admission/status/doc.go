// Package status keeps Ensemble.status true: it asks the members of every Ensemble
// now and then, and writes down what changed.
//
// It writes voters, quorum, synced, disruptionsAllowed, members and conditions, by
// server-side apply as its own field manager, when one of them changes and at most
// every ten seconds: every write of an Ensemble voids somebody's compare-and-swap.
// Ages and positions are never in it. It never touches topology. Two things it does as
// the guard itself would, by compare-and-swap: it arms the guard where that is due, so
// that a new Ensemble's first drain need not wait for it; and it ends grants, so that
// nobody is counted as gone who is back, or who was let go and stayed.
//
// spec.disruption.podDisruptionBudget: Adopt makes it keep a PodDisruptionBudget for
// the time that we are away, unless somebody else has one for the same pods: the API
// server refuses every eviction of a pod that two of them match.
//
// Looking costs: an Ensemble that stays as it is is looked at ever less often, up to
// once a minute; one whose pods change is looked at within a moment.
//
// Not promised: that the status is true now. Nothing may be decided on it. It runs on
// one elected replica; the guard and placement work without it.
package status
