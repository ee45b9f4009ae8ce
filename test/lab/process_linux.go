package lab

import "syscall"

// groupLeader puts the child into a group of its own and ties its life to ours.
func groupLeader() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
