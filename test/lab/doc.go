// Package lab starts real servers on one machine, for tests, demos and
// measurements: ZooKeeper ensembles and a Kubernetes control plane, on addresses
// of loopback that it claims for itself, so that several labs run side by side.
//
// Everything started here is ended by its Close, and dies with the process that
// started it on Linux. What a test wants to break has a handle of its own: a server
// is killed, paused (SIGSTOP) or loses its data; a link is cut, slowed or made deaf
// in one direction; network namespaces part servers from their peers alone.
//
// The lab does not promise what a real machine room would: there is one clock, one
// disk, and files are not forced to it, so the loss of power cannot be tried.
package lab
