//go:build !linux

package drill

import "syscall"

// ownProgram is empty where a program is known by its path only.
const ownProgram = ""

// canConfine is 0: only Linux can.
func canConfine() int { return 0 }

// Become replaces this process by a program. It returns only to say why it could not.
func Become(_, command, environ []string) error { return syscall.Exec(command[0], command, environ) }
