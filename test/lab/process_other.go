//go:build !linux

package lab

import "syscall"

// groupLeader puts the child into a group of its own. Only Linux can also tie its
// life to ours.
func groupLeader() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
