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

// streams tells whether a primary has a standby that streams.
const streams = "select count(*) from pg_stat_replication where state = 'streaming'"

// TestStandbyWithAHangingStore: with a store that does not answer, a standby that
// lost its connection streams again, and is promoted, within 15 s.
func TestStandbyWithAHangingStore(t *testing.T) {
	const most = 15 * time.Second
	eachMajor(t, func(t *testing.T, major int) {
		p := newPrimary(t, major)
		w := newWAL(t, p)
		s := p.Standby(t, with(w.settings(), "wal_retrieve_retry_interval", "5s"))
		mark(p, "before")
		w.hang(w.identity())
		p.Exec("select pg_terminate_backend(pid) from pg_stat_replication")
		begin := time.Now()
		p.WaitFor(streams, "1", patience)
		t.Logf("streaming again after %s", time.Since(begin))
		if took := time.Since(begin); took > pgtest.Allow(most) {
			t.Errorf("it streamed again only after %s", took)
		}
		mark(p, "during")
		s.WaitFor("select count(*) from mark", "2", patience)
		took := s.Promote()
		t.Logf("promoted after %s", took)
		if took > pgtest.Allow(most) {
			t.Errorf("the promotion took %s", took)
		}
		mark(s, "after")
		wantMarks(t, s, "after before during")
		checkHeapAndIndexes(t, s)
	})
}

// TestPromotionWhileTheStoreHangs: the primary is gone, so the standby is in
// restore_command nearly all of the time when it is told to promote.
func TestPromotionWhileTheStoreHangs(t *testing.T) {
	eachMajor(t, func(t *testing.T, major int) {
		p := newPrimary(t, major)
		w := newWAL(t, p)
		s := p.Standby(t, w.settings())
		mark(p, "before")
		s.WaitFor("select count(*) from mark", "1", patience)
		w.hang(w.identity())
		p.Stop(pgtest.Immediate)
		note := filepath.Join(s.DataDir, "walrecv.restore.json")
		pgtest.Eventually(t, patience, func() bool {
			_, err := os.Stat(note)
			return err == nil
		}, "no call has met the outage")
		took := s.Promote()
		t.Logf("promoted after %s", took)
		if took > pgtest.Allow(15*time.Second) {
			t.Errorf("the promotion took %s", took)
		}
		wantMarks(t, s, "before")
		checkHeapAndIndexes(t, s)
	})
}

// TestStandbyFedByTheSpoolAlone follows a live receiver without any connection to
// the primary, through sealed segments and the growing partial.
func TestStandbyFedByTheSpoolAlone(t *testing.T) {
	eachMajor(t, func(t *testing.T, major int) {
		p := newPrimary(t, major)
		archive := newArchive(t)
		r := newReceiver(t, p, "--archive", archive, "--flush-interval", "50ms").start()
		backup := p.BaseBackup(t, "").Dir
		s := p.Restore(t, backup, pgtest.StandbySignal, map[string]string{
			"restore_command":             restoreCommand(r.bin, "--archive "+archive+" --spool "+r.spool),
			"wal_retrieve_retry_interval": "200ms",
		})
		s.Start()
		for round := range 5 {
			mark(p, fmt.Sprint(round))
			s.WaitFor("select count(*) from mark", fmt.Sprint(round+1), patience)
			fill(p, 2)
		}
		mark(p, "end")
		s.WaitFor("select count(*) from mark", "6", patience)
		p.Stop(pgtest.Immediate)
		s.Promote()
		wantMarks(t, s, "0 1 2 3 4 end")
		checkHeapAndIndexes(t, s)
		if log := s.Log(); strings.Contains(log, "level=WARN") || strings.Contains(log, "level=ERROR") {
			t.Errorf("walrecv has complained:\n%s", log)
		}
		r.stop()
	})
}

// TestShorterTailDoesNotReplaceLongerWAL: a standby that has streamed more than
// the archive's tail holds is restarted with its primary gone.
func TestShorterTailDoesNotReplaceLongerWAL(t *testing.T) {
	eachMajor(t, func(t *testing.T, major int) {
		p := newPrimary(t, major)
		w := newWAL(t, p)
		first := walFile(p)
		s := p.Standby(t, quick)
		p.SwitchWAL()
		mark(p, "archived")
		begun := walFile(p)
		w.put(p, w.segments(first, begun)[:len(w.segments(first, begun))-1]...)
		w.putPartial(p, begun)
		p.Exec("insert into mark select 'streamed ' || i from generate_series(1, 1000) i")
		if got := walFile(p); got != begun {
			t.Fatalf("the rows went on to %s", got)
		}
		s.WaitFor("select count(*) from mark", "1001", patience)
		p.Stop(pgtest.Immediate)
		s.Stop(pgtest.Immediate)
		s.Set(with(w.settings(), "primary_conninfo", ""))
		s.Start()
		s.WaitFor("select count(*) from mark", "1001", patience)
		s.Promote()
		if got := s.Query("select count(*) from mark"); got != "1001" {
			t.Errorf("%s rows, 1001 were streamed", got)
		}
		checkHeapAndIndexes(t, s)
	})
}
