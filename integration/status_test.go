package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/walrecv/walrecv/internal/pgtest"
	"github.com/walrecv/walrecv/internal/status"
	"github.com/walrecv/walrecv/segment"
)

// failedOver is an archive of two servers, and what they said of it.
type failedOver struct {
	archive  string
	old, new *pgtest.Cluster
	start    segment.LSN // of the WAL that was asked for
	end      segment.LSN // of the last segment that was archived
	commits  [2][2]string
	points   map[string]segment.LSN
}

// TestStatusAgreesWithServers compares what status says of an archive with what
// the servers say of their WAL: once after a failover, and once with an object
// taken away.
func TestStatusAgreesWithServers(t *testing.T) {
	for _, major := range pgtest.Versions(t) {
		t.Run(fmt.Sprintf("pg%d", major), func(t *testing.T) {
			w := failOver(t, major)
			w.whole(t)
			w.withoutOne(t)
		})
	}
}

// failOver archives a primary, which goes on for a while without its standby,
// and then the standby.
func failOver(t *testing.T, major int) *failedOver {
	t.Helper()
	c := pgtest.New(t, pgtest.Options{Major: major, WALSegmentSize: 1 << 20, Settings: map[string]string{
		"track_commit_timestamp": "on", "autovacuum": "off", "checkpoint_timeout": "1h", "wal_keep_size": "2GB", "max_wal_size": "4GB",
	}})
	c.Start()
	w := &failedOver{archive: newArchive(t), old: c, points: map[string]segment.LSN{}}
	c.SwitchWAL()
	c.Exec("checkpoint") // a slot begins here, and so in a segment without commits
	w.start = segment.Size(c.SegmentSize).Floor(parseLSN(t, c.FlushLSN()))
	r := newReceiver(t, c, "--archive", w.archive)
	r.start()
	w.commits[0][0] = commit(c, "create table first()")
	w.new = c.Standby(t, map[string]string{"primary_slot_name": ""})
	fill(c, 3)
	w.point(t, c, "before")
	fill(c, 1)
	c.SwitchWAL()
	// Both stand in the segment of the fork, and so on both timelines. The commit
	// also flushes the restore point, for the standby.
	w.point(t, c, "copied")
	w.commits[1][0] = commit(c, "create table copied()")
	w.new.WaitFor(fmt.Sprintf("select pg_last_wal_replay_lsn() >= '%s'", c.FlushLSN()), "t", patience)
	disconnect(w.new)
	w.point(t, c, "left")
	w.commits[0][1] = commit(c, "create table left_behind()")
	w.archived(t, c)
	r.stop()
	c.Kill9()

	w.new.Promote()
	r = newReceiver(t, w.new, "--archive", w.archive, "-D", r.spool)
	r.start()
	fill(w.new, 2)
	w.point(t, w.new, "after")
	w.commits[1][1] = commit(w.new, "create table last()")
	w.end = w.archived(t, w.new)
	r.stop()
	return w
}

// serverTime is the form of the servers' times here, which are in UTC.
const serverTime = "2006-01-02 15:04:05.000000"

// commit executes something and returns when the server committed it.
func commit(c *pgtest.Cluster, sql string) string {
	c.Exec(sql)
	return c.Query(`select to_char(timestamp at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') from pg_last_committed_xact()`)
}

// point makes a restore point.
func (w *failedOver) point(t *testing.T, c *pgtest.Cluster, name string) {
	t.Helper()
	w.points[name] = parseLSN(t, c.Query("select pg_create_restore_point('"+name+"')"))
}

// archived ends the segment, waits until it is archived, and returns its end.
func (w *failedOver) archived(t *testing.T, c *pgtest.Cluster) segment.LSN {
	t.Helper()
	last := c.SwitchWAL()
	pgtest.Eventually(t, patience, func() bool { return exists(object(c, w.archive, last)) }, "%s does not get archived", last)
	name, err := segment.ParseName(last, segment.Size(c.SegmentSize))
	if err != nil {
		t.Fatal(err)
	}
	return name.End(segment.Size(c.SegmentSize))
}

// status runs the command, for programs and for people.
func (w *failedOver) status(t *testing.T) (report status.Report, text string) {
	t.Helper()
	code, stdout, stderr := pgtest.Run(t, pgtest.Build(t), "status", "--json", "--archive", w.archive)
	if code != 0 || stderr != "" {
		t.Fatalf("status --json ended with %d: %s", code, stderr)
	}
	if err := json.Unmarshal([]byte(stdout), &report); err != nil {
		t.Fatalf("%v: %s", err, stdout)
	}
	code, text, stderr = pgtest.Run(t, pgtest.Build(t), "status", "--archive", w.archive)
	if code != 0 || stderr != "" {
		t.Fatalf("status ended with %d: %s", code, stderr)
	}
	return report, text
}

// whole looks at the archive as it is.
func (w *failedOver) whole(t *testing.T) {
	t.Helper()
	r, text := w.status(t)
	t.Log("\n" + text)
	if r.SystemID != w.new.SystemID() || r.Major != w.new.Major || r.SegmentSize != w.new.SegmentSize || r.Timeline != 2 {
		t.Errorf("identity %+v", r)
	}
	fork := forkOf(t, w.new, 2)
	if len(r.Timelines) != 2 || r.Timelines[1].Parent != 1 || r.Timelines[1].Fork != fork {
		t.Fatalf("timelines %+v; timeline 2 begins at %s", r.Timelines, fork)
	}
	for i, l := range r.Timelines {
		if got := [2]string{l.FirstCommit.Format(serverTime), l.LastCommit.Format(serverTime)}; got != w.commits[i] {
			t.Errorf("commits on timeline %d %s; the server says %s", l.Timeline, got, w.commits[i])
		}
		objects, err := filepath.Glob(filepath.Join(w.archive, r.SystemID, "wal", fmt.Sprintf("%08X", l.Timeline), "????????????????????????.zst"))
		if err != nil || l.Segments.Total != len(objects) || len(l.Ranges) != 1 {
			t.Errorf("timeline %d: %+v of %d objects in %d ranges, %v", l.Timeline, l.Segments, len(objects), len(l.Ranges), err)
		}
	}
	if r.Window == nil || r.Window.Start != w.start || r.Window.End != w.end {
		t.Errorf("window %+v; want %s to %s", r.Window, w.start, w.end)
	}
	if len(r.Gaps)+len(r.Marks)+len(r.Problems) != 0 || r.Segments.Faulty+r.Segments.Unreadable != 0 {
		t.Errorf("gaps %v, marks %v, problems %v, segments %+v", r.Gaps, r.Marks, r.Problems, r.Segments)
	}
	w.restorePoints(t, r, "before 1 true", "copied 1 true", "left 1 false", "after 2 true")
}

// restorePoints compares name, timeline and whether recovery gets there with
// what is wanted, and the positions with the servers'.
func (w *failedOver) restorePoints(t *testing.T, r status.Report, want ...string) {
	t.Helper()
	var got []string
	for _, p := range r.RestorePoints {
		got = append(got, fmt.Sprintf("%s %d %v", p.Name, p.Timeline, p.InWindow))
		if p.LSN != w.points[p.Name] {
			t.Errorf("restore point %s at %s; the server says %s", p.Name, p.LSN, w.points[p.Name])
		}
		if p.Time.Before(r.Timelines[0].FirstCommit) || p.Time.After(r.Timelines[1].LastCommit) {
			t.Errorf("restore point %s of %s", p.Name, p.Time)
		}
	}
	if strings.Join(got, ", ") != strings.Join(want, ", ") {
		t.Errorf("restore points %q; want %q", got, want)
	}
}

// withoutOne takes the segment behind the first restore point's away.
func (w *failedOver) withoutOne(t *testing.T) {
	t.Helper()
	size := segment.Size(w.old.SegmentSize)
	lost := segment.Name{Timeline: 1, Number: size.Number(w.points["before"]) + 1}
	if err := os.Remove(object(w.new, w.archive, lost.Format(size))); err != nil {
		t.Fatal(err)
	}
	r, text := w.status(t)
	if len(r.Gaps) != 1 || r.Gaps[0].Start != lost.Start(size) || r.Gaps[0].End != lost.End(size) || r.Gaps[0].Accepted {
		t.Errorf("gaps %+v; want %s", r.Gaps, lost.Format(size))
	}
	if r.Window == nil || r.Window.Start != lost.End(size) || r.Window.End != w.end {
		t.Errorf("window %+v; want %s to %s", r.Window, lost.End(size), w.end)
	}
	w.restorePoints(t, r, "before 1 false", "copied 1 true", "left 1 false", "after 2 true")
	if !strings.Contains(text, "timeline 1 has a gap from "+lost.Start(size).String()) {
		t.Error(text)
	}
}
