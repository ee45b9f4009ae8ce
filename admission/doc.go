// Package admission is the eviction guard: it judges requests that take members of
// an ensemble away, and lets none through that would leave fewer synced voters
// than a quorum and what is to be spared.
//
// Decide is the whole decision, pure: what was read and asked in, an answer out.
// Its cases are told in testdata/decide. Guard is the protocol around it, whose
// order is the safety: live read of the pod, quorum read of the Ensemble, and only
// then the list of its pods and a probe of each; the yes is written into
// Ensemble.status by compare-and-swap before it is said. So no yes rests on
// evidence older than the latest grant, however many replicas judge.
// Requests that read the same share a round of probes, which begins after all of them
// have asked (rounds.go).
//
// A grant counts as gone from the moment it is written until the same server is
// seen synced in a new process, until it is seen unused, or until the server left
// the configuration (grants.go). Then it is dropped by the next request, whatever the
// answer, or by Release, which the status controller calls while there are any. So a yes
// costs one write, and a no none, but for one that drops grants. Ages run on each
// observer's own monotonic clock (Memory) and start again at every change: a late
// observer only lengthens.
//
// Evictions, deletions of pods and shrinking of StatefulSets are judged; deleting
// the StatefulSet of a live ensemble is refused. Kubelets, the namespace
// controller, garbage collection, pod GC and the taint manager are never blocked:
// that is decided in the API server (matchConditions), so that it holds while the
// guard is down. Members of the group quorate:break-glass pass, audited.
//
// Not promised: kubelet's own evictions, failures of nodes, whoever is exempt,
// restores of etcd, a change of the ensemble's membership between a yes and the
// pod's end, a pod made a member (by its labels, or by an edited selector)
// while an earlier yes for it is still on its way, and one whose labels were taken
// away: whoever the selector does not match is nobody's member. A replica that dies in
// mid-request makes the API server answer 500: bounded, never unsafe.
package admission
