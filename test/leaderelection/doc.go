// Package leaderelection tries the lock on real ZooKeeper servers and a real API
// server: what a tree in memory cannot show.
package leaderelection
