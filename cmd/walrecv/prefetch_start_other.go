//go:build !linux

package main

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// ownProgram is the program that runs.
func ownProgram() string {
	path, err := os.Executable()
	if err != nil {
		return os.Args[0]
	}
	return path
}

// keepFilesHere lets no process that this one starts have any of its files but those
// that it is given. Servers before 16 leave files of theirs open in what they start.
func keepFilesHere() error {
	const first = 3
	entries, err := os.ReadDir("/dev/fd")
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
