package pgtest

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Helpers lists the processes that "walrecv restore" has left in the background and
// that have a file open below a directory. They are no children of a server.
func Helpers(dir string) (pids []int) {
	processes, _ := os.ReadDir("/proc")
	for _, p := range processes {
		pid, err := strconv.Atoi(p.Name())
		if err != nil {
			continue
		}
		line, err := os.ReadFile(filepath.Join("/proc", p.Name(), "cmdline"))
		if err == nil && bytes.Contains(line, []byte("\x00prefetch-helper\x00")) && worksBelow(filepath.Join("/proc", p.Name()), dir) {
			pids = append(pids, pid)
		}
	}
	return pids
}

func worksBelow(process, dir string) bool {
	links, _ := filepath.Glob(filepath.Join(process, "fd", "*"))
	for _, link := range links {
		if to, err := os.Readlink(link); err == nil && strings.HasPrefix(to, dir+"/") {
			return true
		}
	}
	return false
}

// endHelpers ends those that would notice only in a moment that their server is gone,
// and until then make files in what is to be removed.
func endHelpers(dir string) {
	pids := Helpers(dir)
	for _, pid := range pids {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	poll(endWithin, func() bool { return !anyRuns(pids) })
}
