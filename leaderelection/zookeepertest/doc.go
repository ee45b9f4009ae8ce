// Package zookeepertest is a ZooKeeper in memory, with faults, for tests of leader
// election: connections lost before and after a write landed, servers that hang,
// servers cut off from their ensemble, expiry. It blocks durably on channels and
// timers alone, so that tests run in a synctest bubble.
//
// It is as strict as ZooKeeper where that matters to a lock: transactions are whole,
// an expired session's writes are refused, a watch's event comes before the answer
// to a later call. It is no server: nothing listens.
package zookeepertest
