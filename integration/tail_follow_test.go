package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/pgtest"
	"github.com/walrecv/walrecv/internal/s3test"
	"github.com/walrecv/walrecv/segment"
)

// beats commits numbered rows on a server, some a second, and watches when each of
// them is seen on another one.
type beats struct {
	interval time.Duration

	mu        sync.Mutex
	committed []time.Time // of row 0, 1, ...
	seen      []time.Time
}

const beatTable = "create table beat(n int primary key)"

// run beats until ctx ends.
func (b *beats) run(ctx context.Context, on, watched *pgtest.Cluster) {
	var both sync.WaitGroup
	both.Go(func() {
		for n := 0; ctx.Err() == nil; n++ {
			if on.TryExec(ctx, fmt.Sprintf("insert into beat values (%d)", n)) != nil {
				return
			}
			b.mu.Lock()
			b.committed = append(b.committed, time.Now())
			b.mu.Unlock()
			pauseFor(ctx, b.interval)
		}
	})
	both.Go(func() {
		for ctx.Err() == nil {
			if rows, err := watched.TryQuery(ctx, "select coalesce(max(n), -1) from beat"); err == nil {
				b.see(rows[0][0])
			}
			pauseFor(ctx, b.interval/2)
		}
	})
	both.Wait()
}

func pauseFor(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// see notes that the rows up to a number are there.
func (b *beats) see(highest string) {
	n, err := strconv.Atoi(highest)
	if err != nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.seen) <= n && len(b.seen) < len(b.committed) {
		b.seen = append(b.seen, time.Now())
	}
}

// lags are the times from commit to sight, ascending, of the rows from one on up to
// but not to another; to -1 all that were seen.
func (b *beats) lags(from, to int) (lags []time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if to < 0 {
		to = len(b.seen)
	}
	for i := from; i < min(to, len(b.seen)); i++ {
		lags = append(lags, b.seen[i].Sub(b.committed[i]))
	}
	slices.Sort(lags)
	return lags
}

func (b *beats) count() (committed, seen int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.committed), len(b.seen)
}

// TestFollowingTheArchiveAlone: a standby without slot and connection, fed by
// restore_command from S3 alone, is close behind, also after a restart, and can be
// promoted.
func TestFollowingTheArchiveAlone(t *testing.T) {
	const most = 2500 * time.Millisecond
	span := 3 * time.Second
	if pgtest.Long() {
		span = time.Minute
	}
	s := s3test.Start(t)
	p := pgtest.New(t, pgtest.Options{Major: pgtest.Version(t), Settings: map[string]string{"max_wal_size": "1GB"}})
	p.Start()
	p.Exec(beatTable)
	p.Exec("create table acked(row text primary key, filler text)")
	r := newReceiver(t, p, "--archive", s.URL("wal"))
	r.env = s.Environ()
	r.start()
	backup := p.BaseBackup(t, "").Dir
	kept := filepath.Join(pgtest.TempDir(t), "kept")
	if err := os.Mkdir(kept, 0o700); err != nil {
		t.Fatal(err)
	}
	pgtest.Give(t, kept)
	standby := p.Restore(t, backup, pgtest.StandbySignal, map[string]string{
		"restore_command":             s3Command(r.bin, s, s.URL("wal"), "--prefetch-dir "+kept),
		"wal_retrieve_retry_interval": "500ms",
	})
	standby.Start()

	load := startClientsOn(t, p.ConnString("postgres"), 2, 5*time.Millisecond)
	b := &beats{interval: 100 * time.Millisecond}
	ctx, cancel := context.WithCancel(t.Context())
	var beating sync.WaitGroup
	beating.Go(func() { b.run(ctx, p, standby) })
	pgtest.Eventually(t, patience, func() bool { _, seen := b.count(); return seen > 0 }, "nothing is seen on the standby")
	from, _ := b.count()
	pauseFor(t.Context(), span)
	to, _ := b.count()
	pgtest.Eventually(t, patience, func() bool { _, seen := b.count(); return seen >= to }, "the standby does not come on")
	judgeLags(t, b.lags(from, to), most)

	standby.Restart(pgtest.Fast)
	from, _ = b.count()
	pgtest.Eventually(t, patience, func() bool { _, seen := b.count(); return seen > from+10 }, "the standby does not go on after a restart")

	load.stop()
	cancel()
	beating.Wait()
	// The last row may still be committed, although nobody waits for it.
	var rows string
	pgtest.Eventually(t, patience, func() bool {
		rows = p.Query("select count(*) from beat")
		return standby.Query("select count(*) from beat") == rows
	}, "the standby does not get all rows")
	end := p.FlushLSN()
	r.flushed()
	r.stop()
	proveTail(t, s, end)
	p.Stop(pgtest.Immediate)
	standby.Promote()
	if got := standby.Query("select count(*) from beat"); got != rows {
		t.Errorf("%s rows, %s were committed", got, rows)
	}
	if lost := missing(standby, load.rows()); len(lost) > 0 {
		t.Errorf("%d rows are lost", len(lost))
	}
	checkHeapAndIndexes(t, standby)
	if log := standby.Log(); strings.Contains(log, "level=WARN") || strings.Contains(log, "level=ERROR") {
		t.Errorf("walrecv has complained:\n%s", log)
	}
	if files, err := filepath.Glob(filepath.Join(kept, "*.tail")); err != nil || len(files) > 1 {
		t.Errorf("it kept %v, %v", files, err)
	}
}

// proveTail has an archive proven whose receiver has ended in order: it goes on to at
// least a position.
func proveTail(t *testing.T, s *s3test.Server, to string) {
	t.Helper()
	code, stdout, stderr := withStore(t, s.Environ(), "verify", "--deep", "--archive", s.URL("wal"))
	if code != 0 || !strings.Contains(stdout, "of the tail") {
		t.Errorf("verify: exit %d: %s%s", code, stdout, stderr)
	}
	if window, tail := archiveEnds(t, s.Environ(), s.URL("wal"), to); window != tail {
		t.Errorf("the window ends at %s, the tail at %s", window, tail)
	}
}

// archiveEnds has an archive tell where its window and its tail end, the latter not
// before a position.
func archiveEnds(t *testing.T, env []string, url, to string) (window, tail segment.LSN) {
	t.Helper()
	code, stdout, stderr := withStore(t, env, "status", "--json", "--archive", url)
	var report struct {
		Window struct {
			End segment.LSN `json:"end_lsn"`
		}
		Timelines []struct {
			Tail struct {
				End segment.LSN `json:"end_lsn"`
			}
		}
	}
	if err := json.Unmarshal([]byte(stdout), &report); err != nil || code != 0 {
		t.Fatalf("status: exit %d: %s%s: %v", code, stdout, stderr, err)
	}
	want, err := segment.ParseLSN(to)
	if err != nil || len(report.Timelines) != 1 || report.Timelines[0].Tail.End < want {
		t.Fatalf("%+v, the server was at %s: %v", report, to, err)
	}
	return report.Window.End, report.Timelines[0].Tail.End
}

// judgeLags fails if rows were seen too late. On a machine that does much else some
// may be.
func judgeLags(t *testing.T, lags []time.Duration, most time.Duration) {
	t.Helper()
	if len(lags) == 0 {
		t.Fatal("nothing was measured")
	}
	at := func(percent int) time.Duration { return lags[(len(lags)-1)*percent/100] }
	t.Logf("%d rows were seen after %s (median), %s (90 %%), %s (all)", len(lags), at(50), at(90), at(100))
	judged := at(50)
	if pgtest.Long() {
		judged = at(100)
	}
	if judged > pgtest.Allow(most) {
		t.Errorf("they were seen after %s, want %s", judged, pgtest.Allow(most))
	}
}

// TestShorterChunksDoNotReplaceLongerWAL: a standby that has streamed further than the
// archived tail is restarted with its primary gone.
func TestShorterChunksDoNotReplaceLongerWAL(t *testing.T) {
	p := newPrimary(t, pgtest.Version(t))
	archive := newArchive(t)
	r := newReceiver(t, p, "--archive", archive).start()
	s := p.Standby(t, with(map[string]string{}, "restore_command", restoreCommand(r.bin, "--archive "+archive), "wal_retrieve_retry_interval", "200ms"))
	p.SwitchWAL()
	mark(p, "archived")
	begun := walFile(p)
	tail := filepath.Join(archive, p.SystemID(), "tail", begun)
	pgtest.Eventually(t, patience, func() bool {
		chunks, err := os.ReadDir(tail)
		return err == nil && len(chunks) > 0
	}, "nothing of %s gets archived", begun)
	r.Kill()
	p.Exec("insert into mark select 'streamed ' || i from generate_series(1, 1000) i")
	if got := walFile(p); got != begun {
		t.Fatalf("the rows went on to %s", got)
	}
	s.WaitFor("select count(*) from mark", "1001", patience)
	p.Stop(pgtest.Immediate)
	s.Stop(pgtest.Immediate)
	s.Set(map[string]string{"primary_conninfo": ""})
	s.Start()
	s.WaitFor("select count(*) from mark", "1001", patience)
	s.Promote()
	if got := s.Query("select count(*) from mark"); got != "1001" {
		t.Errorf("%s rows, 1001 were streamed", got)
	}
	checkHeapAndIndexes(t, s)
}
