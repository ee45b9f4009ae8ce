// Package zookeeper is a ZooKeeper client whose every call ends with its context.
// It tames go-zookeeper, which nobody else touches.
//
// A Client is one ZooKeeper session, never two: when it ends, by the server's
// word, by our own clock or by Close, Ended is closed and every call fails at
// once, those that were waiting included. A write of one session therefore cannot
// land under the next.
//
// Not promised: that a write whose call returned ErrUnsure was or was not made;
// that reads are the newest (they are a server's own, which may have been cut off
// from its ensemble); SASL.
package zookeeper
