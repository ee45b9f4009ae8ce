// Package bench keeps what was measured: rows in build/bench.json, each beside its
// peer, or its floor, from the same run. A number alone says little of another
// machine; a ratio does.
//
// Benchmarks of every room call Record. Packages run one after the other, so that
// they do not measure each other.
package bench
