package status_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/crypt"
	"github.com/walrecv/walrecv/internal/status"
	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage"
)

// history2 leaves timeline 1 in the middle of segment 5, history3 timeline 2 on
// the border behind segment 8.
const (
	history2 = "1\t0/580000\tno recovery target specified\n"
	history3 = history2 + "\n2\t0/900000\tno recovery target specified\n"
)

// afterFailovers is a sound archive with three timelines, of which the first went
// on behind its fork.
func afterFailovers(t testing.TB) *world {
	w := newWorld(t)
	w.segments(1, 2, 6)
	w.history(2, history2)
	w.segments(2, 5, 8)
	w.history(3, history3)
	w.segments(3, 9, 11)
	return w
}

func TestSoundArchive(t *testing.T) {
	w := afterFailovers(t)
	key, content := indexObject(t, 3, 9, 11)
	w.set(key, content)
	for _, digest := range []string{"01234567", "89abcdef"} {
		w.set("wal/00000001/"+segmentName(1, 5)+"."+digest+".partial.zst", nil)
	}
	r := w.report()
	if len(r.Problems) != 0 || len(r.Gaps) != 0 || len(r.Marks) != 0 {
		t.Errorf("problems %v, gaps %v, marks %v", r.Problems, r.Gaps, r.Marks)
	}
	if r.SystemID != "7411122233344455566" || r.Major != 15 || r.SegmentSize != 1<<20 || r.Timeline != 3 || r.Archive != "/srv/wal" {
		t.Errorf("identity %+v", r)
	}
	want := &status.Window{
		Timeline: 3, Start: 0x200000, End: 0xC00000,
		FirstCommit: worldTime(2), LastCommit: worldTime(11).Add(59 * time.Second),
	}
	if !reflect.DeepEqual(r.Window, want) {
		t.Errorf("window %+v; want %+v", r.Window, want)
	}
	if want := (status.Counts{Total: 12, Verified: 12}); r.Segments != want {
		t.Errorf("segments %+v; want %+v", r.Segments, want)
	}
	for i, want := range []status.Timeline{
		{
			Timeline: 1, History: "none", Partials: 2, Segments: status.Counts{Total: 5, Verified: 5},
			Ranges:      []status.Range{{"000000010000000000000002", "000000010000000000000006", 0x200000, 0x700000, 5}},
			FirstCommit: worldTime(2), LastCommit: worldTime(6).Add(59 * time.Second),
		},
		{
			Timeline: 2, Parent: 1, Fork: 0x580000, History: "present", Segments: status.Counts{Total: 4, Verified: 4},
			Ranges:      []status.Range{{"000000020000000000000005", "000000020000000000000008", 0x500000, 0x900000, 4}},
			FirstCommit: worldTime(5), LastCommit: worldTime(8).Add(59 * time.Second),
		},
		{
			Timeline: 3, Parent: 2, Fork: 0x900000, History: "present", Segments: status.Counts{Total: 3, Verified: 3},
			Ranges:      []status.Range{{"000000030000000000000009", "00000003000000000000000B", 0x900000, 0xC00000, 3}},
			FirstCommit: worldTime(9), LastCommit: worldTime(11).Add(59 * time.Second),
		},
	} {
		if !reflect.DeepEqual(r.Timelines[i], want) {
			t.Errorf("timeline %+v; want %+v", r.Timelines[i], want)
		}
	}
}

// TestWindowEndsAtWhatIsWrong breaks a sound archive in one place, and looks where
// the window begins or ends then.
func TestWindowEndsAtWhatIsWrong(t *testing.T) {
	fault := `"faults":1,"first_fault":{"lsn":"0/780010","sound_until_lsn":"0/780000","reason":"wrong checksum"}`
	for what, c := range map[string]struct {
		wrong    func(*world)
		from, to segment.LSN
		says     string // of one of the problems
	}{
		"hole":                     {func(w *world) { w.remove(segmentKey(2, 7)) }, 0x800000, 0xC00000, "timeline 2 has a gap from 0/700000 to 0/800000: the segment 000000020000000000000007"},
		"fork's segment":           {func(w *world) { w.remove(segmentKey(2, 5)) }, 0x600000, 0xC00000, "timeline 2 has a gap from 0/500000 to 0/600000"},
		"abandoned":                {func(w *world) { w.remove(segmentKey(1, 5)) }, 0x200000, 0xC00000, "timeline 1 has a gap"},
		"no history":               {func(w *world) { w.remove("wal/00000003.history") }, 0x900000, 0xC00000, "timeline 3: its history file is missing"},
		"damaged history":          {func(w *world) { w.history(3, "2\tnowhere\n") }, 0x900000, 0xC00000, "00000003.history is damaged"},
		"contradicting":            {func(w *world) { w.history(3, "1\t0/590000\n2\t0/900000\n") }, 0x900000, 0xC00000, "contradicts that of timeline 2"},
		"an ancestor's":            {func(w *world) { w.remove("wal/00000002.history") }, 0x200000, 0xC00000, "timeline 2: its history file is missing"},
		"faulty":                   {func(w *world) { w.segment(2, 7, soundSummary(7, fault)) }, 0x800000, 0xC00000, "first 000000020000000000000007 at 0/780010: wrong checksum"},
		"unreadable":               {func(w *world) { w.set(segmentKey(2, 7), []byte("foreign")) }, 0x800000, 0xC00000, "does not end with a digest"},
		"unreadable, newest":       {func(w *world) { w.set(segmentKey(3, 11), nil) }, 0x200000, 0xB00000, "1 segment cannot be read"},
		"marked":                   {func(w *world) { w.mark(mark(2, 7)); w.segment(2, 7, soundSummary(7, notWhole)) }, 0x800000, 0xC00000, "timeline 2 is damaged at 0/780010, in 000000020000000000000007"},
		"marked where it was left": {func(w *world) { w.mark(mark(1, 6)); w.segment(1, 6, soundSummary(6, notWhole)) }, 0x200000, 0xC00000, "timeline 1 is damaged"},
		"a damaged gap":            {func(w *world) { w.set("gaps/00000002.0000000000700000-0000000000800000.gap", []byte("{")) }, 0x200000, 0xC00000, ".gap is damaged"},
		"a damaged mark":           {func(w *world) { w.set("marks/000000020000000000000007.0000000000780010.mark", []byte("{")) }, 0x200000, 0xC00000, ".mark is damaged"},
	} {
		w := afterFailovers(t)
		c.wrong(w)
		r := w.report()
		if r.Window == nil || r.Window.Start != c.from || r.Window.End != c.to {
			t.Fatalf("%s: window %+v; want %s to %s", what, r.Window, c.from, c.to)
		}
		first, last := worldTime(worldSize.Number(c.from)), worldTime(worldSize.Number(c.to)-1).Add(59*time.Second)
		if !r.Window.FirstCommit.Equal(first) || !r.Window.LastCommit.Equal(last) {
			t.Errorf("%s: commits in the window from %s to %s; want %s to %s", what, r.Window.FirstCommit, r.Window.LastCommit, first, last)
		}
		if !strings.Contains(fmt.Sprint(r.Problems), c.says) {
			t.Errorf("%s: problems %q; want %q", what, r.Problems, c.says)
		}
		for _, p := range r.Problems {
			if p.What == "" || p.Do == "" {
				t.Errorf("%s: problem %+v", what, p)
			}
		}
		if text := text(t, r); !strings.Contains(text, c.says) {
			t.Errorf("%s: text without %q:\n%s", what, c.says, text)
		}
	}
}

// notWhole is of a segment that was not read from its first record to its last.
const notWhole = `"unchecked_bytes":100`

func mark(timeline segment.TimelineID, number uint64) segment.Mark {
	start := worldSize.Start(number)
	return segment.Mark{
		Name: segment.Name{Timeline: timeline, Number: number},
		LSN:  start + 0x80010, End: start + 0x80000, Reason: "a bit flipped", Found: worldTime(number),
	}
}

func text(t testing.TB, r *status.Report) string {
	t.Helper()
	var b strings.Builder
	if err := r.Text(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestGaps(t *testing.T) {
	w := newWorld(t)
	w.segments(1, 2, 3)
	w.segments(1, 7, 8)
	w.segments(1, 10, 11)
	accepted := segment.Gap{Timeline: 1, From: 0x400000, To: 0x700000, Reason: "WAL removed", Found: worldTime(9)}
	w.gap(accepted)
	r := w.report()
	want := []status.Gap{
		{1, status.Range{"000000010000000000000004", "000000010000000000000006", 0x400000, 0x700000, 3}, true, false, "WAL removed", worldTime(9)},
		{Timeline: 1, Range: status.Range{"000000010000000000000009", "000000010000000000000009", 0x900000, 0xA00000, 1}},
	}
	if !reflect.DeepEqual(r.Gaps, want) {
		t.Errorf("gaps %+v; want %+v", r.Gaps, want)
	}
	if len(r.Problems) != 2 || !strings.Contains(r.Problems[0].What, "accepted (WAL removed)") {
		t.Errorf("problems %v", r.Problems)
	}
	w.segments(1, 4, 6)
	if r := w.report(); len(r.Gaps) != 1 || r.Gaps[0].Accepted {
		t.Errorf("gaps %+v, and one was closed", r.Gaps)
	}
}

func TestCounts(t *testing.T) {
	w := newWorld(t)
	w.segment(1, 2, soundSummary(2))
	w.segment(1, 3, soundSummary(3, `"unchecked_bytes":100`))
	w.segment(1, 4, "")
	w.segment(1, 5, soundSummary(5, `"faults":2`))
	w.set(segmentKey(1, 6), []byte("short"))
	r := w.report()
	want := status.Counts{Total: 5, Verified: 1, Unverified: 2, Faulty: 1, Unreadable: 1}
	if r.Segments != want || r.Timelines[0].Segments != want {
		t.Errorf("segments %+v; want %+v", r.Segments, want)
	}
	if got := text(t, r); !strings.Contains(got, "5 (1 verified, 2 not verified, 1 not sound, 1 unreadable)") {
		t.Error(got)
	}
}

// TestRestorePoints has a copy of a restore point in the first segment of the
// next timeline, and one that was left behind.
func TestRestorePoints(t *testing.T) {
	point := func(lsn segment.LSN, name string) string {
		return fmt.Sprintf(`{"name":%q,"lsn":%q,"time":"2026-01-02T03:04:05.000006Z"}`, name, lsn)
	}
	points := func(list ...string) string { return `"restore_points":[` + strings.Join(list, ",") + `]` }
	w := afterFailovers(t)
	w.segment(1, 5, soundSummary(5, points(point(0x510000, "before"), point(0x580000, "at the fork"), point(0x590000, "left"))))
	w.segment(2, 5, soundSummary(5, points(point(0x510000, "before"), point(0x580000, "at the fork"), point(0x590000, "after")), `"more_restore_points":3`))
	r := w.report()
	var got []string
	for _, p := range r.RestorePoints {
		got = append(got, fmt.Sprintf("%s %s %d %v", p.Name, p.LSN, p.Timeline, p.InWindow))
		if !p.Time.Equal(time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)) {
			t.Errorf("%s is of %s", p.Name, p.Time)
		}
	}
	want := []string{"before 0/510000 1 true", "at the fork 0/580000 1 true", "left 0/590000 1 false", "after 0/590000 2 true"}
	if !reflect.DeepEqual(got, want) || r.MoreRestorePoints != 3 {
		t.Errorf("restore points %q and %d more; want %q and 3", got, r.MoreRestorePoints, want)
	}
	w.segment(2, 5, soundSummary(5, notWhole, points(point(0x590000, "after"))))
	w.mark(mark(2, 5)) // now the window begins behind it
	for _, p := range w.report().RestorePoints {
		if p.InWindow {
			t.Errorf("%s is in the window", p.Name)
		}
	}
}

// TestNothingToShow is about archives in which there is no WAL yet.
func TestNothingToShow(t *testing.T) {
	w := newWorld(t)
	r := w.report()
	if r.Window != nil || r.Segments.Total != 0 || len(r.Problems) != 1 {
		t.Errorf("%+v", r)
	}
	data, err := json.Marshal(r)
	if err != nil || strings.Contains(string(data), "null") {
		t.Errorf("%s, %v", data, err)
	}
	if got := text(t, r); !strings.Contains(got, "nothing yet") || !strings.Contains(got, "no complete segment") {
		t.Error(got)
	}
	w.history(2, history2)
	if r := w.report(); r.Timeline != 2 || r.Window != nil {
		t.Errorf("with a history only: %+v", r)
	}
}

// TestTextIsTame has names that would write elsewhere on a terminal.
func TestTextIsTame(t *testing.T) {
	w := newWorld(t)
	w.segment(1, 2, soundSummary(2, `"restore_points":[{"name":"\u001b[2Jclear\ttab\nline","lsn":"0/210000"}]`))
	w.segment(1, 5, soundSummary(5))
	w.gap(segment.Gap{Timeline: 1, From: 0x300000, To: 0x500000, Reason: "\x1b]0;title\a"})
	got := text(t, w.report())
	if strings.ContainsAny(got, "\x1b\a\t") || !strings.Contains(got, `"\x1b[2Jclear\ttab\nline"`) {
		t.Errorf("%q", got)
	}
}

// TestLongTablesAreCut has more of everything than people read.
func TestLongTablesAreCut(t *testing.T) {
	w := newWorld(t)
	for n := uint64(1); n <= 61; n += 2 {
		w.segment(1, n, soundSummary(n, fmt.Sprintf(`"restore_points":[{"name":"p%d","lsn":%q}]`, n, worldSize.Start(n)+0x1000)))
		w.mark(mark(1, n))
	}
	r := w.report()
	got := text(t, r)
	if n := strings.Count(got, "more; --json lists all"); n != 5 {
		t.Errorf("%d tables are cut", n)
	}
	if !strings.Contains(got, "p61 ") || strings.Contains(got, "p1 ") {
		t.Error("not the newest restore points are shown")
	}
	if len(r.Gaps) != 30 || len(r.RestorePoints) != 31 || len(r.Marks) != 31 || len(r.Timelines[0].Ranges) != 31 {
		t.Error("the report itself is cut")
	}
}

// failing fails to list, and to open, what begins with a prefix.
type failing struct {
	storage.Store
	list, open string // empty: none
}

var errDown = errors.New("the store is down")

func (f failing) List(ctx context.Context, prefix string, fn func(storage.Info) error) error {
	if f.list != "" && strings.HasPrefix(prefix, f.list) {
		return errDown
	}
	return f.Store.List(ctx, prefix, fn)
}

func (f failing) Open(ctx context.Context, key string) (io.ReadCloser, storage.Info, error) {
	if f.open != "" && strings.HasPrefix(key, f.open) && !strings.HasSuffix(key, ".json") {
		return nil, storage.Info{}, errDown
	}
	return f.Store.Open(ctx, key)
}

// TestStoreIsDown: nothing can be listed, or no segment can be read.
func TestStoreIsDown(t *testing.T) {
	w := afterFailovers(t)
	stores := map[string]storage.Store{"no segment": failing{Store: w.store, open: worldKey("wal")}}
	for _, dir := range []string{"wal", "gaps", "marks"} {
		stores["no list of "+dir] = failing{Store: w.store, list: worldKey(dir)}
	}
	many := newWorld(t)
	many.segments(1, 1, 300)
	stores["many segments"] = failing{Store: many.store, open: worldKey("wal/00000001/0000000100000000000000")}
	for what, store := range stores {
		a, err := archive.Open(t.Context(), store, worldSystem, archive.Keys{})
		if err != nil {
			t.Fatal(err)
		}
		if r, err := status.Gather(t.Context(), a, "", worldNow, noPause); !errors.Is(err, errDown) {
			t.Errorf("%s: %+v, %v", what, r, err)
		}
	}
	// A history file is on a bad sector.
	r := gather(t, failing{Store: w.store, open: worldKey("wal/00000003.history")}, archive.Keys{})
	if r.Timelines[2].History != "unusable" || r.Window.Start != 0x900000 || !strings.Contains(text(t, r), "timeline 3: "+errDown.Error()) {
		t.Errorf("%+v, %+v, %v", r.Timelines[2], r.Window, r.Problems)
	}
	// One sector is bad.
	r = gather(t, failing{Store: w.store, open: worldKey(segmentKey(2, 7))}, archive.Keys{})
	if r.Segments.Unreadable != 1 || r.Window.Start != 0x800000 || !strings.Contains(text(t, r), errDown.Error()) {
		t.Errorf("%+v, %+v", r.Segments, r.Window)
	}
}

// TestIndexIsACache: without it the same is found out, and people are told.
func TestIndexIsACache(t *testing.T) {
	w := afterFailovers(t)
	want := w.report()
	key, content := indexObject(t, 3, 9, 11)
	w.set(key, content[:len(content)/2])
	for what, r := range map[string]*status.Report{
		"down": gather(t, failing{Store: w.store, list: worldKey("index")}, archive.Keys{}), "is damaged": w.report(),
	} {
		if len(r.Problems) != 1 || !strings.Contains(r.Problems[0].What, what) {
			t.Errorf("%s: %+v", what, r.Problems)
		}
		if r.Problems = want.Problems; !reflect.DeepEqual(r.Window, want.Window) || r.Segments != want.Segments {
			t.Errorf("%s: %+v", what, r)
		}
	}
}

// What is encrypted for somebody else is there, and a recovery passes it.
func TestEncryptedSegments(t *testing.T) {
	w := newWorld(t)
	w.segments(1, 1, 5)
	for _, n := range []uint64{3, 5} {
		w.remove(segmentKey(1, n))
		w.set(segmentKey(1, n)+".age", []byte("age-encryption.org/v1\n"))
	}
	r := w.report()
	if r.Segments.Encrypted != 2 || r.Segments.Unreadable != 0 || r.Segments.Total != 5 || len(r.Gaps) > 0 {
		t.Errorf("%+v, %+v", r.Segments, r.Gaps)
	}
	if r.Window == nil || r.Window.End != 0x600000 {
		t.Errorf("%+v", r.Window)
	}
	if got := text(t, r); !strings.Contains(got, "2 encrypted") || !strings.Contains(got, "--decrypt-with") {
		t.Error(got)
	}

	// A receiver cannot read what it encrypts: that is as it should be.
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	if w.keys.Encryption, err = crypt.NewEncryption([]age.Recipient{id.Recipient()}, nil); err != nil {
		t.Fatal(err)
	}
	if r = w.report(); r.Segments.Encrypted != 2 || len(r.Problems) != 0 {
		t.Errorf("%+v, %+v", r.Segments, r.Problems)
	}
}
