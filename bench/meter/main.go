//go:build linux

// Meter runs a program and writes down what it took:
//
//	meter FILE PROGRAM ARGUMENT...
//
// FILE gets one line: nanoseconds from the start of the program to its end, then, of
// the program and of everything that it started, nanoseconds of processor time and the
// largest number of kilobytes that any one of them had in memory. What the program
// leaves behind in the background counts, too: meter adopts it, and ends when nothing
// is left. It ends with the program's exit code, 128 + N if signal N ended it.
//
// It is a program of its own, and small, since the kernel takes the memory of whoever
// starts a program for the least that the program itself ever had.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	if len(os.Args) < 3 {
		fail("usage: meter FILE PROGRAM ARGUMENT...")
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		fail(err)
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM)
	began := time.Now()
	program, err := os.StartProcess(os.Args[2], os.Args[2:], &os.ProcAttr{Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}})
	if err != nil {
		fail(err)
	}
	go func() {
		for s := range signals {
			_ = program.Signal(s) // it may have ended
		}
	}()
	code, report := collect(program.Pid, began)
	if err := os.WriteFile(os.Args[1], []byte(report), 0o600); err != nil {
		fail(err)
	}
	os.Exit(code)
}

// collect waits for everything that there is to wait for.
func collect(program int, began time.Time) (code int, report string) {
	var took, cpu time.Duration
	var peak int64
	for {
		var status syscall.WaitStatus
		var used syscall.Rusage
		pid, err := syscall.Wait4(-1, &status, 0, &used)
		if err == syscall.EINTR {
			continue
		}
		if err != nil { // there are no more
			return code, fmt.Sprintln(took.Nanoseconds(), cpu.Nanoseconds(), peak)
		}
		cpu += time.Duration(used.Utime.Nano() + used.Stime.Nano())
		peak = max(peak, used.Maxrss)
		if pid == program {
			took = time.Since(began)
			code = status.ExitStatus()
			if status.Signaled() {
				code = 128 + int(status.Signal())
			}
		}
	}
}

func fail(what any) {
	fmt.Fprintln(os.Stderr, "meter:", what)
	os.Exit(127)
}
