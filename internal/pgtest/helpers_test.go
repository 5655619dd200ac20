package pgtest_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// processesIn lists the processes that work in a directory, as all processes of
// a server do in its data directory.
func processesIn(t *testing.T, dir string) []string {
	t.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/cwd")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, link := range links {
		target, err := os.Readlink(link)
		if err == nil && strings.HasPrefix(target+"/", dir+"/") {
			found = append(found, filepath.Base(filepath.Dir(link)))
		}
	}
	return found
}

// sharedMemoryOf returns the System V segment that locks a data directory.
func sharedMemoryOf(t *testing.T, dataDir string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dataDir, "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(strings.Split(string(data), "\n")[6])
	if len(fields) != 2 || !hasSharedMemory(t, fields[1]) {
		t.Fatalf("no shared memory segment in %q", data)
	}
	return fields[1]
}

func hasSharedMemory(t *testing.T, id string) bool {
	t.Helper()
	list, err := os.ReadFile("/proc/sysvipc/shm")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(list)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[1] == id {
			return true
		}
	}
	return false
}

func connect(t *testing.T, conn string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	c, err := pgconn.Connect(ctx, conn)
	if err != nil {
		return err
	}
	return c.Close(ctx)
}

// again runs one test of this binary in a process of its own, with an addition
// to the environment. Its output goes to the file it returns.
func again(t *testing.T, test, env string) (*exec.Cmd, string) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd := exec.Command(exe, "-test.run=^"+test+"$", "-test.v")
	cmd.Env = append(slices.Clone(os.Environ()), env)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, out.Name()
}
