package status_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/backup"
	"github.com/walrecv/walrecv/internal/status"
	"github.com/walrecv/walrecv/segment"
)

// backup puts a base backup that took half of a segment and ended with it; a good one,
// or one that was only begun.
func (w *world) backup(id string, timeline segment.TimelineID, number uint64, good bool) {
	w.t.Helper()
	b := backup.Backup{
		Start: backup.Start{
			ID: id, SystemID: worldSystem, Major: 15, Timeline: timeline, StartLSN: worldSize.Start(number) + 0x80000,
			Label: "nightly", Started: worldTime(number).Add(30 * time.Second), From: backup.FromPrimary,
		},
		EndLSN: worldSize.Start(number + 1), EndTimeline: timeline, Finished: worldTime(number + 1), ServerVersion: "15.20",
		Tablespaces: []backup.Tablespace{{Size: 1 << 20}},
		Objects:     []archive.Stored{{File: "base.000001.tar.zst", Size: 100, PlainSize: 1000}, {File: "backup_manifest.zst", Size: 10, PlainSize: 100}},
	}
	w.document(id, "start.json", b.Start)
	if good {
		w.document(id, "backup.json", b)
		for _, o := range b.Objects {
			w.set("backup/"+id+"/"+o.File, make([]byte, o.Size))
		}
	}
}

func (w *world) document(id, file string, content any) {
	w.t.Helper()
	data, err := json.Marshal(content)
	if err != nil {
		w.t.Fatal(err)
	}
	w.set("backup/"+id+"/"+file, append([]byte(`{"format":1,`), data[1:]...))
}

// TestBackups has base backups on both sides of a gap, on an abandoned branch, one that
// was not completed, and one that cannot be read.
func TestBackups(t *testing.T) {
	w := newWorld(t)
	w.segments(1, 5, 20)
	w.remove(segmentKey(1, 9))
	w.history(2, "1\t0/1080000\tno recovery target specified\n")
	w.segments(2, 16, 18)
	w.chunk(2, 19, 0, 0x100)
	// The first one is in front of all backups, the second one before a hole, the others
	// behind the fork.
	for number, timelines := range map[uint64][]segment.TimelineID{5: {1}, 8: {1}, 12: {1}, 17: {1, 2}} {
		for _, timeline := range timelines {
			point := fmt.Sprintf(`"restore_points":[{"name":"in %d on %d","lsn":%q,"time":"2026-01-02T03:04:05Z"}]`, number, timeline, worldSize.Start(number)+0x100)
			w.segment(timeline, number, soundSummary(number, point))
		}
	}
	w.backup("one", 1, 5, true)
	w.backup("two", 1, 12, true)
	w.backup("three", 1, 13, true)
	w.backup("without-wal", 1, 2, true)
	w.backup("begun", 2, 17, false)
	w.backup("headless", 2, 17, true)
	w.remove("backup/headless/base.000001.tar.zst")
	w.backup("unreadable", 2, 17, true)
	w.set("backup/unreadable/backup.json", []byte("{"))
	r := w.report()

	var states []string
	for _, b := range r.Backups {
		states = append(states, fmt.Sprint(b.ID, " ", b.State))
	}
	if got := strings.Join(states, ", "); got != "without-wal good, one good, two good, three good, begun running, headless damaged, unreadable damaged" {
		t.Error(got)
	}
	until := func(n uint64) time.Time { return worldTime(n).Add(59 * time.Second) }
	want := []status.Recoverable{
		{Timeline: 1, Start: 0x600000, End: 0x900000, StartTime: until(5), EndTime: until(8), TimedUntil: 0x900000, Backups: []string{"one"}},
		{Timeline: 1, Start: 0xD00000, End: 0x1500000, StartTime: until(12), EndTime: until(20), TimedUntil: 0x1500000, Backups: []string{"two", "three"}},
		{Timeline: 2, Start: 0x600000, End: 0x900000, StartTime: until(5), EndTime: until(8), TimedUntil: 0x900000, Backups: []string{"one"}},
		{Timeline: 2, Start: 0xD00000, End: 0x1300100, StartTime: until(12), EndTime: until(18), TimedUntil: 0x1300000, Backups: []string{"two", "three"}},
	}
	if fmt.Sprint(r.Recoverable) != fmt.Sprint(want) {
		t.Errorf("%v\nwant %v", r.Recoverable, want)
	}
	var points []string
	for _, p := range r.RestorePoints {
		points = append(points, fmt.Sprint(p.Name, " ", p.InWindow, " ", p.Recoverable))
	}
	wantPoints := "in 5 on 1 false false, in 8 on 1 false true, in 12 on 1 true false, in 17 on 1 false true, in 17 on 2 true true"
	if got := strings.Join(points, ", "); got != wantPoints {
		t.Errorf("%s\nwant %s", got, wantPoints)
	}
	var problems []string
	for _, p := range r.Problems {
		problems = append(problems, p.What)
	}
	for _, what := range []string{"the base backup unreadable is damaged", "the base backup headless is damaged: 7411122233344455566/backup/headless/base.000001.tar.zst was put, and is not in the archive", "the base backup without-wal cannot be restored"} {
		if !strings.Contains(strings.Join(problems, "\n"), what) {
			t.Errorf("%q is missing in %q", what, problems)
		}
	}
	shown := text(t, r)
	for _, line := range []string{
		"recoverable 0/D00000 to 0/1300100 on timeline 2, with 2 base backups",
		"in time 2026-01-02 03:12:59 UTC to 2026-01-02 03:18:59 UTC, and commits in the tail from 0/1300000 to 0/1300100",
		"1 0/600000 0/900000 2026-01-02 03:05:59 UTC 2026-01-02 03:08:59 UTC 1",
		"in 12 on 1 0/C00100 2026-01-02 03:04:05 UTC 1 with a base backup from before it",
		"three good 1 0/D80000 0/E00000 2026-01-02 03:14:00 UTC nightly",
		"begun running 2 0/1180000 - - nightly",
	} {
		if !strings.Contains(strings.Join(strings.Fields(shown), " "), line) {
			t.Errorf("%q is missing in\n%s", line, shown)
		}
	}
}

func TestNoBackups(t *testing.T) {
	w := newWorld(t)
	w.segments(1, 5, 6)
	r := w.report()
	data, err := json.Marshal(r)
	if err != nil || !strings.Contains(string(data), `"recoverable":[],"backups":[]`) {
		t.Errorf("%s, %v", data, err)
	}
	if !strings.Contains(text(t, r), "0/500000 to 0/700000, with a base backup from between") {
		t.Error(text(t, r))
	}
}
