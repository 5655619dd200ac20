package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"
	"time"
)

// processVariable makes this test binary run one of testProcesses.
const processVariable = "WALRECV_TEST_PROCESS"

// testProcesses are programs that show how this package's main behaves when
// something happens to the process. They return the exit code.
var testProcesses = map[string]func() int{
	"panic": func() int {
		guardRestore()
		go func() { panic("a goroutine panics") }()
		return waitForParent()
	},
	"panic in main": func() int {
		guardRestore()
		panic("main panics")
	},
	"concurrent map writes": func() int {
		guardRestore()
		m := map[int]int{}
		for range 8 {
			go func() {
				for i := 0; ; i++ {
					m[i%64] = i
				}
			}()
		}
		return waitForParent()
	},
	"stack overflow": func() int {
		guardRestore()
		debug.SetMaxStack(1 << 20)
		var deeper func(n int) int
		deeper = func(n int) int { return deeper(n+1) + 1 }
		return deeper(0)
	},
	"restore": func() int {
		guardRestore()
		fmt.Println("ready")
		return waitForParent()
	},
	"push": func() int {
		guardServerCommand()
		fmt.Println("ready")
		return waitForParent()
	},
	"push that panics": func() int {
		guardServerCommand()
		go func() { panic("a goroutine panics") }()
		return waitForParent()
	},
	"receive": func() int {
		return receiveProcess(func(ctx context.Context) error {
			<-ctx.Done()
			fmt.Println(context.Cause(ctx))
			return nil
		})
	},
	"receive that hangs": func() int {
		return receiveProcess(func(ctx context.Context) error {
			<-ctx.Done()
			fmt.Println(context.Cause(ctx))
			waitForParent()
			return nil
		})
	},
}

// receiveProcess is "walrecv receive" with this work.
func receiveProcess(work func(context.Context) error) int {
	a := newTestApp(nil, os.Stdout, os.Stderr)
	a.receive = func(ctx context.Context, _ receiveConfig, _ *slog.Logger) error {
		fmt.Println("ready")
		return work(ctx)
	}
	return a.run(context.Background(), []string{"receive", "-D", "x"})
}

// waitForParent ends with the test that started this process.
func waitForParent() int {
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 99
}

// process is a running test process.
type process struct {
	cmd    *exec.Cmd
	stdin  io.Closer
	stdout *bufio.Reader
	stderr bytes.Buffer
}

func startProcess(t *testing.T, name string, argv ...string) *process {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	p := &process{cmd: exec.CommandContext(ctx, argv[0], argv[1:]...)}
	p.cmd.Env = append(os.Environ(), processVariable+"="+name)
	p.cmd.Stderr = &p.stderr
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.stdin, p.stdout = stdin, bufio.NewReader(stdout)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.stdin.Close() })
	return p
}

// line reads one line of the process's output.
func (p *process) line(t *testing.T) string {
	t.Helper()
	text, err := p.stdout.ReadString('\n')
	if err != nil {
		t.Fatalf("after %q: %v; stderr: %s", text, err, p.stderr.String())
	}
	return strings.TrimSpace(text)
}

func (p *process) signal(t *testing.T, s os.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// wait returns how the process ended.
func (p *process) wait(t *testing.T) syscall.WaitStatus {
	t.Helper()
	err := p.cmd.Wait()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return p.cmd.ProcessState.Sys().(syscall.WaitStatus)
}

func self(t *testing.T) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// Under restore's guard a failure of the program is never an exit code from 1
// to 125.
func TestRestoreAborts(t *testing.T) {
	for _, name := range []string{"panic", "panic in main", "concurrent map writes", "stack overflow"} {
		t.Run(name, func(t *testing.T) {
			p := startProcess(t, name, self(t))
			if status := p.wait(t); !status.Signaled() || status.Signal() != syscall.SIGABRT || status.CoreDump() {
				t.Errorf("status %#x, core %v; want SIGABRT without a core file; stderr: %.300s", status, status.CoreDump(), p.stderr.String())
			}
			p = startProcess(t, name, "/bin/sh", "-c", `"$0"; exit $?`, self(t))
			if status := p.wait(t); status.ExitStatus() != 134 {
				t.Errorf("a shell reports %d, want 134", status.ExitStatus())
			}
		})
	}
}

func TestRestoreSignals(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		p := startProcess(t, "restore", self(t))
		p.line(t)
		p.signal(t, s)
		if status := p.wait(t); !status.Signaled() || status.Signal() != s {
			t.Errorf("%v: status %#x, want death by the signal", s, status)
		}
	}
	p := startProcess(t, "restore", self(t))
	p.line(t)
	p.signal(t, syscall.SIGQUIT)
	if status := p.wait(t); status.ExitStatus() != exitQuit || p.stderr.Len() != 0 {
		t.Errorf("SIGQUIT: status %#x, stderr %q; want exit 131, silently", status, p.stderr.String())
	}
}

func TestReceiveSignals(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		p := startProcess(t, "receive", self(t))
		p.line(t)
		p.signal(t, s)
		cause := p.line(t)
		if status := p.wait(t); status.ExitStatus() != exitDone || cause != (interruption{s}).Error() || p.stderr.Len() != 0 {
			t.Errorf("%v: status %#x, cause %q, stderr %q; want exit 0", s, status, cause, p.stderr.String())
		}
	}
	// timeout(1) sends one to its child, and then one to the group.
	p := startProcess(t, "receive that hangs", self(t))
	p.line(t)
	p.signal(t, syscall.SIGTERM)
	p.line(t)
	for began := time.Now(); time.Since(began) < sameWish/20; time.Sleep(10 * time.Millisecond) {
		p.signal(t, syscall.SIGTERM)
	}
	p.stdin.Close()
	if status := p.wait(t); status.ExitStatus() != exitDone || p.stderr.Len() > 0 {
		t.Errorf("the same signal again: status %#x, stderr %q; want a stop in order", status, p.stderr.String())
	}

	p = startProcess(t, "receive that hangs", self(t))
	p.line(t)
	p.signal(t, syscall.SIGTERM)
	p.line(t)
	for began := time.Now(); time.Since(began) <= sameWish; {
		time.Sleep(10 * time.Millisecond)
	}
	p.signal(t, syscall.SIGINT)
	if status := p.wait(t); status.ExitStatus() != exitFailed || !strings.Contains(p.stderr.String(), "second signal") {
		t.Errorf("second signal: status %#x, stderr %q; want exit 1", status, p.stderr.String())
	}
}

func TestStopDeadline(t *testing.T) {
	codes := make(chan int, 1)
	var stderr bytes.Buffer
	ctx, stop := interruptible(context.Background(), time.Millisecond, &stderr, func(code int) { codes <- code })
	if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	code := <-codes
	stop()
	if code != exitFailed || !strings.Contains(stderr.String(), "within 1ms") {
		t.Errorf("exit %d, %q", code, stderr.String())
	}
	if cause := context.Cause(ctx); !errors.Is(cause, interruption{syscall.SIGTERM}) {
		t.Errorf("cause %v", cause)
	}
}

// The build stamps version and commit.
func TestVersionStamp(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "walrecv")
	build := exec.Command("go", "build", "-buildvcs=false", "-o", binary,
		"-ldflags", "-X main.version=1.2.3 -X main.commit=abcdef0", ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%.2000s", err, out)
	}
	out, err := exec.Command(binary, "version").CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "walrecv 1.2.3 (commit abcdef0, go1.") {
		t.Errorf("version prints %q, %v", out, err)
	}
}
