package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// endWithin is how long a killed process may take to be gone: it may be waiting
// for a disk.
const endWithin = 30 * time.Second

// sweep ends every process of the demonstration in dir, and removes what they
// made: shared memory, sockets, the directory. It may be called twice, and by
// two processes.
func sweep(dir string) error {
	if err := killBelow(dir); err != nil {
		return err
	}
	servers, err := filepath.Glob(filepath.Join(dir, "*", "postmaster.pid"))
	if err != nil {
		return err
	}
	for _, file := range servers {
		err = errors.Join(err, removeSharedMemory(filepath.Dir(file)))
	}
	return errors.Join(err, os.RemoveAll(dir))
}

// killBelow kills the processes that work in dir or below it, and returns when
// none is left.
func killBelow(dir string) error {
	return poll(context.Background(), endWithin, func() (bool, error) {
		pids := processesBelow(dir)
		for _, pid := range pids {
			memory := dynamicMemory(pid)
			// That it has ended meanwhile is as good.
			_ = syscall.Kill(pid, syscall.SIGKILL)
			for _, file := range memory {
				if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
					return false, err
				}
			}
		}
		return len(pids) == 0, nil
	}, "killed processes did not end")
}

// processesBelow lists the processes whose working directory is dir or below it,
// parents mostly before children. A process with a terminal is left out: that is
// a person looking around. Nothing is found where there is no /proc.
func processesBelow(dir string) []int {
	places, _ := filepath.Glob("/proc/[0-9]*/cwd") // the pattern is good
	var found []int
	for _, place := range places {
		// It fails for processes that are gone, and for those of others.
		cwd, err := os.Readlink(place)
		cwd = strings.TrimSuffix(cwd, " (deleted)")
		if err != nil || cwd != dir && !strings.HasPrefix(cwd, dir+"/") {
			continue
		}
		process := filepath.Dir(place)
		if pid, err := strconv.Atoi(filepath.Base(process)); err == nil && !hasTerminal(process) {
			found = append(found, pid)
		}
	}
	return found
}

// hasTerminal reads the controlling terminal from a process's stat file.
func hasTerminal(process string) bool {
	data, err := os.ReadFile(filepath.Join(process, "stat"))
	if err != nil {
		return false
	}
	// pid (name) state ppid pgrp session tty_nr ...; the name may hold anything.
	fields := bytes.Fields(data[bytes.LastIndexByte(data, ')')+1:])
	return len(fields) > 4 && string(fields[4]) != "0"
}

// dynamicMemory lists the files of POSIX shared memory that a process of a
// PostgreSQL server uses. The demonstration's servers have none, but initdb's
// do, and leave it behind when they are killed.
func dynamicMemory(pid int) []string {
	const prefix = "/dev/shm/PostgreSQL."
	maps, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "maps"))
	if err != nil {
		return nil
	}
	var files []string
	for line := range strings.Lines(string(maps)) {
		if at := strings.Index(line, prefix); at >= 0 && !strings.Contains(line, "(deleted)") {
			files = append(files, strings.TrimSpace(line[at:]))
		}
	}
	return files
}

// removeSharedMemory removes the System V segment that a killed server leaves: it
// locks its data directory with it.
func removeSharedMemory(dataDir string) error {
	path := filepath.Join(dataDir, "postmaster.pid")
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	lines := strings.Split(string(data), "\n")
	if len(lines) < 7 || len(strings.Fields(lines[6])) != 2 {
		return nil // it was killed before it had one
	}
	id := strings.Fields(lines[6])[1]
	if !hasSharedMemory(id) {
		return nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(context.Background(), "ipcrm", "-m", id)
	// Root may be without the right to remove what is another user's.
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: stat.Uid, Gid: stat.Gid}}
	}
	if out, err := cmd.CombinedOutput(); err != nil && hasSharedMemory(id) {
		return fmt.Errorf("ipcrm -m %s: %w: %s", id, err, bytes.TrimSpace(out))
	}
	return nil
}

// hasSharedMemory tells whether a System V segment is there.
func hasSharedMemory(id string) bool {
	data, err := os.ReadFile("/proc/sysvipc/shm")
	if err != nil {
		return true // then ipcrm finds out
	}
	for line := range strings.Lines(string(data)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[1] == id {
			return true
		}
	}
	return false
}
