package pgtest

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// killTree kills a process and everything below it, as one moment: a parent is
// stopped before its children are looked for, so that it neither starts others
// nor notices that they end. It returns the ids of all it killed.
//
// It works down the tree and not on a process group, because every process of a
// PostgreSQL server leads a group of its own.
func killTree(pid int) []int {
	if syscall.Kill(pid, syscall.SIGSTOP) != nil {
		return nil
	}
	var killed []int
	for _, child := range children(pid) {
		killed = append(killed, killTree(child)...)
	}
	_ = syscall.Kill(pid, syscall.SIGKILL)
	return append(killed, pid)
}

// children lists the processes whose parent is pid.
func children(pid int) []int {
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	var found []int
	for _, file := range files {
		if _, parent := procStat(file); parent != pid {
			continue
		}
		if child, err := strconv.Atoi(filepath.Base(filepath.Dir(file))); err == nil {
			found = append(found, child)
		}
	}
	return found
}

// anyRuns tells whether one of the processes is still there. One that has ended
// and only waits to be collected by its parent is not.
func anyRuns(pids []int) bool {
	for _, pid := range pids {
		state, _ := procStat("/proc/" + strconv.Itoa(pid) + "/stat")
		if state != 0 && state != 'Z' && state != 'X' {
			return true
		}
	}
	return false
}

// procStat reads state and parent from a stat file of the proc file system, and
// returns zeros for a process that is gone.
func procStat(file string) (state byte, parent int) {
	data, err := os.ReadFile(file)
	if err != nil {
		return 0, 0
	}
	// pid (name) state parent ...; the name may hold anything.
	end := bytes.LastIndexByte(data, ')')
	fields := bytes.Fields(data[end+1:])
	if len(fields) < 2 {
		return 0, 0
	}
	parent, _ = strconv.Atoi(string(fields[1]))
	return fields[0][0], parent
}
