package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/pgtest"
)

// A server that gets to know when an orphan below it ends takes it for one of its
// own that died. So no helper runs there, and a call fetches the next files itself.
func prefetchUnderPID1(w *aheadWorld) {
	if canMount(w.t) {
		prefetchWithinCalls(w, toolPath(w.t, "unshare"), "-Ucfp", "--mount-proc")
	}
}

func prefetchUnderSubreaper(w *aheadWorld) {
	prefetchWithinCalls(w, subreaper(w.t), toolPath(w.t, "env"))
}

// subreaper is a program that orphans are given to; see there.
func subreaper(t testing.TB) string {
	t.Helper()
	return pgtest.BuildPackage(t, "./integration/testdata/subreaper")
}

// prefetchWithinCalls recovers with a server that adopts orphans, and looks after
// each call who is there and what was fetched ahead.
func prefetchWithinCalls(w *aheadWorld, under ...string) {
	latencies := []time.Duration{30 * time.Millisecond}
	if pgtest.Long() {
		latencies = append(latencies, 0)
	}
	for _, latency := range latencies {
		n := w.restored(pgtest.RecoverySignal, w.slow(latency), "")
		seen := filepath.Join(filepath.Dir(n.calls), "seen")
		look := fmt.Sprintf(`; r=$?; [ ! -d %[1]s ] || { ls %[1]s/*/ | grep -cE "^[0-9A-F]{24}$"; find /proc -maxdepth 2 -name cwd -lname "%[1]s*" 2>/dev/null; } >>%[2]s;`,
			n.staging(), seen)
		n.Set(map[string]string{"restore_command": strings.Replace(n.command(), "; r=$?;", look, 1)})
		n.launch(under...)
		n.recovers()
		n.leavesNothing()
		many, running := 0, 0
		data, err := os.ReadFile(seen)
		if err != nil {
			w.t.Errorf("nothing was fetched ahead: %v", err)
		}
		for line := range strings.Lines(string(data)) {
			number := 0
			if strings.HasPrefix(line, "/proc") {
				running++
			} else if _, err := fmt.Sscan(line, &number); err == nil && number >= 2 {
				many++
			}
		}
		if many < 3 {
			w.t.Errorf("after %d calls only there was more than one file: %q", many, data)
		}
		if running > 2 { // one may look who adopts it
			w.t.Errorf("a helper was seen %d times", running)
		}
		w.t.Logf("%v: files there after a call, and processes: %q", latency, strings.Join(strings.Fields(string(data)), " "))
		n.under.Kill()
		n.Destroy()
	}
}

// command is the server's restore_command.
func (n *ahead) command() string {
	n.t.Helper()
	for line := range strings.Lines(string(readFile(n.t, filepath.Join(n.DataDir, "pgtest.conf")))) {
		if value, ok := strings.CutPrefix(line, "restore_command = '"); ok {
			return strings.ReplaceAll(strings.TrimSuffix(strings.TrimSpace(value), "'"), "''", "'")
		}
	}
	n.t.Fatal("no restore_command")
	return ""
}

// prefetchBelowSubreaper: somebody adopts orphans, but not the server.
func prefetchBelowSubreaper(w *aheadWorld) {
	n := w.restored(pgtest.RecoverySignal, w.slow(10*time.Millisecond), "")
	release := n.hold(w.names[8])
	n.launch(subreaper(w.t), "-child", toolPath(w.t, "env"))
	n.asked(w.names[8])
	n.helper()
	release()
	n.recovers()
}
