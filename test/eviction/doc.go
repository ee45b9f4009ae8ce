// Package eviction tries the guard with real parts: a real control plane, real
// ZooKeeper servers, real replicas of the guard as processes of their own, and
// kubectl. The servers themselves are asked a hundred times a second how they are.
//
// A server counts while it serves, and through an election that it takes part in:
// it stands ready to serve as soon as there is a leader. It stops counting once its
// port is closed, or when it has not served for longer than an election takes.
package eviction
