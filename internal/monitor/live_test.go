package monitor

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/walrecv/walrecv/segment"
)

// TestLive has the words of the metrics, and leaves out what is not known.
func TestLive(t *testing.T) {
	m, f := newMonitor(true, busy())
	f.set(func(s *State) {
		s.Cluster = segment.Cluster{Identity: segment.Identity{SystemID: 7001, Size: 1 << 20}, Major: 15}
	})
	document := func(m *Monitor) string {
		text, err := json.Marshal(m.Live())
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	got := document(m)
	for _, part := range []string{
		`"ready":true`, `"system_identifier":"7001"`, `"postgresql_major":15`, `"wal_segment_size":1048576`, `"timeline":3`,
		`"server_lsn":"0/3E8"`, `"received_lsn":"0/384"`, `"written_lsn":"0/384"`, `"flushed_lsn":"0/320"`, `"sealed_lsn":"0/2BC"`, `"archived_lsn":"0/258"`,
		`"lag_bytes":{"archived":400,"flushed":200,"received":100,"written":100}`, `"spool_bytes":4096`, `"spool_max_bytes":8192`,
		`"archive":true`, `"archiving":true`, `"gaps":1`, `"wal_bytes_total":12345`, `"wal_verify_failures_total":1`, `"reconnects_total":2`,
	} {
		if !strings.Contains(got, part) {
			t.Errorf("%s is missing in %s", part, got)
		}
	}
	f.set(func(s *State) { s.ArchiveTrouble = "no room" })
	if got := document(m); !strings.Contains(got, `"archiving":false`) {
		t.Errorf("in an outage of the archive: %s", got)
	}
	m, _ = newMonitor(false, State{})
	got = document(m)
	for _, name := range []string{"_lsn", "paused_since", "timeline", "wal_segment_size", "spool_max", "system_identifier"} {
		if strings.Contains(got, name) {
			t.Errorf("%s is there and cannot be known: %s", name, got)
		}
	}
}

// TestProblems are there while something is wrong, each with what to do.
func TestProblems(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		good := State{Streaming: true, Server: 100, Received: 100, Written: 100, Flushed: 100, Archived: 100, ArchiveReached: true, SpoolMax: 1 << 20}
		for what, c := range map[string]struct {
			wrong   func(*State)
			archive bool
			after   time.Duration
			want    string // of the one problem there is; "" for none
		}{
			"good":                      {func(*State) {}, true, 0, ""},
			"a standby of a pair":       {func(s *State) { s.Streaming, s.ForSlot = false, true }, true, time.Hour, ""},
			"away":                      {func(s *State) { s.Streaming, s.Waiting = false, "refused" }, true, time.Second, "not streaming for 1.5s: refused; It is tried"},
			"behind":                    {func(s *State) { s.Server = 1000 }, true, 2 * time.Minute, "streaming, 2m0s behind the server; WAL comes more slowly"},
			"paused":                    {func(s *State) { s.PausedSince = time.Now() }, true, time.Minute, "paused for 1m0s, 0s behind the server: the spool has reached --spool-max; The archive takes"},
			"archiving, a little late":  {func(s *State) { s.OldestUnarchived = time.Now() }, true, 30 * time.Second, ""},
			"archiving late":            {func(s *State) { s.OldestUnarchived = time.Now() }, true, 31 * time.Second, "archiving is 31s behind; What the archive does not hold"},
			"an archive that fails":     {func(s *State) { s.OldestUnarchived, s.ArchiveTrouble = time.Now(), "no room" }, true, time.Second, "archiving is 1s behind: no room; What the archive does not hold"},
			"an archive that is away":   {func(s *State) { s.ArchiveReached, s.ArchiveAsked = false, time.Now() }, true, 40 * time.Second, "the archive was not reached yet, for 40s; What"},
			"a directory that is full":  {func(s *State) { s.SpoolMax = 5000 }, true, 0, "the directory holds 81 % of --spool-max; When it is full"},
			"WAL that is not sound":     {func(s *State) { s.VerifyFailures = 2 }, true, 0, "WAL that came was not sound (places since the start: 2); The log"},
			"a slot that is lost":       {func(*State) {}, true, 0, "the server has invalidated the replication slot: it holds no WAL back any more; If the server does not"},
			"a slot in danger":          {func(*State) {}, true, 0, "the replication slot is about to be lost: the server may remove WAL that it needs at the next checkpoint; See why"},
			"a gap, without an archive": {func(*State) {}, false, 0, "WAL is missing, and that was accepted (ranges: 1); A base backup"},
		} {
			m, f := newMonitor(c.archive, good)
			m.look(time.Now())
			f.slot = map[string]Slot{"a slot that is lost": {Status: SlotLost}, "a slot in danger": {Status: SlotUnreserved}, "good": {Status: SlotReserved}}[what]
			f.set(c.wrong)
			m.look(time.Now())
			time.Sleep(c.after)
			if what == "away" {
				time.Sleep(time.Second / 2)
			}
			var got []string
			for _, p := range m.Live().Problems {
				got = append(got, fmt.Sprintf("%s; %s", p.What, p.Do))
			}
			if c.want == "" && len(got) > 0 || c.want != "" && (len(got) != 1 || !strings.HasPrefix(got[0], c.want)) {
				t.Errorf("%s: %q, want %q", what, got, c.want)
			}
		}
	})
}

// TestProblemsTogether: of several things that are wrong each is said with its own remedy.
func TestProblemsTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, f := newMonitor(true, State{Streaming: true, ArchiveReached: true, OldestUnarchived: time.Now()})
		f.slot = Slot{Status: SlotUnreserved}
		m.look(time.Now())
		time.Sleep(45 * time.Second)
		problems := m.Live().Problems
		if len(problems) != 2 || problems[0].What != "archiving is 45s behind" || problems[1].What != f.slot.Danger() {
			t.Errorf("%q", problems)
		}
	})
}
