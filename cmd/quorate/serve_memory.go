package main

import (
	"os"
	"runtime/debug"
)

// collectAt makes the collector run when the heap has grown by a half, not by as much
// as it was: what is kept of a large cluster is large and hardly changes, and what is
// read while it is listed is garbage at once. GOGC, if it is set, has the last word.
func collectAt() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50)
	}
}
