package drill

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

// talk is what a server says on its way to a target.
const talk = `1763796000.100 [12] LOG:  starting point-in-time recovery to WAL location (LSN) "0/3000100"
1763796000.200 [12] LOG:  redo starts at 0/2000028
1763796000.300 [12] LOG:  consistent recovery state reached at 0/2000100
1763796000.310 [11] LOG:  database system is ready to accept read-only connections
1763796001.300 [12] LOG:  redo in progress, elapsed time: 1.00 s, current LSN: 0/2800000
level=WARN msg="not known yet, trying again" file=000000010000000000000003
1763796002.500 [12] LOG:  recovery stopping after WAL location (LSN) "0/3000100"
1763796002.510 [12] LOG:  redo done at 0/3000100 system usage: CPU: user: 0.00 s
1763796002.511 [12] LOG:  last completed transaction was at log time 2025-11-22 07:19:59.123456+00
1763796002.520 [12] LOG:  selected new timeline ID: 12
1763796002.600 [12] LOG:  archive recovery complete
1763796002.700 [11] LOG:  database system is ready to accept connections
`

func readLog(text string) *serverLog {
	l := newServerLog()
	l.read(strings.NewReader(text))
	return l
}

func TestLog(t *testing.T) {
	at := func(millis int64) time.Time { return time.UnixMilli(1763796000000 + millis) }
	got := readLog(talk).state()
	want := replay{
		Consistent: at(300), ConsistentAt: 0x2000100, Stopped: at(2500), StopReason: `recovery stopping after WAL location (LSN) "0/3000100"`,
		Complete: at(2600), Ready: at(2700), Done: 0x3000100, NewTimeline: 12, Current: 0x3000100,
		LastCommit: time.Date(2025, 11, 22, 7, 19, 59, 123456000, time.UTC),
	}
	if !got.Consistent.Equal(want.Consistent) || !got.Stopped.Equal(want.Stopped) || !got.Complete.Equal(want.Complete) || !got.Ready.Equal(want.Ready) ||
		got.ConsistentAt != want.ConsistentAt || got.StopReason != want.StopReason || got.Done != want.Done || got.NewTimeline != want.NewTimeline ||
		got.Current != want.Current || !got.LastCommit.Equal(want.LastCommit) || !got.Paused.IsZero() || len(got.Short) > 0 {
		t.Errorf("%+v\nwant\n%+v", got, want)
	}
	paused := readLog(talk[:strings.Index(talk, "1763796002.511")] + "1763796002.600 [12] LOG:  pausing at the end of recovery\n1763796002.600 [12] HINT:  Execute\n").state()
	if paused.Paused.IsZero() || !paused.Ready.IsZero() {
		t.Errorf("paused: %+v", paused)
	}
}

func TestLogSaysWhy(t *testing.T) {
	l := readLog(talk + `1763796003.000 [12] FATAL:  could not extend file "base/5/1": No space left on device
1763796003.000 [12] HINT:  Check free disk space.
	and one more line
1763796003.100 [12] LOG:  shutting down
1763796003.200 [12] LOG:  not about it
`)
	got := strings.Join(l.reasons(), "\n")
	want := `level=WARN msg="not known yet, trying again" file=000000010000000000000003
FATAL: could not extend file "base/5/1": No space left on device
HINT: Check free disk space.
	and one more line`
	if got != want {
		t.Errorf("%s", got)
	}
	if got := readLog(strings.Repeat("1763796003.000 [1] LOG:  x\n", 2*kept)).reasons(); len(got) == 0 || len(got) > 10 {
		t.Errorf("%d lines of a log without errors", len(got))
	}
}

func TestLogShortSettings(t *testing.T) {
	got := readLog(`1763796003.000 [12] WARNING:  hot standby is not possible because of insufficient parameter settings
1763796003.000 [12] DETAIL:  max_connections = 100 is a lower setting than on the primary server, where its value was 200.
1763796003.000 [12] LOG:  recovery has paused
1763796003.000 [12] FATAL:  maximum number of prepared transactions reached
`).state()
	if got.Short["max_connections"] != 200 || got.Short["max_prepared_transactions"] != 512 || !got.Paused.IsZero() {
		t.Errorf("%+v", got)
	}
}

// TestFollow: a server that says nothing is given up, one that ends is noticed.
func TestFollow(t *testing.T) {
	s := &server{log: newServerLog(), done: make(chan struct{})}
	never := func(replay) bool { return false }
	if _, err := s.follow(t.Context(), time.Millisecond, never); !errors.Is(err, errStalled) {
		t.Errorf("a silent server: %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errFailed)
	if _, err := s.follow(ctx, time.Minute, never); !errors.Is(err, errFailed) {
		t.Errorf("interrupted: %v", err)
	}
	s.log.line("1763796003.000 [12] FATAL:  hot standby is not possible")
	s.log.line("1763796003.000 [12] DETAIL:  max_wal_senders = 10 is a lower setting than on the primary server, where its value was 20.")
	if seen, err := s.follow(t.Context(), time.Minute, never); !errors.Is(err, errShort) || seen.Short["max_wal_senders"] != 20 {
		t.Errorf("short: %+v, %v", seen, err)
	}
	s = &server{log: readLog(talk), done: make(chan struct{})}
	close(s.done)
	if _, err := s.follow(t.Context(), time.Minute, func(r replay) bool { return !r.Ready.IsZero() }); !errors.Is(err, errServerEnded) {
		t.Errorf("ended: %v", err)
	}
}

func TestSizesOf(t *testing.T) {
	got := sizesOf("pg_control version number:            1300\nmax_connections setting:              250\nmax_prepared_xacts setting:           7\nmax_wal_senders setting: many\n")
	if len(got) != 2 || got["max_connections"] != 250 || got["max_prepared_transactions"] != 7 {
		t.Errorf("%v", got)
	}
}
