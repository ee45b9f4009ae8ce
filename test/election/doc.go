// Package election tries leader election on real ZooKeeper servers: programs that
// quorate elect wraps, and histories of terms under faults.
package election
