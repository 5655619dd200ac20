package pgtest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// gate holds a new process back until the watchdog knows it: it waits for a
// line on descriptor 3 and then becomes the program, under the same process id.
const gate = `read -r go <&3 && [ "$go" = go ] || exit 125; exec 3<&-; exec "$@"`

// endWithin is how long a process gets to end after a signal that cannot fail.
const endWithin = 30 * time.Second

// Process is a program that runs as the user of the servers, in a process group
// of its own and with none of the environment of the tests. Its fields are set
// before Start. It is killed, with everything it started, at the end of the
// test, and what it wrote to standard error is shown when the test fails.
type Process struct {
	Path string
	Args []string
	Env  []string // NAME=value, added to PATH, HOME, LANG and TMPDIR
	Dir  string   // working directory; "" for HOME, a directory of its own

	t       testing.TB
	run     *run
	cmd     *exec.Cmd
	outPath string
	errPath string
	quiet   bool // do not show its output when the test fails
	done    chan struct{}
}

// Command prepares a program. Nothing runs before Start.
func Command(t testing.TB, path string, args ...string) *Process {
	t.Helper()
	return &Process{Path: path, Args: args, t: t, run: currentRun(t)}
}

// Run runs a program to its end, a minute at most, and returns its exit code
// and what it wrote.
func Run(t testing.TB, path string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	p := Command(t, path, args...)
	p.quiet = true
	code = p.Start().Wait(time.Minute)
	return code, p.Stdout(), p.Stderr()
}

// Start starts the program and returns p. The program may fail right away; see
// Exited.
func (p *Process) Start() *Process {
	p.t.Helper()
	if err := p.start(); err != nil {
		p.t.Fatalf("start of %s: %v", p.Path, err)
	}
	return p
}

func (p *Process) start() error {
	if p.cmd != nil {
		return errors.New("it was started before")
	}
	home, err := p.prepare()
	if err != nil {
		return err
	}
	stdout, err := os.OpenFile(p.outPath, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer stdout.Close()
	stderr, err := os.OpenFile(p.errPath, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer stderr.Close()
	gateRead, gateWrite, err := os.Pipe()
	if err != nil {
		return err
	}
	defer gateRead.Close()
	defer gateWrite.Close()

	cmd := exec.Command("/bin/sh", append([]string{"-c", gate, "gate", p.Path}, p.Args...)...)
	cmd.Dir = p.Dir
	cmd.Env = append(environment(home), p.Env...)
	cmd.Stdout, cmd.Stderr = stdout, stderr
	cmd.ExtraFiles = []*os.File{gateRead}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: p.run.owner}
	if err := cmd.Start(); err != nil {
		return err
	}
	p.cmd = cmd
	p.done = make(chan struct{})
	err = p.run.dog.alive(cmd.Process.Pid)
	if err == nil {
		_, err = gateWrite.WriteString("go\n")
	}
	go p.reap()
	return err
}

// prepare makes the process's directory and registers its end with the test.
func (p *Process) prepare() (home string, err error) {
	home, err = p.run.mkdir(p.run.dir, "p")
	if err != nil {
		return "", err
	}
	p.t.Cleanup(func() { p.cleanup(home) })
	if p.Dir == "" {
		p.Dir = home
	}
	if p.outPath == "" {
		p.outPath = filepath.Join(home, "stdout")
		p.errPath = filepath.Join(home, "stderr")
	}
	return home, nil
}

func (p *Process) cleanup(home string) {
	if p.cmd != nil {
		p.Kill()
		if p.t.Failed() && !p.quiet {
			p.t.Logf("%s (process %d) ended with %d; the end of its standard error:\n%s",
				filepath.Base(p.Path), p.PID(), p.code(), tail(p.Stderr()))
		}
	}
	if err := os.RemoveAll(home); err != nil {
		p.t.Errorf("pgtest: %v", err)
	}
}

// environment is all a program under test sees of the world around the tests:
// no PGHOST, no password file, no settings of walrecv's own.
func environment(home string) []string {
	env := []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + home, "TMPDIR=" + home, "LANG=C", "TZ=UTC",
		"AWS_EC2_METADATA_DISABLED=true",
	}
	for _, name := range []string{"GOCOVERDIR", "GORACE"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// reap waits for the end of the process, in a goroutine of its own.
func (p *Process) reap() {
	_ = p.cmd.Wait() // the result is in ProcessState
	_ = p.run.dog.gone(p.PID())
	close(p.done)
}

// With returns the same started process for another test, a subtest say, which
// then is the one that its failures end. The process itself still ends with the
// test that started it.
func (p *Process) With(t testing.TB) *Process {
	sub := *p
	sub.t = t
	return &sub
}

// PID returns the process id of the program.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Signal sends a signal to the program alone. A program that has ended is not
// an error: the test sees that at Wait.
func (p *Process) Signal(sig syscall.Signal) {
	p.t.Helper()
	err := p.cmd.Process.Signal(sig)
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Errorf("%v to process %d: %v", sig, p.PID(), err)
	}
}

// Kill ends the program and everything it started with SIGKILL, at once and
// together, and returns when none of it is left.
func (p *Process) Kill() {
	p.t.Helper()
	var killed []int
	if _, ended := p.Exited(); !ended {
		killed = killTree(p.PID())
	}
	<-p.done
	if !poll(endWithin, func() bool { return !anyRuns(killed) }) {
		p.t.Errorf("processes %v outlived SIGKILL", killed)
	}
}

// Exited returns the exit code of a program that has ended, 128 + N if signal N
// ended it.
func (p *Process) Exited() (code int, ended bool) {
	select {
	case <-p.done:
		return p.code(), true
	default:
		return 0, false
	}
}

func (p *Process) code() int {
	if ws, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return p.cmd.ProcessState.ExitCode()
}

// Wait returns the exit code as Exited does. The test ends if the program has
// not ended after d.
func (p *Process) Wait(d time.Duration) int {
	p.t.Helper()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-p.done:
	case <-timer.C:
	}
	code, ended := p.Exited() // of two that are ready, select takes any
	if !ended {
		p.t.Fatalf("%s still runs after %v", filepath.Base(p.Path), d)
	}
	return code
}

// Stdout returns what the program has written to standard output so far.
func (p *Process) Stdout() string { return readLog(p.outPath) }

// Stderr returns what the program has written to standard error so far.
func (p *Process) Stderr() string { return readLog(p.errPath) }

// WaitOutput waits until the program has written text to standard output or
// standard error. The test ends if that takes longer than d, or if the program
// ends without it.
func (p *Process) WaitOutput(text string, d time.Duration) {
	p.t.Helper()
	found := func() bool {
		return strings.Contains(p.Stderr(), text) || strings.Contains(p.Stdout(), text)
	}
	ended := false
	Eventually(p.t, d, func() bool {
		_, ended = p.Exited()
		return found() || ended
	}, "%s has not written %q", filepath.Base(p.Path), text)
	if ended && !found() {
		p.t.Fatalf("%s ended with %d and has not written %q", filepath.Base(p.Path), p.code(), text)
	}
}

func readLog(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Sprintf("(%v)", err)
	}
	return string(data)
}

// tail returns the last lines of a log, as many as help to understand a failure.
// Whoever waits for a server to start asks it all the time, which says nothing.
func tail(text string) string {
	const lines = 150
	all := slices.DeleteFunc(strings.SplitAfter(text, "\n"), func(line string) bool {
		return strings.HasSuffix(line, "FATAL:  the database system is starting up\n")
	})
	if len(all) > lines {
		all = append([]string{"...\n"}, all[len(all)-lines:]...)
	}
	return strings.Join(all, "")
}
