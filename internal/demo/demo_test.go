package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/pgtest"
)

const (
	endsWithin  = 3 * time.Minute // a whole demonstration on a busy machine
	stopsWithin = time.Minute     // after a signal
)

// small arguments make the demonstration as short as it can be.
func small(walrecv string) []string {
	return []string{"-walrecv", walrecv, "-load", "1s", "-segments", "3", "-scale", "1"}
}

// show starts the demonstration as the user of the tests, with its directory in
// base. The function ends it, if it runs, and returns its exit code.
func show(t *testing.T, base string, args []string) (cmd *exec.Cmd, output func() string, wait func() int) {
	t.Helper()
	program := pgtest.BuildPackage(t, "./internal/demo")
	log, err := os.Create(filepath.Join(t.TempDir(), "output"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	ctx, cancel := context.WithTimeout(context.Background(), endsWithin)
	t.Cleanup(cancel)
	cmd = exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), "TMPDIR="+base)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	output = func() string {
		text, err := os.ReadFile(log.Name())
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	wait = func() int {
		_ = cmd.Wait() // the result is in ProcessState
		return cmd.ProcessState.ExitCode()
	}
	return cmd, output, wait
}

// checkNothingLeft looks for everything that a demonstration makes.
func checkNothingLeft(t *testing.T, base string, memory []string) {
	t.Helper()
	if pids := processesBelow(base); len(pids) > 0 {
		t.Errorf("processes %v are left", pids)
	}
	left, err := os.ReadDir(base)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range left {
		t.Errorf("%s is left", entry.Name())
	}
	for _, name := range memory {
		if isThere(name) {
			t.Errorf("shared memory %s is left", name)
		}
	}
}

// sharedMemory lists what the servers below base use: numbers of System V
// segments, and files.
func sharedMemory(t *testing.T, base string) (found []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(base, "*", "*", "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, _ := os.ReadFile(file) // it may be gone again
		if lines := strings.Split(string(text), "\n"); len(lines) > 6 && len(strings.Fields(lines[6])) == 2 {
			found = append(found, strings.Fields(lines[6])[1])
		}
	}
	for _, pid := range processesBelow(base) {
		found = append(found, dynamicMemory(pid)...)
	}
	return found
}

func isThere(memory string) bool {
	if !filepath.IsAbs(memory) {
		return hasSharedMemory(memory)
	}
	_, err := os.Stat(memory)
	return err == nil
}

func TestDemo(t *testing.T) {
	t.Parallel()
	base := pgtest.TempDir(t)
	_, output, wait := show(t, base, small(pgtest.Build(t)))
	if code := wait(); code != exitDone {
		t.Fatalf("ended with %d:\n%s", code, output())
	}
	checkNothingLeft(t, base, nil)
	for _, proof := range []string{
		`All [1-9][0-9]* rows that a client saw committed are there`,
		`All [1-9][0-9]* transactions that pgbench saw committed are there`,
		`pg_amcheck finds every table and index sound`,
		`([3-9]|[1-9][0-9]+) archived segments, unpacked with zstd alone, equal the primary's own files`,
		`All processes are ended and ` + base + `/[^ ]+ is removed`,
	} {
		if !regexp.MustCompile(proof).MatchString(output()) {
			t.Errorf("%q is not said", proof)
		}
	}
	t.Logf("\n%s", output())
}

// TestDemoNotices gives the demonstration a walrecv that loses the last segment,
// by looking neither into the spool nor at the tail. It runs as the user of the servers, whom a root
// user of the tests is not.
func TestDemoNotices(t *testing.T) {
	t.Parallel()
	liar := filepath.Join(pgtest.TempDir(t), "walrecv")
	script := fmt.Sprintf(`#!/bin/sh
case "$*" in
restore*) # restore --archive DIR --spool DIR %%f %%p
	exec '%[1]s' restore --archive "$3" --tail never "$6" "$7" ;;
*) exec '%[1]s' "$@" ;;
esac
`, pgtest.Build(t))
	if err := os.WriteFile(liar, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	pgtest.Give(t, liar)
	base := pgtest.TempDir(t)
	demo := pgtest.Command(t, pgtest.BuildPackage(t, "./internal/demo"), small(liar)...)
	demo.Env = []string{"TMPDIR=" + base}
	if code := demo.Start().Wait(endsWithin); code != exitFailed {
		t.Errorf("ended with %d, want %d", code, exitFailed)
	}
	checkNothingLeft(t, base, nil)
	fault := regexp.MustCompile(`FAILED: of the rows that clients saw committed, [1-9][0-9]* are missing; 0 rows are altered; 0 rows were sent`)
	if !fault.MatchString(demo.Stderr()) {
		t.Errorf("it does not say what is wrong:\n%s%s", demo.Stdout(), demo.Stderr())
	}
	if !strings.Contains(demo.Stdout(), "The end of walrecv-receive.log:") || strings.Contains(demo.Stdout(), "Proved") {
		t.Errorf("it shows no logs, or proofs:\n%s", demo.Stdout())
	}
}

func TestInterruptedDemoLeavesNothing(t *testing.T) {
	t.Parallel()
	walrecv := pgtest.Build(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGKILL} {
		step := 1 + random.IntN(11)
		delay := time.Duration(random.Int64N(int64(time.Second)))
		t.Logf("%v %v after the begin of step %d", sig, delay, step)
		interrupt(t, walrecv, sig, step, delay)
	}
}

func interrupt(t *testing.T, walrecv string, sig syscall.Signal, step int, delay time.Duration) {
	t.Helper()
	base := pgtest.TempDir(t)
	cmd, output, wait := show(t, base, small(walrecv))
	begin := fmt.Sprintf("\n%2d. ", step)
	pgtest.Eventually(t, endsWithin, func() bool { return strings.Contains(output(), begin) }, "step %d did not begin", step)
	<-time.After(delay) // the moment is random: nothing has to have happened
	memory := sharedMemory(t, base)
	if err := cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	code := wait()
	if took := time.Since(begun); took > stopsWithin {
		t.Errorf("%v after step %d: took %v", sig, step, took)
	}
	if sig == syscall.SIGKILL { // now it is up to the watchdog
		pgtest.Eventually(t, stopsWithin, func() bool {
			entries, err := os.ReadDir(base)
			return err == nil && len(entries) == 0
		}, "the watchdog removed nothing")
	} else if code != 128+int(sig) && !strings.Contains(output(), "Proved") {
		t.Errorf("%v after step %d: ended with %d:\n%s", sig, step, code, output())
	}
	checkNothingLeft(t, base, memory)
}
