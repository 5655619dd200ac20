package drill

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// endWithin is how long a server that was told to end at once may take.
	endWithin = 10 * time.Second
	// killWithin is how long processes may take to go after SIGKILL.
	killWithin = 10 * time.Second
	// lookEvery is the pause between two looks at processes.
	lookEvery = 20 * time.Millisecond
)

// Clear ends every process that works in one of these directories, which are those
// of a drill, and removes them. What is not there any more needs nothing done.
func Clear(dirs []string) error {
	var errs []error
	for _, dir := range dirs {
		if !strings.HasPrefix(filepath.Base(dir), scratchPrefix) || !filepath.IsAbs(dir) {
			return fmt.Errorf("%q is not the directory of a drill", dir)
		}
		errs = append(errs, clearProcesses(dir))
	}
	for _, dir := range dirs {
		errs = append(errs, removeAll(dir))
	}
	return errors.Join(errs...)
}

// clearProcesses ends the server of a drill, and whatever else works in its
// directory: first in the server's own way, which takes its shared memory along.
func clearProcesses(dir string) error {
	pid, memory := serverIn(dir)
	if pid > 1 && runsIn(pid, dir) {
		_ = syscall.Kill(pid, syscall.SIGQUIT)
		if waitUntil(endWithin, func() bool { return gone(pid) && len(processesIn(dir)) == 0 }) {
			return nil
		}
	}
	left := processesIn(dir)
	for _, pid := range left {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	removeSharedMemory(memory)
	if !waitUntil(killWithin, func() bool {
		left = processesIn(dir)
		for _, pid := range left { // also what was begun meanwhile
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		return len(left) == 0
	}) {
		return fmt.Errorf("processes %v in %s do not end", left, dir)
	}
	return nil
}

// Lines of postmaster.pid.
const (
	linePID    = 0
	lineMemory = 6 // "KEY ID" of its System V shared memory
)

// serverIn reads who runs on a drill's data directory; 0 if nobody does. memory is
// the identifier of its System V shared memory, or -1.
func serverIn(dir string) (pid, memory int) {
	data, err := os.ReadFile(filepath.Join(dir, dataDir, "postmaster.pid")) //nolint:gosec // of a directory that was made for a drill
	if err != nil {
		return 0, -1
	}
	lines := strings.Split(string(data), "\n")
	pid, err = strconv.Atoi(strings.TrimSpace(lines[linePID]))
	if err != nil {
		return 0, -1
	}
	memory = -1
	if len(lines) > lineMemory {
		if words := strings.Fields(lines[lineMemory]); len(words) == 2 {
			if id, err := strconv.Atoi(words[1]); err == nil {
				memory = id
			}
		}
	}
	return pid, memory
}

func gone(pid int) bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }

// removeAll removes a directory. A process that has just been killed can have made
// another file in it.
func removeAll(dir string) error {
	var err error
	waitUntil(killWithin, func() bool {
		err = os.RemoveAll(dir) //nolint:gosec // it was made for a drill
		return err == nil
	})
	return err
}

// waitUntil looks until done says so, for a while.
func waitUntil(d time.Duration, done func() bool) bool {
	again := time.NewTicker(lookEvery)
	defer again.Stop()
	for end := time.Now().Add(d); !done(); <-again.C {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}
