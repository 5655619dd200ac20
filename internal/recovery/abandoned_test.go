package recovery_test

import (
	"strings"
	"testing"

	"github.com/walrecv/walrecv/internal/recovery"
)

// TestChooseTimeOnAbandonedTimeline: timeline 1 has a commit every minute, up to the
// eighth. Timeline 2 leaves it at the third, and was begun much later.
func TestChooseTimeOnAbandonedTimeline(t *testing.T) {
	for what, summaries := range map[string]bool{"by summaries": true, "by reading": false} {
		w, log := newWorld(t), newWAL(mib.Start(firstNumber))
		log.filler(100)
		w.backup("a", log, log.entries[0].at, log.pos(), clock(-1))
		for n := range 3 {
			log.commit(uint32(n+10), clock(60*float64(n)))
			log.fill()
		}
		log.filler(500)
		fork := log.pos()
		child := log.fork(2)
		for n := range 6 {
			log.commit(uint32(n+20), clock(60*float64(n+3)))
			log.fill()
		}
		for n := range 3 {
			child.commit(uint32(n+20), clock(1000+60*float64(n)))
			child.fill()
		}
		w.segments(log, firstNumber, firstNumber+7)
		w.tail(log, log.pos())
		w.segments(child, firstNumber+3, firstNumber+5)
		w.history(child)
		if !summaries {
			for n := uint64(firstNumber); n < firstNumber+8; n++ {
				w.forget(log, n)
			}
		}
		for _, tt := range []struct {
			seconds  float64
			timeline recovery.Timeline
			noted    bool
		}{{100, 0, false}, {179, 0, false}, {180, 0, true}, {300, 0, true}, {900, 0, true}, {1001, 0, false}, {300, 1, false}, {300, 2, false}} {
			target := recovery.Target{Kind: recovery.Time, Time: clock(tt.seconds), Timeline: tt.timeline}
			p, err := w.choose(target, "")
			if err != nil {
				t.Fatal(err)
			}
			want := "timeline 1, which had gone on by then, is left at " + fork.String()
			if noted := strings.HasPrefix(p.Note, want) && strings.HasSuffix(p.Note, "--target-timeline 1 goes along it"); noted != tt.noted || !noted && p.Note != "" {
				t.Errorf("%s: %v s on %s: timeline %d, %q", what, tt.seconds, tt.timeline, uint32(p.Timeline), p.Note)
			}
		}
	}
}
