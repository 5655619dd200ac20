package integration

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/pgtest"
	"github.com/walrecv/walrecv/internal/s3test"
)

// What S3 is asked for, and charges for: one PUT for a complete segment, at most one
// for each interval of the tail, nothing at all while the server writes nothing, and
// one GET for a segment that a server recovers.
func TestS3Requests(t *testing.T) {
	const (
		segments  = 12
		replyTime = "select reply_time from pg_stat_replication"
	)
	s := s3test.Start(t)
	p := s.Proxy(t)
	c := pgtest.New(t, pgtest.Options{Major: pgtest.Version(t), WALSegmentSize: 1 << 20, Settings: map[string]string{
		// So that nobody writes WAL but this test.
		"autovacuum": "off", "checkpoint_timeout": "1h", "bgwriter_lru_maxpages": "0",
	}})
	c.Start()
	c.Exec("create table mark(name text primary key)")
	r := watched(newReceiver(t, c, "--archive", p.URL("wal"), "--status-interval", "1s"))
	r.env = s.Environ()
	r.start()
	backup := c.BaseBackup(t, "").Dir
	archived := func() {
		t.Helper()
		end := float64(parseLSN(t, c.Query("select pg_current_wal_flush_lsn()")))
		r.metricBecomes("archived_lsn", func(v float64) bool { return v >= end })
	}
	// quiet waits until an idle server makes no request, for so many of the status's
	// intervals, which are those of the tail.
	quiet := func(intervals int) {
		t.Helper()
		pgtest.Eventually(t, patience, func() bool {
			p.ResetCounts()
			for range intervals {
				last := c.Query(replyTime)
				pgtest.Eventually(t, patience, func() bool { return c.Query(replyTime) != last }, "the receiver gives no sign of life")
			}
			return p.Total() == 0
		}, "an idle server makes requests: %v", p.Counts())
	}
	archived()
	quiet(1) // what the start asks for beside archiving is over

	p.ResetCounts()
	began := time.Now()
	for range segments {
		mark(c, c.Query("select pg_current_wal_lsn()"))
		c.SwitchWAL()
	}
	archived()
	intervals := int(time.Since(began)/time.Second) + 1
	got := p.Counts()
	t.Logf("%d segments in %d intervals of the tail: %v", segments, intervals, got)
	if puts := got["PutObject"]; puts < segments || puts > segments+intervals {
		t.Errorf("%d PUTs for %d segments in %d intervals", puts, segments, intervals)
	}
	if got["GetObject"]+got["HeadObject"] > 0 || got["ListObjects"] > 1 {
		t.Errorf("writing asks for more than writing needs: %v", got)
	}

	quiet(3) // chunks of the tail that are not needed any more may still be deleted
	r.Kill()

	p.ResetCounts()
	n := c.Recover(t, backup, map[string]string{"restore_command": s3Command(r.bin, s, p.URL("wal"), "")})
	restored := strings.Count(n.Log(), `restored log file "00000001`)
	gets := 0
	for object, n := range p.Gets() {
		if _, err := os.Stat(s.Path("wal/" + c.SystemID() + "/wal/00000001/" + object)); err == nil {
			gets += n
		}
	}
	t.Logf("%d GETs of segments for %d that were restored: %v", gets, restored, p.Counts())
	// A call and the helper that it has just started can both want a segment.
	if restored < segments || gets > restored+3 {
		t.Errorf("%d GETs of segments for %d that were restored", gets, restored)
	}
	// The others: for the identity, once and again for each of the calls that find
	// nothing, and for what they find to be absent in each of its forms.
	if others := p.Counts()["GetObject"] - gets; others > 32 {
		t.Errorf("%d other GETs: %v", others, p.Gets())
	}
}
