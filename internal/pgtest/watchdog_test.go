package pgtest_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/pgtest"
)

// abandonWith is set, to a major, in the process that is killed.
const abandonWith = "PGTEST_ABANDON"

func TestKilledTestLeavesNothing(t *testing.T) {
	if major := os.Getenv(abandonWith); major != "" {
		abandon(t, major)
	}
	for _, major := range pgtest.Versions(t) {
		cmd, out := again(t, t.Name(), fmt.Sprintf("%s=%d", abandonWith, major))
		defer func() { _ = cmd.Process.Kill() }()
		var data, files, segment string
		pgtest.Eventually(t, time.Minute, func() bool {
			output, err := os.ReadFile(out)
			_, report, found := strings.Cut(string(output), "abandoned: ")
			if !found || !strings.Contains(report, "\n") {
				return false
			}
			n, _ := fmt.Sscan(report, &data, &files, &segment)
			return err == nil && n == 3
		}, "the other process did not come so far")
		if n, m := len(processesIn(t, data)), len(processesIn(t, files)); n < 7 || m < 1 {
			t.Errorf("%d processes below %s and %d below %s before the kill", n, data, m, files)
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		gone := func(dir string) bool {
			_, err := os.Stat(dir)
			return errors.Is(err, fs.ErrNotExist) && len(processesIn(t, dir)) == 0
		}
		pgtest.Eventually(t, 30*time.Second, func() bool { return gone(data) && gone(files) && !hasSharedMemory(t, segment) },
			"%s, %s, their processes or shared memory segment %s stayed", data, files, segment)
	}
}

// abandon starts all kinds of processes, says so and waits to be killed.
func abandon(t *testing.T, major string) {
	var o pgtest.Options
	if _, err := fmt.Sscan(major, &o.Major); err != nil {
		t.Fatal(err)
	}
	o.WALSegmentSize = 1 << 20
	c := pgtest.New(t, o)
	c.Start()
	// A child of a child of a child: as restore_command is.
	c.Exec("create table t(line text)")
	go func() { _ = c.TryExec(t.Context(), "copy t from program 'echo begun > begun; sleep 1000'") }()
	pgtest.Eventually(t, time.Minute, func() bool {
		_, err := os.Stat(filepath.Join(c.DataDir, "begun"))
		return err == nil
	}, "the program of the COPY did not begin")
	pgtest.Command(t, "/bin/sleep", "1000").Start()
	fmt.Printf("abandoned: %s %s %s\n", filepath.Dir(c.Dir), filepath.Dir(pgtest.TempDir(t)), sharedMemoryOf(t, c.DataDir))
	select {}
}
