// Package quorum is the arithmetic that every safety claim of Quorate rests on:
// does a quorum remain if these are gone?
//
// A System says which sets of voters are quorums, as ZooKeeper says it: by
// majority (QuorumMaj), by weight within groups (QuorumHierarchical), or, for two
// voters, with an oracle (QuorumOracleMaj). During a reconfiguration a quorum of
// the old and of the new configuration is needed: Joint.
//
// Everything else is one question asked in different ways. Without: what if these
// go, and we have not heard of those? Spare: how many may go, whichever they are?
// Fatal: which single failure domain takes the quorum with it?
//
// The size of a quorum is that of the whole configuration: a server that is down,
// or evicted, does not leave it. Observers are not voters and are in no Set.
//
// The package does no I/O, reads no clock, starts no goroutine and imports the
// standard library only. Its zero values deny: no voters, no quorum; no look, no
// verdict but Unknown.
package quorum
