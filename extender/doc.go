// Package extender answers kube-scheduler's question where a voter may go, so
// that no failure domain ever holds voters that the quorum cannot do without, and
// so that every voter that has a safe place gets it.
//
// Filter is the rule, a pure function of a membership.Snapshot and of what was
// promised before; testdata/filter is its script. Ledger keeps the promises
// (holds) and is the rule over time: no clock, no lock, no I/O. Prioritize scores
// what Filter leaves. Server is the shell: HTTP as k8s.io/kube-scheduler/extender/v1
// speaks it, one lock around read, decide and hold.
//
// The scheduler tells an extender nothing after Filter. A pod for which nodes
// were named may land on any of them, now or in a minute, so that it counts in
// every domain that was named until it is seen bound or gone. That, and not what
// the informers show, keeps sixty pods placed at once apart.
//
// What it does not promise: pods with spec.nodeName or bound by hand, and
// schedulers that are not configured with this extender, are counted once they are
// seen and never prevented. Labels of a node that change while a pod is on its way
// to it are seen when it arrives. Levels with ScheduleAnyway are preferred, not
// kept. One or two voters are never blocked: where no live configuration is known,
// such a voter may be sent next to a former one that has not left yet, and both
// count once two become more. One scheduler talks to one extender, beside it; two extenders do not know
// of each other's holds, and only the watch of the scheduler's Lease covers the
// hand-over between them.
package extender
