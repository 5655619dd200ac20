package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/walrecv/walrecv/internal/pgtest"
	"github.com/walrecv/walrecv/segment"
)

// TestReaderFollowsPromotions reads the WAL of three servers, each promoted from
// a standby of the one before: as a receiver that follows gets it, and as it is
// read for recovery.
func TestReaderFollowsPromotions(t *testing.T) {
	for _, major := range pgtest.Versions(t) {
		t.Run(fmt.Sprintf("pg%d", major), func(t *testing.T) {
			servers := promoteTwice(t, major)
			o := readerOptions(t, servers[2])
			data, err := os.ReadFile(servers[2].WALFile("00000003.history"))
			if err != nil {
				t.Fatal(err)
			}
			h, err := segment.ParseHistory(3, data)
			if err != nil {
				t.Fatal(err)
			}
			end := parseLSN(t, servers[2].FlushLSN())
			followed := readFollowing(t, servers, o, h, end)
			o.History = h
			recovered := readRecovering(t, servers, o, end)
			sameRecords(t, recovered, followed)
		})
	}
}

// promoteTwice makes three servers, of which the last one runs.
func promoteTwice(t *testing.T, major int) []*pgtest.Cluster {
	t.Helper()
	c := pgtest.New(t, pgtest.Options{Major: major, WALSegmentSize: 1 << 20, Settings: map[string]string{
		"wal_keep_size": "10GB", "max_wal_size": "10GB",
	}})
	c.Start()
	servers := []*pgtest.Cluster{c}
	for range 2 {
		fill(c, 2)
		standby := c.Standby(t, map[string]string{"primary_slot_name": ""})
		fill(c, 1)
		standby.WaitFor(fmt.Sprintf("select pg_last_wal_replay_lsn() >= '%s'", c.FlushLSN()), "t", patience)
		c.Exec("insert into filling select -i, 'may be lost' from generate_series(1, 1000) i on conflict do nothing")
		c.Kill9()
		standby.Promote()
		c = standby
		servers = append(servers, c)
	}
	fill(c, 2)
	c.SwitchWAL()
	fill(c, 1)
	return servers
}

// readFollowing reads every timeline up to where it ends and the next one from
// the start of that segment on, and leaves out what it is told again.
func readFollowing(t *testing.T, servers []*pgtest.Cluster, o segment.ReaderOptions, h segment.History, end segment.LSN) []walRecord {
	t.Helper()
	w := &walRecords{t: t}
	r, err := segment.NewReader(o, w)
	if err != nil {
		t.Fatal(err)
	}
	size := o.Identity.Size
	at := firstSegment(t, servers[0], size)
	for i, c := range servers {
		timeline := segment.TimelineID(i + 1)
		r.SetHistory(segment.History{Timeline: timeline, Entries: h.Entries[:i]})
		_, last, _ := h.Bounds(timeline)
		for n := (segment.Name{Timeline: timeline, Number: size.Number(at)}); n.Start(size) < min(last, end); n = n.Next() {
			feed(t, r, c.WALFile(n.Format(size)), n, size, min(last, end))
		}
		if r.End() != min(last, end) {
			t.Errorf("timeline %d was read up to %s; want %s", timeline, r.End(), min(last, end))
		}
		at = size.Floor(last)
	}
	if len(w.unchecked) > 1 {
		t.Errorf("not checked: %v", w.unchecked)
	}
	return withoutRepeats(w.records)
}

// withoutRepeats drops what a Reader told a second time.
func withoutRepeats(records []walRecord) (once []walRecord) {
	for _, r := range records {
		for len(once) > 0 && once[len(once)-1].lsn >= r.lsn {
			once = once[:len(once)-1]
		}
		once = append(once, r)
	}
	return once
}

// readRecovering reads each segment of the newest timeline that has it.
func readRecovering(t *testing.T, servers []*pgtest.Cluster, o segment.ReaderOptions, end segment.LSN) []walRecord {
	t.Helper()
	w := &walRecords{t: t}
	r, err := segment.NewReader(o, w)
	if err != nil {
		t.Fatal(err)
	}
	size := o.Identity.Size
	for number := size.Number(firstSegment(t, servers[0], size)); size.Start(number) < end; number++ {
		timelines := o.History.Segment(number, size)
		n := segment.Name{Timeline: timelines[len(timelines)-1], Number: number}
		feed(t, r, servers[n.Timeline-1].WALFile(n.Format(size)), n, size, end)
	}
	if r.End() != end || len(w.unchecked) > 1 {
		t.Errorf("read up to %s; want %s; not checked: %v", r.End(), end, w.unchecked)
	}
	return w.records
}

// firstSegment is where the oldest segment of a server begins.
func firstSegment(t *testing.T, c *pgtest.Cluster, size segment.Size) segment.LSN {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(c.WALDir(), "00000001????????????????"))
	if err != nil || len(names) == 0 {
		t.Fatalf("no segments in %s: %v", c.WALDir(), err)
	}
	n, err := segment.ParseName(filepath.Base(names[0]), size)
	if err != nil {
		t.Fatal(err)
	}
	return n.Start(size)
}
