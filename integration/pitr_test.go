package integration

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/pgtest"
	"github.com/walrecv/walrecv/internal/status"
	"github.com/walrecv/walrecv/segment"
)

// pitr is a cluster under pgbench that is twice restored to a point in its past and
// goes on from there, with an archive of all three timelines.
type pitr struct {
	*testing.T
	rng     *rand.Rand
	archive string
	lines   []*pitrLine // by timeline, 1 first
	backups []string    // IDs; the first is of timeline 1, the second of timeline 2
}

// pitrLine is one timeline: all that its server wrote.
type pitrLine struct {
	timeline segment.TimelineID
	server   *pgtest.Cluster // which is down
	fork     segment.LSN     // where it left the timeline before
	end      segment.LSN
	records  []pitrRecord      // of the whole way, from before there were any rows
	rows     map[uint32]string // that the server had in the end, by the transaction that made them
}

// pitrRecord is a record, by PostgreSQL's own reader.
type pitrRecord struct {
	at, end segment.LSN
	xid     uint32 // whose end it is; 0: of none
	commit  bool
	prepare bool      // of a transaction, which is committed later
	time    time.Time // of the end of a transaction
	point   string    // name of a restore point
}

// TestPointInTimeRecovery restores three timelines to times, positions, transactions,
// restore points and the end of a base backup, and compares the rows with those whose
// commits stand in front of that point in the WAL.
func TestPointInTimeRecovery(t *testing.T) {
	t.Parallel()
	for _, major := range pgtest.FewVersions(t) {
		t.Run(fmt.Sprintf("pg%d", major), func(t *testing.T) {
			takesBackups(t, major)
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			p := &pitr{T: t, rng: rand.New(rand.NewPCG(seed, 0)), archive: newArchive(t)}
			p.makeTimelines(major)
			p.targets()
			p.refused()
			p.drilled()
		})
	}
}

// makeTimelines has three servers work, one after the other.
func (p *pitr) makeTimelines(major int) {
	one := small(p, major, map[string]string{"max_prepared_transactions": "5", "shared_buffers": "16MB"})
	began := parseLSN(p, one.Query("select pg_current_wal_insert_lsn()"))
	one.Exec("create extension pg_walinspect; create extension amcheck; create table pitr(xid bigint primary key, at timestamptz, value float8)")
	p.work(one, &pitrLine{timeline: 1, fork: began})
	first := p.lines[0]

	two := p.restored(p.T, one, "--target-xid", p.pending(first).xidText(), "--target-action", "promote")
	p.goesOn(two, 2)
	second := p.lines[1]

	three := p.restored(p.T, one, "--target-time", p.pending(second).time.Format(time.RFC3339Nano), "--target-action", "promote")
	p.goesOn(three, 3)
}

// goesOn has a restored server work on its new timeline.
func (p *pitr) goesOn(c *pgtest.Cluster, timeline segment.TimelineID) {
	p.Helper()
	c.WaitFor("select pg_is_in_recovery()", "f", patience)
	p.work(c, &pitrLine{timeline: timeline, fork: forkOf(p.T, c, timeline)})
}

// work runs pgbench on a server, and whatever else a target can name, until the archive
// has all of it. Then server and receiver end.
func (p *pitr) work(c *pgtest.Cluster, l *pitrLine) {
	p.Helper()
	r := newReceiver(p, c, "--archive", p.archive, "--tail-interval", "100ms", "--accept-branch").start()
	load := p.load(c)
	count := "select count(*) from pitr"
	more := func(n int) {
		p.Helper()
		c.WaitFor(fmt.Sprintf("select (%s) >= %s + %d", count, c.Query(count), n), "t", patience)
	}
	more(30)
	if l.timeline < 3 {
		p.backup(c)
	}
	more(50)
	c.Exec(fmt.Sprintf("select pg_create_restore_point('point ''%d''')", l.timeline))
	more(30)
	// By another name each time: what was prepared can be there still after a restore.
	c.Exec(fmt.Sprintf("begin; insert into pitr values (pg_current_xact_id()::text::bigint, clock_timestamp(), -1); prepare transaction '%d'", l.timeline))
	more(10)
	c.Exec(fmt.Sprintf("commit prepared '%d'", l.timeline))
	emit(c, 1500) // another segment
	more(50)
	load.Kill()
	c.WaitFor("select count(*) from pg_stat_activity where application_name = 'pgbench'", "0", patience)
	// The last of all: what was rolled back in front of it is on disk only then.
	c.Exec(fmt.Sprintf("create table ended%d()", l.timeline))
	p.learn(c, l)
	p.archived(l)
	r.stop()
	c.Stop(pgtest.Immediate)
}

// load runs transactions that make one row each, or none.
func (p *pitr) load(c *pgtest.Cluster) *pgtest.Process {
	p.Helper()
	dir := newDir(p)
	insert := "insert into pitr values (pg_current_xact_id()::text::bigint, clock_timestamp(), random());\n"
	commit, abort := filepath.Join(dir, "commit.sql"), filepath.Join(dir, "abort.sql")
	writeFile(p, commit, []byte(insert))
	writeFile(p, abort, []byte("begin;\n"+insert+"rollback;\n"))
	return c.Command(p, "pgbench", "-n", "-c", "4", "-R", "200", "-T", "3600", "-f", commit+"@9", "-f", abort+"@1", "postgres").Start()
}

// backup takes a base backup.
func (p *pitr) backup(c *pgtest.Cluster) {
	p.Helper()
	code, _, stderr := pgtest.Run(p, pgtest.Build(p), "backup", "create", "-d", c.ReplConn(), "--archive", p.archive)
	if code != 0 {
		p.Fatalf("backup create ended with %d: %s", code, stderr)
	}
	all := p.status().Backups
	p.backups = append(p.backups, all[len(all)-1].ID)
}

func (p *pitr) status() (r status.Report) {
	p.Helper()
	code, stdout, stderr := pgtest.Run(p, pgtest.Build(p), "status", "--json", "--archive", p.archive)
	if code != 0 {
		p.Fatalf("status ended with %d: %s", code, stderr)
	}
	if err := json.Unmarshal([]byte(stdout), &r); err != nil {
		p.Fatal(err)
	}
	return r
}

var preparedInDescription = regexp.MustCompile(`^(\d+): `)

// learn asks a server that is idle what it wrote.
func (p *pitr) learn(c *pgtest.Cluster, l *pitrLine) {
	p.Helper()
	l.server = c
	l.end = parseLSN(p, c.FlushLSN())
	l.rows = map[uint32]string{}
	for _, row := range c.QueryRows("select xid, value from pitr") {
		l.rows[uint32(decimal(p, row[0]))] = row[0] + "=" + row[1]
	}
	if n := len(p.lines); n > 0 {
		for _, r := range p.lines[n-1].records {
			if r.at < l.fork {
				l.records = append(l.records, r)
			}
		}
	}
	for _, row := range c.QueryRows(fmt.Sprintf(`select start_lsn, end_lsn, xid, resource_manager || ' ' || record_type,
		case when resource_manager in ('XLOG', 'Transaction') then description end from pg_get_wal_records_info('%s', '%s')`, l.fork, l.end)) {
		r := pitrRecord{at: parseLSN(p, row[0]), end: parseLSN(p, row[1])}
		switch row[3] {
		case "Transaction COMMIT", "Transaction ABORT", "Transaction COMMIT_PREPARED", "Transaction ABORT_PREPARED":
			xid := row[2]
			if m := preparedInDescription.FindStringSubmatch(row[4]); m != nil {
				xid = m[1]
			}
			r.xid, r.commit = uint32(decimal(p, xid)), strings.HasPrefix(row[3], "Transaction COMMIT")
			var err error
			if r.time, err = time.Parse(walTime, described(p, row[4])); err != nil {
				p.Fatal(err)
			}
		case "Transaction PREPARE":
			r.prepare = true
		case "XLOG RESTORE_POINT":
			r.point = row[4]
		}
		l.records = append(l.records, r)
	}
	p.lines = append(p.lines, l)
}

// archived waits until the archive has what a server wrote.
func (p *pitr) archived(l *pitrLine) {
	p.Helper()
	pgtest.Eventually(p, patience, func() bool {
		w := p.status().Recoverable
		return len(w) > 0 && w[len(w)-1].Timeline == uint32(l.timeline) && w[len(w)-1].End >= l.end
	}, "the archive does not get up to %s", l.end)
}

// pick is a commit of a row, on a line's own timeline, after some part of it.
func (p *pitr) pick(l *pitrLine, part float64) pitrRecord {
	p.Helper()
	var commits []pitrRecord
	for _, r := range l.records {
		if r.commit && r.at >= l.fork && l.rows[r.xid] != "" {
			commits = append(commits, r)
		}
	}
	// Of those by the end the time need not be followed by a later one.
	i := min(int(part*float64(len(commits)))+p.rng.IntN(5), len(commits)-10)
	return commits[i]
}

// pending is a commit on a line while a transaction is prepared. A recovery over the fork
// of a timeline that begins there needs that transaction's record, from the parent's
// segment with the fork in it.
func (p *pitr) pending(l *pitrLine) pitrRecord {
	p.Helper()
	prepared := segment.MaxLSN
	for _, r := range l.records {
		if r.prepare && r.at >= l.fork {
			prepared = r.at
		}
		if r.at > prepared && r.commit && l.rows[r.xid] != "" {
			return r
		}
	}
	p.Fatal("nothing was committed while a transaction was prepared")
	return pitrRecord{}
}

func (r pitrRecord) xidText() string { return strconv.FormatUint(uint64(r.xid), 10) }

// restored is a server on what "walrecv backup restore" has laid out, which has begun
// to recover.
func (p *pitr) restored(t testing.TB, like *pgtest.Cluster, args ...string) *pgtest.Cluster {
	t.Helper()
	n := like.RestoredBy(t, func(dir string) {
		if code, _, stderr := p.restore(t, dir, args...); code != 0 {
			t.Fatalf("backup restore %q ended with %d: %s", args, code, stderr)
		}
	}, nil)
	n.Start()
	return n
}

func (p *pitr) restore(t testing.TB, dir string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	return pgtest.Run(t, pgtest.Build(t), append([]string{"backup", "restore", "--archive", p.archive, "--target-dir", dir}, args...)...)
}

// before says which rows there are if a timeline is replayed up to a position.
func (l *pitrLine) before(stop segment.LSN) string {
	var rows []string
	for _, r := range l.records {
		if row := l.rows[r.xid]; r.commit && r.at < stop && row != "" {
			rows = append(rows, row)
		}
	}
	slices.Sort(rows)
	return strings.Join(rows, " ")
}

// pitrTarget is a point to restore, and where PostgreSQL must stop then.
type pitrTarget struct {
	name string
	args []string
	line *pitrLine
	stop segment.LSN // in front of the first record that is not replayed
}

// of gives a target on a line, with its timeline and whatever else there is to say.
func (l *pitrLine) of(kind, value string, stop segment.LSN, args ...string) pitrTarget {
	args = append([]string{"--target-" + kind, value}, args...)
	if value == "" {
		args = append([]string{"--target-" + kind}, args[2:]...)
	}
	return pitrTarget{fmt.Sprintf("timeline %d, %s", l.timeline, kind), args, l, stop}
}

// atTime stops in front of the first transaction that ended later.
func (l *pitrLine) atTime(t time.Time, args ...string) pitrTarget {
	for _, r := range l.records {
		if r.xid != 0 && r.time.After(t) {
			return l.of("time", t.Format(time.RFC3339Nano), r.at, args...)
		}
	}
	panic("no transaction ended after " + t.String())
}

// atLSN stops behind the first record that begins there or later.
func (l *pitrLine) atLSN(at segment.LSN, args ...string) pitrTarget {
	for _, r := range l.records {
		if r.at >= at {
			return l.of("lsn", at.String(), r.end, args...)
		}
	}
	panic("no record begins behind " + at.String())
}

func (l *pitrLine) atXID(r pitrRecord, args ...string) pitrTarget {
	return l.of("xid", r.xidText(), r.end, args...)
}

func (l *pitrLine) atPoint(t testing.TB, args ...string) pitrTarget {
	name := fmt.Sprintf("point '%d'", l.timeline)
	for _, r := range l.records {
		if r.point != "" && strings.Contains(r.point, name) {
			return l.of("name", name, r.end, args...)
		}
	}
	t.Fatalf("no restore point %q", name)
	return pitrTarget{}
}

// targets restores points of all kinds on all timelines.
func (p *pitr) targets() {
	one, two, three := p.lines[0], p.lines[1], p.lines[2]
	last := three.records[len(three.records)-1]
	prepared := p.prepared(two)
	targets := []pitrTarget{
		one.atPoint(p, "--target-timeline", "1"),
		one.atTime(p.pick(one, 0.9).time, "--target-timeline", "1"), // which was left before
		one.of("immediate", "", p.backupEnd(0), "--target-timeline", "current", "--backup", p.backups[0]),
		two.atXID(prepared, "--target-timeline", "2"),
		two.atLSN(p.pick(two, 0.6).end, "--target-timeline", "2", "--backup", p.backups[0]),
		three.atTime(p.pick(three, 0.3).time),
		three.atXID(p.pick(three, 0.5), "--backup", p.backups[0]),
		three.atPoint(p, "--target-timeline", "3"),
		three.atLSN(last.at), // the last record that there is, in the tail
	}
	if pgtest.Long() {
		for _, l := range p.lines {
			timeline := []string{"--target-timeline", fmt.Sprint(uint32(l.timeline))}
			for range 3 {
				r := p.pick(l, 0.5+p.rng.Float64()/2)
				targets = append(targets, l.atTime(r.time, timeline...), l.atTime(r.time.Add(-time.Microsecond), timeline...), l.atXID(r, timeline...),
					l.atLSN(r.at, timeline...), l.atLSN(r.at+1, timeline...), l.atLSN(r.end, timeline...))
			}
			targets = append(targets, l.atPoint(p, timeline...), l.atXID(p.prepared(l), timeline...))
		}
		targets = append(targets, two.of("immediate", "", p.backupEnd(1), "--backup", p.backups[1]))
	}
	for i, target := range targets {
		p.Run(fmt.Sprintf("%d: %s", i, target.name), func(t *testing.T) {
			n := p.restored(t, p.lines[0].server, target.args...)
			defer n.Destroy()
			n.WaitFor("select pg_get_wal_replay_pause_state()", "paused", patience)
			got := n.Query("select string_agg(row, ' ' order by row collate \"C\") from (select xid || '=' || value as row from pitr) r")
			if want := target.line.before(target.stop); got != want {
				t.Errorf("%q: %d rows, want %d, those before %s: %s", target.args, strings.Count(got, "="), strings.Count(want, "="), target.stop, missed(got, want))
			}
			check := n.Command(t, "pg_amcheck", "--heapallindexed", "--no-dependent-indexes", "postgres").Start()
			if code := check.Wait(patience); code != 0 {
				t.Errorf("pg_amcheck ended with %d: %s%s", code, check.Stdout(), check.Stderr())
			}
		})
	}
}

// drilled has a drill go over both forks. It shows that the commit in front of the last
// fork is there.
func (p *pitr) drilled() {
	p.Helper()
	fork := p.pending(p.lines[1])
	code, stdout, stderr := pgtest.Run(p, pgtest.Build(p), "drill", "--archive", p.archive, "--backup", p.backups[0],
		"--target-name", "point '3'", "--target-action", "pause", // only a server that can be asked before looks for what is prepared
		"--pg-bindir", pgtest.BinDir(p, p.lines[0].server.Major),
		"--check", "select count(*) = 1 from pitr where xid = "+fork.xidText())
	if code != 0 {
		p.Errorf("drill ended with %d: %s%s", code, stdout, stderr)
	}
}

// missed lists some of the rows by which two lists differ.
func missed(got, want string) string {
	is, should := strings.Fields(got), strings.Fields(want)
	only := func(a, b []string) []string {
		rest := slices.DeleteFunc(slices.Clone(a), func(row string) bool { return slices.Contains(b, row) })
		return rest[:min(len(rest), 5)]
	}
	return fmt.Sprintf("too many are %q, missing are %q", only(is, should), only(should, is))
}

// prepared is the end of the transaction that was prepared on a line.
func (p *pitr) prepared(l *pitrLine) pitrRecord {
	p.Helper()
	for _, r := range slices.Backward(l.records) {
		if strings.HasSuffix(l.rows[r.xid], "=-1") {
			return r
		}
	}
	p.Fatal("nothing was prepared")
	return pitrRecord{}
}

// backupEnd is where a base backup is consistent.
func (p *pitr) backupEnd(i int) segment.LSN {
	p.Helper()
	for _, b := range p.status().Backups {
		if b.ID == p.backups[i] {
			return b.EndLSN
		}
	}
	p.Fatalf("base backup %s is gone", p.backups[i])
	return 0
}

// refused asks for what cannot be: nothing is written then, and what can be is said.
func (p *pitr) refused() {
	three := p.lines[2]
	var first, last time.Time
	for _, r := range three.records {
		if first.IsZero() {
			first = r.time
		}
		if r.time.After(last) {
			last = r.time
		}
	}
	backupEnd := p.backupEnd(0)
	for _, tt := range []struct{ args, text string }{
		{"--target-lsn " + (backupEnd - 1).String(), "is consistent only from " + backupEnd.String()},
		{"--target-lsn " + p.backupEnd(1).String() + " --target-timeline 1 --backup " + p.backups[1], "is not on the way to timeline 1"},
		{"--target-lsn " + (three.end + 1<<20).String(), "no record begins there or later"},
		{"--target-time " + first.Format(time.RFC3339Nano), "ended later"},
		{"--target-time " + last.Format(time.RFC3339Nano), "no transaction ended after that"},
		{"--target-xid 4000000000", "is not in the WAL"},
		{"--target-name nobody", "is not in the WAL"},
		{"--target-timeline 4 --target-immediate", "no history of timeline 4"},
		{"--target-timeline 2 --target-name point", "is not in the WAL"},
	} {
		dir := filepath.Join(newDir(p), "data")
		code, _, stderr := p.restore(p, dir, strings.Fields(tt.args)...)
		if code != 1 || !strings.Contains(stderr, tt.text) || !strings.Contains(stderr, "recoverable is on timeline") || exists(dir) {
			p.Errorf("backup restore %s: ended with %d, a directory %v: %s; want %q", tt.args, code, exists(dir), stderr, tt.text)
		}
	}
}
