package integration

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/pgtest"
)

// TestPrefetch: what restore fetches ahead of a recovery is nobody else's, not another
// server's, not another user's, not what is there no more; and whatever becomes of who
// fetches it, the recovery is right.
func TestPrefetch(t *testing.T) {
	eachOfFewMajors(t, func(t *testing.T, major int) {
		w := newAheadWorld(t, major, 18)
		for _, one := range []struct {
			name string
			test func(w *aheadWorld)
			long bool // the short form has something like it
		}{
			{"recovery", prefetchRecovery, false},
			{"standby", prefetchStandby, false},
			{"switched off", prefetchOff, false},
			{"two servers", prefetchOfTwo, false},
			{"another user", prefetchOfOthers, false},
			{"restored anew", prefetchAnew, false},
			{"server killed", prefetchKilledServer, true},
			{"idle", prefetchIdle, true},
			{"helper killed", prefetchKilled, false},
			{"helper hanging", prefetchHangs, false},
			{"helper ended", prefetchEnded, false},
			{"program gone", prefetchProgramGone, true},
			{"store failing", prefetchStoreFails, false},
			{"object hanging", prefetchObjectHangs, true},
			{"directory removed", prefetchRemoved, false},
			{"disk full", prefetchDiskFull, false},
			{"PID 1", prefetchUnderPID1, false},
			{"subreaper", prefetchUnderSubreaper, false},
			{"below a subreaper", prefetchBelowSubreaper, true},
		} {
			if pgtest.Long() || !one.long {
				t.Run(one.name, func(t *testing.T) { one.test(w.with(t)) })
			}
		}
	})
}

// slow is the archive in S3 with some milliseconds to every request.
func (w *aheadWorld) slow(latency time.Duration) string {
	p := w.store.Proxy(w.t)
	p.SetLatency(latency)
	return p.URL(aheadPrefix)
}

// prefetchRecovery: what fetches ahead has nothing of the server's, and the files are
// there before they are asked for.
func prefetchRecovery(w *aheadWorld) {
	n := w.restored(pgtest.RecoverySignal, w.slow(20*time.Millisecond), "")
	asked, ahead := w.names[5], w.names[6:13]
	release := n.helped(asked)
	n.isDetached(n.helper())
	n.areStaged(ahead)
	release()
	n.recovers()
	n.Stop(pgtest.Fast)
	n.leavesNothing()
}

// isDetached checks that a helper holds nothing of its server that could keep it from
// ending, or its disk from being unmounted, and is in nobody's session.
func (n *ahead) isDetached(pid int) {
	n.t.Helper()
	servers := linksOf(n.PID())
	for _, p := range worksIn(n.t, n.Dir) {
		if id, err := strconv.Atoi(p); err == nil && id != pid {
			servers = append(servers, linksOf(id)...)
		}
	}
	for _, link := range linksOf(pid) {
		switch {
		case link == "/dev/null", strings.HasPrefix(link, "anon_inode:"),
			strings.HasPrefix(link, n.staging()+"/"), strings.HasPrefix(link, "/sys/fs/cgroup/"): // the last by Go itself
		case strings.HasPrefix(link, "/"), slices.Contains(servers, link):
			n.t.Errorf("the helper holds %s", link)
		}
	}
	if cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid)); cwd != n.staging() {
		n.t.Errorf("the helper works in %s, %v", cwd, err)
	}
	if sid, _, _ := syscall.RawSyscall(syscall.SYS_GETSID, uintptr(pid), 0, 0); int(sid) != pid {
		n.t.Errorf("the helper is in session %d", sid)
	}
}

// linksOf are the files that a process has open.
func linksOf(pid int) (links []string) {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, file := range files {
		if to, err := os.Readlink(file); err == nil {
			links = append(links, to)
		}
	}
	return links
}

// prefetchStandby: a fast shutdown of a server that collects its log does not wait
// for what fetches ahead, and neither does a promotion.
func prefetchStandby(w *aheadWorld) {
	n := w.restored(pgtest.StandbySignal, w.slow(5*time.Millisecond), "", "logging_collector", "on", "log_directory", "collected")
	asked := w.names[len(w.names)-8]
	release := n.hold(asked)
	n.Start()
	n.asked(asked)
	helper := n.helper()
	n.Exec("select pg_wal_replay_pause()")
	release()
	n.answered(asked)
	if took := n.Stop(pgtest.Fast); took > pgtest.Allow(5*time.Second) {
		w.t.Errorf("the shutdown took %v", took)
	}
	pgtest.Eventually(w.t, patience, func() bool { return len(worksIn(w.t, n.Dir)) == 0 }, "processes of the server are left")
	n.leavesNothing()

	release = n.hold(asked)
	n.Start()
	n.asked(asked)
	if again := n.helper(); again == helper {
		w.t.Errorf("process %d has outlived its server", again)
	}
	n.Exec("select pg_promote(false)")
	release()
	n.WaitFor("select pg_is_in_recovery()", "f", patience)
	n.Set(map[string]string{"logging_collector": ""})
	logs, err := filepath.Glob(filepath.Join(n.DataDir, "collected", "*"))
	if err != nil || len(logs) == 0 {
		w.t.Fatalf("no logs: %v", err)
	}
	for _, log := range logs {
		if text := string(readFile(w.t, log)); strings.Contains(text, "PANIC") || strings.Contains(text, "terminated by signal") {
			w.t.Errorf("the log:\n%s", text)
		}
	}
	n.isRight(w.rows)
	n.Stop(pgtest.Fast)
	n.leavesNothing()
}

// prefetchOff: with --prefetch 0 there is no helper and no file.
func prefetchOff(w *aheadWorld) {
	n := w.restored(pgtest.RecoverySignal, "", "--prefetch 0")
	asked := w.names[5]
	release := n.hold(asked)
	n.launch()
	n.asked(asked)
	if pids := pgtest.Helpers(n.staging()); len(pids) > 0 {
		w.t.Errorf("helpers: %v", pids)
	}
	release()
	n.recovers()
	if entries, err := os.ReadDir(n.staging()); len(entries) > 0 {
		w.t.Errorf("%d files or directories were made, %v", len(entries), err)
	}
}

// prefetchOfTwo: servers share a directory, at the same time and one after the other.
func prefetchOfTwo(w *aheadWorld) {
	shared := newDir(w.t)
	args := "--prefetch-dir " + shared
	servers := []*ahead{w.restored(pgtest.RecoverySignal, "", args), w.restored(pgtest.RecoverySignal, w.store.URL(aheadPrefix), args)}
	for _, n := range servers {
		n.launch()
	}
	for _, n := range servers {
		n.recovers()
	}
	for _, n := range servers {
		n.Stop(pgtest.Fast)
	}
	if pgtest.Long() {
		prefetchOfStranger(w, shared, servers[0])
	}
	leavesNothing(w.t, shared)
}

// prefetchOfStranger: the same directory, the same path of the data, another cluster.
func prefetchOfStranger(w *aheadWorld, shared string, last *ahead) {
	stranger := pgtest.New(w.t, pgtest.Options{
		Major: w.p.Major, WALSegmentSize: 1 << 20, Fresh: true,
		Settings: map[string]string{"wal_keep_size": "1GB", "max_wal_size": "2GB", "autovacuum": "off"},
	})
	stranger.Start()
	stranger.Exec("create table mark(name text primary key)")
	theirs := newWAL(w.t, stranger)
	first := walFile(stranger)
	backup := stranger.BaseBackup(w.t, "").Dir
	fill(stranger, 8)
	mark(stranger, "stranger")
	rows := rowsOf(stranger)
	theirs.put(stranger, theirs.segments(first, stranger.SwitchWAL())...)

	n := stranger.Restore(w.t, backup, pgtest.RecoverySignal, theirs.settings("--prefetch-dir "+shared))
	if err := errors.Join(os.RemoveAll(last.DataDir), os.Rename(n.DataDir, last.DataDir)); err != nil {
		w.t.Fatal(err)
	}
	n.DataDir = last.DataDir
	n.Start()
	n.WaitFor("select pg_is_in_recovery()", "f", patience)
	if got := rowsOf(n); got != rows {
		w.t.Errorf("rows %s, want %s", got, rows)
	}
	checkHeapAndIndexes(w.t, n)
	n.Stop(pgtest.Fast)
}

// prefetchOfOthers: into a directory that is another user's, or that others can
// write to, nothing is fetched, and nothing is taken from there.
func prefetchOfOthers(w *aheadWorld) {
	open := newDir(w.t)
	if err := os.Chmod(open, 0o777); err != nil {
		w.t.Fatal(err)
	}
	dirs := []string{open}
	if pgtest.Long() {
		dirs = append(dirs, "/usr")
	}
	for _, dir := range dirs {
		n := w.restored(pgtest.RecoverySignal, "", "--prefetch-dir "+dir)
		release := n.hold(w.names[5])
		n.launch()
		n.asked(w.names[5])
		if pids := pgtest.Helpers(dir); len(pids) > 0 {
			w.t.Errorf("helpers: %v", pids)
		}
		release()
		n.recovers()
		n.Destroy()
	}
	if entries := listed(w.t, open); entries != "" {
		w.t.Errorf("in the open directory: %s", entries)
	}
}

// prefetchAnew: a data directory goes while files for it are fetched ahead, and
// another one comes under the same path.
func prefetchAnew(w *aheadWorld) {
	one := w.restored(pgtest.RecoverySignal, w.slow(20*time.Millisecond), "")
	release := one.hold(w.names[10])
	one.launch()
	one.asked(w.names[10])
	one.helper()
	one.Kill9()
	release()
	if err := os.RemoveAll(one.DataDir); err != nil {
		w.t.Fatal(err)
	}
	two := w.restored(pgtest.RecoverySignal, w.slow(20*time.Millisecond), "")
	if err := os.Rename(two.DataDir, one.DataDir); err != nil {
		w.t.Fatal(err)
	}
	two.DataDir = one.DataDir
	two.launch()
	two.recovers()
	two.Stop(pgtest.Fast)
	two.leavesNothing()
}

// prefetchKilledServer: a server that is killed leaves nobody behind.
func prefetchKilledServer(w *aheadWorld) {
	n := w.restored(pgtest.RecoverySignal, w.slow(20*time.Millisecond), "")
	release := n.hold(w.names[10])
	n.launch()
	n.asked(w.names[10])
	n.helper()
	n.Kill9()
	n.leavesNothing()
	release()
	n.launch()
	n.recovers()
}

// prefetchIdle: nobody stays who has nothing to do, be it in the middle of a recovery or
// at its end, on a standby that asks again and again.
func prefetchIdle(w *aheadWorld) {
	n := w.restored(pgtest.StandbySignal, w.slow(10*time.Millisecond), "")
	asked := w.names[10]
	release := n.hold(asked)
	n.launch()
	n.asked(asked)
	n.helper()
	n.leavesNothing()
	release()
	n.helper()
	n.answered(w.names[len(w.names)-1])
	n.leavesNothing()
	for from := len(n.record()); len(n.record()) < from+100; time.Sleep(50 * time.Millisecond) {
		if pids := pgtest.Helpers(n.staging()); len(pids) > 0 {
			w.t.Fatalf("helpers at the end of the archive: %v", pids)
		}
	}
	n.answersAreRight()
	n.Promote() // a call that it interrupts has no answer
	n.hasRows(w.rows)
}
