package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/pgtest"
	"github.com/walrecv/walrecv/segment"
)

// walRecord is a record as a segment.Reader and PostgreSQL's own programs tell
// of it.
type walRecord struct {
	lsn, end, prev segment.LSN
	length         int
	xid            uint32
	manager        string
	what           string // for the kinds of records that a Reader describes
}

// walRecords is a segment.Visitor that keeps all.
type walRecords struct {
	t         testing.TB
	records   []walRecord
	unchecked []string
}

func (w *walRecords) Segment(segment.LSN) {}

func (w *walRecords) Record(r *segment.Record) {
	what := ""
	switch r.Kind {
	case segment.CommitRecord:
		what = "commit " + r.Time().Format(walTime)
	case segment.AbortRecord:
		what = "abort " + r.Time().Format(walTime)
	case segment.RestorePoint:
		what = "restore point " + r.Name()
	case segment.SwitchRecord:
		what = "switch"
	case segment.OverwriteRecord:
		what = "overwrite"
	}
	if r.Transaction() != r.XID {
		what += fmt.Sprintf(" of %d", r.Transaction())
	}
	w.records = append(w.records, walRecord{
		lsn: r.LSN, end: r.End, prev: r.Prev, length: int(r.Length), xid: r.XID, manager: r.Manager.String(), what: what,
	})
}

func (w *walRecords) Fault(f segment.Fault) { w.t.Errorf("in sound WAL: %v", f) }

func (w *walRecords) Unchecked(from, to segment.LSN) {
	w.unchecked = append(w.unchecked, fmt.Sprintf("%s-%s", from, to))
}

// walTime is how the tests write times.
const walTime = "2006-01-02 15:04:05.000000"

func parseLSN(t testing.TB, text string) segment.LSN {
	t.Helper()
	l, err := segment.ParseLSN(text)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func decimal(t testing.TB, text string) uint64 {
	t.Helper()
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// readerOptions are those for the WAL of a cluster on timeline 1.
func readerOptions(t testing.TB, c *pgtest.Cluster) segment.ReaderOptions {
	t.Helper()
	return segment.ReaderOptions{
		Identity: segment.Identity{SystemID: decimal(t, c.SystemID()), Size: segment.Size(c.SegmentSize)},
		Major:    c.Major,
		History:  segment.History{Timeline: 1},
	}
}

// feed gives a Reader a segment up to a position, in pieces of an odd length.
func feed(t testing.TB, r *segment.Reader, path string, n segment.Name, size segment.Size, end segment.LSN) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := n.Start(size)
	data = data[:min(uint64(len(data)), uint64(end-at))]
	for piece := range slices.Chunk(data, 100_001) {
		r.Feed(at, piece)
		at += segment.LSN(len(piece))
	}
}

// readServer reads all WAL in the directory of a running server on timeline 1, up
// to what is flushed.
func readServer(t testing.TB, c *pgtest.Cluster) *walRecords {
	t.Helper()
	w := &walRecords{t: t}
	o := readerOptions(t, c)
	r, err := segment.NewReader(o, w)
	if err != nil {
		t.Fatal(err)
	}
	end := parseLSN(t, c.FlushLSN())
	first, err := segment.ParseName(slices.Min(sealedNames(t, c.WALDir())), o.Identity.Size)
	if err != nil {
		t.Fatal(err)
	}
	for n := first; n.Start(o.Identity.Size) < end; n = n.Next() {
		feed(t, r, c.WALFile(n.Format(o.Identity.Size)), n, o.Identity.Size, end)
	}
	if r.End() != end || len(w.unchecked) > 1 {
		t.Errorf("read up to %s; want %s; not checked: %v", r.End(), end, w.unchecked)
	}
	if major, known := r.Major(); major != c.Major || !known {
		t.Errorf("the WAL is of PostgreSQL %d, known: %v", major, known)
	}
	return w
}

// TestReaderAgreesWithServer makes WAL of all kinds and compares every record
// with what PostgreSQL's own reader says of it: the extension pg_walinspect, which
// there is from 15 on, and pg_waldump where the server's directory has it.
func TestReaderAgreesWithServer(t *testing.T) {
	for _, major := range pgtest.Versions(t) {
		t.Run(fmt.Sprintf("pg%d", major), func(t *testing.T) {
			c := pgtest.New(t, pgtest.Options{Major: major, WALSegmentSize: 1 << 20, Settings: map[string]string{
				"wal_level": "logical", "wal_keep_size": "10GB", "max_wal_size": "10GB", "checkpoint_timeout": "1h",
				"autovacuum": "off", "max_prepared_transactions": "10", "shared_buffers": "64MB", "track_commit_timestamp": "on",
			}})
			c.Start()
			writeAllKinds(t, c)
			loseEndOfRecord(t, c)
			c.Exec("insert into words select i, 'after the crash' from generate_series(1, 1000) i")
			c.SwitchWAL()
			c.Exec("checkpoint")
			got := readServer(t, c).records
			kinds := map[string]int{}
			for _, r := range got {
				kind, _, _ := strings.Cut(r.what, " ")
				kinds[kind]++
			}
			t.Logf("%d records: %v", len(got), kinds)
			for _, kind := range []string{"commit", "abort", "restore", "switch", "overwrite"} {
				if kinds[kind] == 0 {
					t.Errorf("no record of kind %s", kind)
				}
			}
			if major >= 15 {
				sameRecords(t, got, inspected(t, c, got[0].lsn, got[len(got)-1].end))
			}
			if dump := filepath.Join(pgtest.BinDir(t, major), "pg_waldump"); exists(dump) {
				want := dumped(t, dump, c, got[0].lsn, got[len(got)-1].end)
				for i := range got {
					got[i].end, got[i].what = 0, ""
				}
				sameRecords(t, got, want)
			} else if major == 15 {
				t.Error("no pg_waldump beside the server")
			}
		})
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// sameRecords compares record by record.
func sameRecords(t *testing.T, got, want []walRecord) {
	t.Helper()
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			t.Fatalf("record %d of %d:\n got %+v\nwant %+v", i, len(want), got[i], want[i])
		}
	}
	if len(got) != len(want) {
		t.Fatalf("%d records; want %d", len(got), len(want))
	}
	t.Logf("%d records are the same", len(got))
}

// writeAllKinds makes a server write records of as many kinds as SQL leads to.
func writeAllKinds(t testing.TB, c *pgtest.Cluster) {
	t.Helper()
	if c.Major >= 15 {
		c.Exec("create extension pg_walinspect")
	}
	for _, args := range [][]string{{"-i", "-q"}, {"-n", "-c", "4", "-j", "2", "-t", "250"}} {
		if code := c.Command(t, "pgbench", append(args, "postgres")...).Start().Wait(patience); code != 0 {
			t.Fatalf("pgbench ended with %d", code)
		}
	}
	for _, sql := range []string{
		"create table words(i int, t text, a int[], p point)",
		"insert into words select i, md5(i::text), array[i, i % 7], point(i, i % 100) from generate_series(1, 5000) i",
		"create index on words(i)", "create index on words using hash(t)", "create index on words using gin(a)",
		"create index on words using gist(p)", "create index on words using spgist(p)", "create index on words using brin(i)",
		"update words set t = t || 'x', p = point(i % 50, i) where i % 3 = 0", "delete from words where i % 5 = 0",
		"vacuum (analyze) words", "vacuum (freeze) pgbench_accounts", "vacuum full pgbench_tellers", "cluster words using words_i_idx",
		"create sequence s", "select nextval('s') from generate_series(1, 100)",
		"create table copied(t text)", "copy copied from program 'seq 1 10000'", "truncate copied", "reindex table words",
		"select pg_logical_emit_message(true, 'walrecv', repeat('0123456789', 100)), pg_logical_emit_message(false, 'walrecv', '')",
		"select pg_logical_emit_message(false, 'walrecv', repeat('0123456789', 350000))",
		"select count(pg_logical_emit_message(false, 'walrecv', repeat('x', i))) from generate_series(1, 9000, 7) i",
		"select pg_create_restore_point('before the migration')", "select pg_switch_wal()", "checkpoint",
		"begin; insert into words values (1, 'rolled back'); savepoint a; insert into words values (2); rollback to a; rollback",
		"begin; savepoint a; insert into words values (2); release a; savepoint b; insert into words values (3); commit",
		"begin; insert into words values (3, 'two phases'); prepare transaction 'one'", "commit prepared 'one'",
		"begin; insert into words values (3, 'two phases'); prepare transaction 'two'", "rollback prepared 'two'",
		"create table soon_gone as select i from generate_series(1, 100) i",
		// With subtransactions, files and statistics to be removed, and much for other sessions to forget.
		"begin; savepoint a; create table made(i int primary key); release a; savepoint b; insert into words values (4); release b; drop table soon_gone; prepare transaction 'three'",
		"commit prepared 'three'",
		"begin; savepoint a; create table unmade(i int primary key); release a; prepare transaction 'four'", "rollback prepared 'four'",
		"select pg_replication_origin_create('elsewhere')",
		`select pg_replication_origin_session_setup('elsewhere'); begin;
			select pg_replication_origin_xact_setup('0/1234', '2001-02-03 04:05:06.789+00'); insert into words values (4, 'origin'); commit`,
		"create role somebody", "create table many as select i, (select array_agg(j) from generate_series(1, 50) j) a from generate_series(1, 3000) i",
		"select i from many where i < 100 for update; select i from many where i < 100 for share", "create database another",
		"select count(lo_from_bytea(0, repeat('x', 10000)::bytea)) from generate_series(1, 20)", "drop table many", "checkpoint",
	} {
		c.Exec(sql)
	}
}

// loseEndOfRecord stops the server while the end of a long record is not on disk
// yet, so that the server has to abandon the record when it starts again.
func loseEndOfRecord(t testing.TB, c *pgtest.Cluster) {
	t.Helper()
	c.Exec("create table kept()")
	c.SwitchWAL()
	name := c.Query("select pg_walfile_name(pg_logical_emit_message(true, 'walrecv', repeat('0123456789', 20000)))")
	c.Stop(pgtest.Immediate)
	file, err := os.OpenFile(c.WALFile(name), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	const from = 8 * 8192 // the record of 200 kB goes on there
	if _, err := file.WriteAt(make([]byte, c.SegmentSize-from), from); err != nil {
		t.Fatal(err)
	}
	c.Start()
}

var timeInDescription = regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?\+00`)

// described finds the time in what the server says of a record.
func described(t testing.TB, description string) string {
	t.Helper()
	at, err := time.Parse("2006-01-02 15:04:05-07", timeInDescription.FindString(description))
	if err != nil {
		t.Fatalf("%s: %v", description, err)
	}
	return at.UTC().Format(walTime)
}

// preparedIn finds the transaction in what the server says of the end of a prepared one.
func preparedIn(description string) string {
	xid, _, _ := strings.Cut(description, ":")
	return " of " + xid
}

// inspected asks the server for its records.
func inspected(t testing.TB, c *pgtest.Cluster, from, to segment.LSN) (records []walRecord) {
	t.Helper()
	for _, row := range c.QueryRows(fmt.Sprintf(`select start_lsn, end_lsn, prev_lsn, record_length, xid, resource_manager, record_type,
		case when resource_manager in ('XLOG', 'Transaction') then description end from pg_get_wal_records_info('%s', '%s')`, from, to)) {
		r := walRecord{
			lsn: parseLSN(t, row[0]), end: parseLSN(t, row[1]), prev: parseLSN(t, row[2]),
			length: int(decimal(t, row[3])), xid: uint32(decimal(t, row[4])), manager: row[5],
		}
		switch kind := row[5] + " " + row[6]; kind {
		case "Transaction COMMIT":
			r.what = "commit " + described(t, row[7])
		case "Transaction ABORT":
			r.what = "abort " + described(t, row[7])
		case "Transaction COMMIT_PREPARED":
			r.what = "commit " + described(t, row[7]) + preparedIn(row[7])
		case "Transaction ABORT_PREPARED":
			r.what = "abort " + described(t, row[7]) + preparedIn(row[7])
		case "XLOG RESTORE_POINT":
			r.what = "restore point " + row[7]
		case "XLOG SWITCH":
			r.what = "switch"
		case "XLOG OVERWRITE_CONTRECORD":
			r.what = "overwrite"
		}
		records = append(records, r)
	}
	return records
}

var dumpLine = regexp.MustCompile(`^rmgr: (\S+) +len \(rec/tot\): +\d+/ *(\d+), tx: +(\d+), lsn: (\S+), prev (\S+), desc: `)

// dumped asks pg_waldump for the records from one position to another.
func dumped(t testing.TB, dump string, c *pgtest.Cluster, from, to segment.LSN) (records []walRecord) {
	t.Helper()
	code, stdout, stderr := pgtest.Run(t, dump, "--path", c.WALDir(), "--start", from.String(), "--end", to.String())
	if code != 0 {
		t.Fatalf("pg_waldump ended with %d: %s", code, stderr)
	}
	for line := range strings.Lines(stdout) {
		m := dumpLine.FindStringSubmatch(line)
		if m == nil {
			t.Fatalf("not a record: %s", line)
		}
		records = append(records, walRecord{
			manager: m[1], length: int(decimal(t, m[2])), xid: uint32(decimal(t, m[3])), lsn: parseLSN(t, m[4]), prev: parseLSN(t, m[5]),
		})
	}
	return records
}
