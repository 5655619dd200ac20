package recovery_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/backup"
	"github.com/walrecv/walrecv/internal/crypt"
	"github.com/walrecv/walrecv/internal/recovery"
	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage"
	"github.com/walrecv/walrecv/storage/storagetest"
)

// story is an archive with two base backups: a commit every ten seconds, a segment
// every minute, a restore point "evening" in each, and a tail.
func story(t *testing.T) (*world, *wal) {
	w, log := newWorld(t), newWAL(mib.Start(firstNumber))
	for n := uint64(firstNumber); n < firstNumber+5; n++ {
		minute := float64(n-firstNumber) * 60
		if n == firstNumber || n == firstNumber+3 {
			log.commit(uint32(100*n), clock(minute+1))
			start := log.entries[len(log.entries)-1].at
			log.filler(1000)
			w.backup(fmt.Sprint("backup-", n), log, start, log.pos(), clock(minute+2))
		}
		for i := 1; i < 6; i++ {
			log.commit(uint32(100*n)+uint32(i), clock(minute+float64(i)*10))
		}
		log.point("evening", clock(minute+55))
		if n < firstNumber+4 {
			log.fill()
		}
	}
	w.segments(log, firstNumber, firstNumber+3)
	w.tail(log, log.pos())
	return w, log
}

func (w *world) choose(target recovery.Target, id string) (*recovery.Plan, error) {
	w.t.Helper()
	return w.survey().Choose(w.t.Context(), w.backups, target, id)
}

func TestChooseBackup(t *testing.T) {
	w, log := story(t)
	last := clock(4*60 + 50)
	for _, tt := range []struct {
		target recovery.Target
		id     string
		want   string // the backup, or how the error begins
	}{
		{recovery.Target{}, "", "backup-8"},
		{recovery.Target{}, "latest", "backup-8"},
		{recovery.Target{}, "backup-5", "backup-5"},
		{recovery.Target{}, "backup-6", "there is no base backup backup-6"},
		{recovery.Target{Kind: recovery.Immediate}, "backup-5", "backup-5"},
		{recovery.Target{Kind: recovery.Time, Time: clock(3 * 60)}, "", "backup-5"},
		{
			recovery.Target{Kind: recovery.Time, Time: clock(3 * 60)},
			"backup-8",
			"cannot recover to time 2026-01-02 03:03:00 UTC: base backup backup-8 has transactions in it that ended later",
		},
		{recovery.Target{Kind: recovery.Time, Time: clock(3*60 + 1)}, "", "backup-8"},
		{
			recovery.Target{Kind: recovery.Time, Time: clock(0)},
			"",
			"cannot recover to time 2026-01-02 03:00:00 UTC: base backup backup-5 has transactions in it that ended later; recoverable is on timeline 1 from 0/500458 to",
		},
		{recovery.Target{Kind: recovery.Time, Time: last.Add(-1000)}, "", "backup-8"}, // only in the tail
		{recovery.Target{Kind: recovery.Time, Time: last}, "", "cannot recover to time 2026-01-02 03:04:50 UTC: " +
			"no transaction ended after that, the last one ended 2026-01-02 03:04:50 UTC: the WAL in the archive ends at " + log.pos().String() + ", and all of it is recovered if no target is given; " +
			"recoverable is on timeline 1 from 0/500458 to " + log.pos().String() + " (2026-01-02 03:00:02 UTC to 2026-01-02 03:04:50 UTC)"},
		{recovery.Target{Kind: recovery.LSN, LSN: log.pos()}, "", "cannot recover to LSN " + log.pos().String() + ": no record begins there or later"},
		{recovery.Target{Kind: recovery.LSN, LSN: log.pos() - 8}, "", "cannot recover"},
		{recovery.Target{Kind: recovery.LSN, LSN: log.entries[len(log.entries)-1].at}, "", "backup-8"},
		{recovery.Target{Kind: recovery.LSN, LSN: 0x500030}, "", "cannot recover to LSN 0/500030: base backup backup-5 is consistent only from 0/500458 on"},
		{recovery.Target{Kind: recovery.XID, XID: 905}, "", "backup-8"},
		{recovery.Target{Kind: recovery.XID, XID: 705}, "", "backup-5"},
		{recovery.Target{Kind: recovery.XID, XID: 705}, "backup-8", "cannot recover to transaction 705: it is not in the WAL from"},
		{recovery.Target{Kind: recovery.XID, XID: 500}, "", "cannot recover to transaction 500: it is at 0/500028, and base backup backup-5 is consistent only"},
		{recovery.Target{Kind: recovery.XID, XID: 999}, "", "cannot recover to transaction 999: it is not in the WAL from 0/500028 on"},
		{recovery.Target{Kind: recovery.Name, Name: "evening"}, "", "backup-8"},
		{recovery.Target{Kind: recovery.Name, Name: "evening"}, "backup-5", "backup-5"},
		{recovery.Target{Kind: recovery.Name, Name: "morning"}, "", `cannot recover to restore point "morning": it is not in the WAL from`},
		{recovery.Target{Timeline: 2}, "", "cannot recover to latest: the archive has no history of timeline 2; recoverable is on timeline 1"},
		{recovery.Target{Timeline: recovery.CurrentTimeline}, "", "backup-8"},
	} {
		plan, err := w.choose(tt.target, tt.id)
		switch {
		case err != nil && !strings.HasPrefix(err.Error(), tt.want):
			t.Errorf("%s with %q: %v; want %s", tt.target, tt.id, err, tt.want)
		case err == nil && plan.Backup.ID != tt.want:
			t.Errorf("%s with %q: %s; want %s", tt.target, tt.id, plan.Backup.ID, tt.want)
		case err == nil && (plan.End != log.pos() || plan.Timeline != 1):
			t.Errorf("%s: up to %s on timeline %d", tt.target, plan.End, plan.Timeline)
		}
	}
}

// Of restore points with the same name PostgreSQL takes the first one that it meets.
func TestChooseAmbiguousName(t *testing.T) {
	w, _ := story(t)
	plan, err := w.choose(recovery.Target{Kind: recovery.Name, Name: "evening"}, "backup-5")
	if err != nil || !strings.HasPrefix(plan.Note, "5 restore points have this name behind base backup backup-5: the recovery stops at the first, made 2026-01-02 03:00:55 UTC") {
		t.Errorf("%+v, %v", plan, err)
	}
}

func TestChooseAmongWhatIsNotGood(t *testing.T) {
	w, _ := story(t)
	for i := range w.backups {
		w.backups[i].Backup, w.backups[i].State = nil, backup.Running
	}
	_, err := w.choose(recovery.Target{}, "")
	if err == nil || err.Error() != "cannot recover to latest: there is no base backup that is good; nothing can be recovered" {
		t.Error(err)
	}
	if _, err = w.choose(recovery.Target{}, "backup-8"); err == nil || err.Error() != "the base backup backup-8 was not completed: only a good one can be restored" {
		t.Error(err)
	}
}

// TestChooseAmongDamaged: of the newer backup an object is missing. The older one is
// taken for it, if that fits, too.
func TestChooseAmongDamaged(t *testing.T) {
	w, _ := story(t)
	whole := w.backups[0]
	w.backups[1].Lacks = []string{"base.000001.tar.zst was put, and is not in the archive", "another"}
	const why = "the base backup backup-8 is damaged: base.000001.tar.zst was put, and is not in the archive (and 1 more)"
	var damaged *recovery.DamagedError

	plan, err := w.choose(recovery.Target{}, "latest")
	if err != nil || plan.Backup.ID != "backup-5" || plan.Note != why+": an older one is taken" || len(plan.Damaged) != 1 || !plan.Damaged[0].Missing {
		t.Errorf("%+v, %v", plan, err)
	}
	if plan, err = w.choose(recovery.Target{Kind: recovery.LSN, LSN: 0x600000}, ""); err != nil || plan.Backup.ID != "backup-5" || plan.Note != "" {
		t.Errorf("before the damaged one: %+v, %v", plan, err)
	}
	if plan, err = w.choose(recovery.Target{}, "backup-8"); !errors.As(err, &damaged) || err.Error() != why {
		t.Errorf("%+v, %v", plan, err)
	}
	if windows := w.survey().Windows(w.backups); len(windows) != 1 || fmt.Sprint(windows[0].Backups) != "[backup-5]" {
		t.Error(windows)
	}

	w.backups = w.backups[1:]
	var unreachable *recovery.UnreachableError
	if plan, err = w.choose(recovery.Target{}, ""); !errors.As(err, &unreachable) || !errors.As(err, &damaged) ||
		err.Error() != "cannot recover to latest: "+why+"; nothing can be recovered" {
		t.Errorf("%+v, %v", plan, err)
	}

	unread := backup.Entry{Start: backup.Start{ID: "unread", Started: clock(1000)}, State: backup.Damaged, Damage: errors.New("no JSON")}
	w.backups = []backup.Entry{whole, unread}
	if plan, err = w.choose(recovery.Target{}, ""); err != nil || plan.Note != "the base backup unread is damaged: no JSON: an older one is taken" || plan.Damaged[0].Missing {
		t.Errorf("%+v, %v", plan, err)
	}
	if plan, err = w.choose(recovery.Target{}, "backup-5"); err != nil || plan.Note != "" {
		t.Errorf("chosen by hand: %+v, %v", plan, err)
	}
	if _, err = w.choose(recovery.Target{}, "unread"); err == nil || err.Error() != "the base backup unread is damaged: no JSON" {
		t.Error(err)
	}
}

// TestChooseBeforeHole loses a segment between the backups: what is in front of it, and
// behind the second one, can be reached.
func TestChooseBeforeHole(t *testing.T) {
	for what, harm := range map[string]func(w *world, n segment.Name){
		"segment 000000010000000000000007 is missing": func(w *world, n segment.Name) { w.lose(n) },
		"segment 000000010000000000000007: ":          func(w *world, n segment.Name) { w.store.Set(w.key(segmentKey(n)), nil) },
		"it is damaged at 0/700100, as the server sent it: bad": func(w *world, n segment.Name) {
			m := segment.Mark{Name: n, LSN: 0x700100, End: 0x700080, Reason: "bad", Found: clock(0)}
			content, err := m.Encode(mib)
			if err != nil {
				t.Fatal(err)
			}
			w.store.Set(w.key("marks", m.FileName(mib)), content)
		},
	} {
		w, _ := story(t)
		harm(w, segment.Name{Timeline: 1, Number: 7})
		_, err := w.choose(recovery.Target{Kind: recovery.Time, Time: clock(140)}, "")
		var unreachable *recovery.UnreachableError
		if !errors.As(err, &unreachable) || !strings.Contains(unreachable.Reason, what) || len(unreachable.Windows) != 2 {
			t.Errorf("%s: %v", what, err)
		}
		if plan, err := w.choose(recovery.Target{Kind: recovery.Time, Time: clock(100)}, ""); err != nil || plan.Backup.ID != "backup-5" || plan.End != 0x700000 {
			t.Errorf("%s: %+v, %v", what, plan, err)
		}
		if _, err := w.choose(recovery.Target{}, "backup-5"); err == nil {
			t.Errorf("%s: to the end from in front of it", what)
		}
		if _, err := w.choose(recovery.Target{}, ""); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestChooseLatestTimeline has timelines 2 and 4, of which PostgreSQL does not find the
// later one from the first.
func TestChooseLatestTimeline(t *testing.T) {
	w, log := story(t)
	second := log.fork(2)
	second.commit(2000, clock(400))
	w.history(second)
	w.tail(second, second.pos())
	fourth := second.fork(4)
	fourth.fill()
	w.history(fourth)
	w.segments(fourth, 9, 9)
	if plan, err := w.choose(recovery.Target{}, ""); err != nil || plan.Timeline != 2 || plan.End != second.pos() {
		t.Errorf("%+v, %v", plan, err)
	}
	if plan, err := w.choose(recovery.Target{Timeline: 4}, ""); err != nil || plan.Timeline != 4 || plan.End != mib.Start(10) {
		t.Errorf("%+v, %v", plan, err)
	}
	w.backup("abandoned", log, log.entries[len(log.entries)-2].at, log.pos()+8, clock(500)) // it ends behind the fork
	if plan, err := w.choose(recovery.Target{}, ""); err != nil || plan.Backup.ID != "backup-8" {
		t.Errorf("%+v, %v", plan, err)
	}
	w.history(&wal{timeline: 3, history: "1\t0/500100\twhat follows is nobody's\n"})
	if plan, err := w.choose(recovery.Target{}, ""); err != nil || plan.Timeline != 4 {
		t.Errorf("%+v, %v", plan, err)
	}
	for timeline, reason := range map[recovery.Timeline]string{
		3: "on timeline 1, is not on the way to timeline 3",
		5: "the archive has no history of timeline 5",
	} {
		if _, err := w.choose(recovery.Target{Timeline: timeline}, ""); err == nil || !strings.Contains(err.Error(), reason) {
			t.Error(err)
		}
	}
}

// What a quiet server's backup has in it can be later than what stands in its own WAL.
func TestChooseBackupOfQuietServer(t *testing.T) {
	w, log := newWorld(t), newWAL(mib.Start(firstNumber))
	log.filler(100)
	w.backup("old", log, log.entries[0].at, log.pos(), clock(0))
	log.commit(1, clock(10))
	log.commit(2, clock(20))
	log.fill()
	log.fill()
	log.filler(100)
	quiet := log.entries[len(log.entries)-1]
	w.backup("quiet", log, quiet.at, quiet.end, clock(1000))
	log.commit(3, clock(2000))
	log.fill()
	w.segments(log, firstNumber, mib.Number(log.pos())-1)
	for seconds, want := range map[float64]string{1: "old", 15: "old", 20: "quiet", 500: "quiet", 1500: "quiet"} {
		plan, err := w.choose(recovery.Target{Kind: recovery.Time, Time: clock(seconds)}, "")
		if err != nil || plan.Backup.ID != want {
			t.Errorf("%v s: %+v, %v; want %s", seconds, plan, err, want)
		}
	}
	if plan, err := w.choose(recovery.Target{Kind: recovery.Time, Time: clock(-1)}, ""); err == nil {
		t.Errorf("%+v", plan)
	}
}

// A piece of the tail that is gone when it is read became a part of a segment.
func TestChooseWhileTheTailMoves(t *testing.T) {
	w, log := story(t)
	s := w.survey()
	for _, key := range w.store.Keys() {
		if strings.Contains(key, "/tail/") {
			if err := w.store.Delete(t.Context(), key); err != nil {
				t.Fatal(err)
			}
		}
	}
	w.segments(log, 9, 9)
	plan, err := s.Choose(t.Context(), w.backups, recovery.Target{Kind: recovery.XID, XID: 905}, "")
	if err != nil || plan.Stop != log.entries[len(log.entries)-2].end {
		t.Errorf("%+v, %v", plan, err)
	}
}

// A store that does not answer is no reason to say that something cannot be reached.
func TestChooseWithoutAnswer(t *testing.T) {
	w, _ := story(t)
	for _, op := range []storagetest.Op{storagetest.OpList, storagetest.OpOpen} {
		down := false
		faulty := storagetest.NewFaulty(w.store, func(r storagetest.Request) storagetest.Fault {
			if down && r.Op == op {
				return storagetest.Fault{Before: storage.Unknown("ask", errors.New("nobody there"))}
			}
			return storagetest.Fault{}
		})
		a, err := archive.Open(t.Context(), faulty, testSystem, archive.Keys{})
		if err != nil {
			t.Fatal(err)
		}
		s, err := recovery.Look(t.Context(), a, noPause)
		if err != nil {
			t.Fatal(err)
		}
		down = true
		_, err = recovery.Look(t.Context(), a, noPause)
		var unreachable *recovery.UnreachableError
		if err == nil || errors.As(err, &unreachable) {
			t.Error(err)
		}
		if _, err = s.Choose(t.Context(), w.backups, recovery.Target{Kind: recovery.XID, XID: 905}, ""); op == storagetest.OpOpen && (err == nil || errors.As(err, &unreachable)) {
			t.Error(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := recovery.Look(ctx, a, noPause); err == nil {
			t.Error("a look that was ended")
		}
	}
}

func TestWindows(t *testing.T) {
	w, log := story(t)
	windows := w.survey().Windows(w.backups)
	if len(windows) != 1 {
		t.Fatal(windows)
	}
	got := windows[0]
	if got.Start != 0x500458 || got.End != log.pos() || fmt.Sprint(got.Backups) != "[backup-5 backup-8]" ||
		!got.StartTime.Equal(clock(2)) || !got.EndTime.Equal(clock(3*60+50)) {
		t.Errorf("%+v", got)
	}
	want := fmt.Sprintf("on timeline 1 from 0/500458 to %s (2026-01-02 03:00:02 UTC to 2026-01-02 03:03:50 UTC, and what is in the tail)", log.pos())
	if got.String() != want {
		t.Error(got.String())
	}
	if _, ok := (recovery.Window{Start: 8, End: 8, StartTime: time.Now()}).Random(nil); ok {
		t.Error("a point in nothing")
	}
}

// TestChooseEncrypted: without an identity nobody knows what stands in the WAL, which
// is not the same as that it does not stand there.
func TestChooseEncrypted(t *testing.T) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	enc, err := crypt.NewEncryption([]age.Recipient{id.Recipient()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	w, log := newWorld(t), newWAL(mib.Start(firstNumber))
	log.filler(100)
	w.backup("one", log, log.entries[0].at, log.pos(), clock(0))
	for n := 1; n < 4; n++ {
		log.commit(uint32(n), clock(float64(n)))
		log.point(fmt.Sprint("point ", n), clock(float64(n)))
		log.fill()
	}
	plain := w.archive
	if w.archive, err = archive.Open(t.Context(), w.store, testSystem, archive.Keys{Encryption: enc}); err != nil {
		t.Fatal(err)
	}
	w.segments(log, firstNumber, mib.Number(log.pos())-1)
	for _, target := range []recovery.Target{
		{Kind: recovery.Time, Time: clock(1.5)},
		{Kind: recovery.XID, XID: 2},
		{Kind: recovery.Name, Name: "point 2"},
		{Kind: recovery.LSN, LSN: log.entries[3].at},
	} {
		w.archive = plain
		if _, err := w.choose(target, ""); !errors.Is(err, archive.ErrEncrypted) {
			t.Errorf("%s without an identity: %v", target, err)
		}
		if w.archive, err = archive.Open(t.Context(), w.store, testSystem, archive.Keys{Identities: crypt.Identities{id}}); err != nil {
			t.Fatal(err)
		}
		if plan, err := w.choose(target, ""); err != nil || plan.Backup.ID != "one" {
			t.Errorf("%s: %+v, %v", target, plan, err)
		}
	}
}
