// Package eviction tries the guard with real parts: a real control plane, real
// ZooKeeper servers, real replicas of the guard as processes of their own, and
// kubectl. The servers themselves are asked a hundred times a second how they are.
//
// What the samples promise: at every moment a quorum of the servers counted. A server
// counts from the answer that it leads or follows until its port is closed, the test
// stops it, or it has not said so for 20 s. Between answers, through an election above
// all, it counts on the strength of its last one: it runs, has its data, and serves as
// soon as there is a leader. So the promise is that the guard never let too many be
// taken away at once. It is not that a leader was there at every moment: evicting one
// costs an election, guard or no guard. How long a server that counted went without
// serving is told beside each result, and is bounded by those 20 s alone.
package eviction
