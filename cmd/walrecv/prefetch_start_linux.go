package main

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// ownProgram is the program that runs, also if its file was replaced meanwhile.
func ownProgram() string { return "/proc/self/exe" }

// keepFilesHere lets no process that this one starts have any of its files but those
// that it is given. Servers before 16 leave files of theirs open in what they start.
func keepFilesHere() error {
	const first = 3
	if unix.CloseRange(first, ^uint(0), unix.CLOSE_RANGE_CLOEXEC) == nil {
		return nil
	}
	// A kernel before 5.11.
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd >= first {
			unix.CloseOnExec(fd)
		}
	}
	return nil
}
