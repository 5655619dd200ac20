package drill

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// processesIn finds the processes whose working directory is dir or lies below: the
// server, what it has begun, and what works on its files. Those of others cannot be
// seen and do not matter.
func processesIn(dir string) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var found []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil && pid != os.Getpid() && runsIn(pid, dir) {
			found = append(found, pid)
		}
	}
	return found
}

// runsIn tells whether the working directory of a process is dir or lies below. One
// that has ended and is not reaped yet has none.
func runsIn(pid int, dir string) bool {
	cwd, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(pid), "cwd"))
	if err != nil {
		return false
	}
	cwd = strings.TrimSuffix(cwd, " (deleted)")
	return cwd == dir || strings.HasPrefix(cwd, dir+"/")
}

func removeSharedMemory(id int) {
	if id >= 0 {
		_, _ = unix.SysvShmCtl(id, unix.IPC_RMID, nil)
	}
}
