//go:build unix && !linux

package guardian

import (
	"syscall"
	"time"
)

// now is the shared clock. Here it is the wall clock, which may be set, and a
// deadline is only as good as that.
func now() int64 { return time.Now().UnixNano() }

// adoptOrphans cannot be had here: processes that leave the group and outlive their
// parent escape.
func adoptOrphans() error { return nil }

// commandAttr gives the command a group of its own. It outlives a guardian that is
// killed.
func commandAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// killFamily kills the group.
func killFamily(group int) {
	if group > 0 {
		_ = syscall.Kill(-group, syscall.SIGKILL)
	}
}
