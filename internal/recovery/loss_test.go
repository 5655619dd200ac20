package recovery_test

import (
	"slices"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/backup"
	"github.com/walrecv/walrecv/segment"
)

// TestLoss: the log has one commit in each segment, a minute after the one before.
func TestLoss(t *testing.T) {
	w, log := newWorld(t), newWAL(mib.Start(firstNumber))
	for n := range uint64(9) {
		log.commit(uint32(n+1), clock(60*float64(n)))
		log.fill()
	}
	at := func(n uint64) segment.LSN { return mib.Start(firstNumber+n) + 0x100 }
	w.segments(log, firstNumber, firstNumber+8)
	add := func(id string, n uint64) { w.backup(id, log, at(n), at(n)+0x100, clock(60*float64(n)+1)) }
	add("a", 0)
	add("b", 2)
	check := func(what string, backups []backup.Entry, id string, since time.Time, want string) {
		t.Helper()
		if got := w.survey().Loss(backups, id, since); got != want {
			t.Errorf("%s: without %s %q, want %q", what, id, got, want)
		}
	}
	all := w.backups
	check("the only one", all[:1], "a", time.Time{}, "nothing could be restored")
	check("an older one", all, "a", time.Time{}, "")
	check("a newer one", all, "b", time.Time{}, "")
	check("a newer one", all, "b", clock(-1000), "")
	check("one before the window", all, "a", clock(150), "")
	check("the window begins before it", all, "a", clock(70), "nothing could be recovered to 2026-01-02 03:01:10 UTC")
	check("all is within the window", all, "a", clock(-1000), "nothing could be recovered to 2026-01-02 03:00:00 UTC")
	check("one that is not good", append(all, backup.Entry{Start: backup.Start{ID: "x"}, State: backup.Abandoned}), "x", clock(-1000), "")

	part := slices.Clone(all)
	part[1].Lacks = []string{"base.000001.tar.zst was put, and is not in the archive"}
	check("the only one that is whole", part, "a", time.Time{}, "nothing could be restored")
	check("a damaged one", part, "b", clock(-1000), "")

	// Segment 4 is lost: what is behind it takes a backup from behind it.
	add("c", 6)
	w.lose(segment.Name{Timeline: 1, Number: firstNumber + 4})
	all = w.backups
	check("behind a hole", all, "c", time.Time{}, "nothing could be recovered up to "+mib.Start(firstNumber+9).String()+" on timeline 1")
	check("before a hole", all, "a", time.Time{}, "")
	check("before a hole", all, "a", clock(10), "nothing could be recovered to 2026-01-02 03:00:10 UTC")
	check("all before the hole are before the window", all, "a", clock(400), "")
	check("two before a hole", all[1:], "b", clock(130), "nothing could be recovered to 2026-01-02 03:02:10 UTC")
}
