package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/pgtest"
	"github.com/walrecv/walrecv/segment"
)

// trio is three servers, one of them the primary, under pgbench, and a receiver
// that knows all three. No commit is answered before one of the standbys has it,
// so the one that is promoted lacks little that the receiver may have.
type trio struct {
	t        *testing.T
	servers  []*pgtest.Cluster
	primary  *pgtest.Cluster
	timeline segment.TimelineID
	receiver *receiver
	archive  string
	backup   string // of timeline 1
	first    string // segment that the receiver began with
	kept     string // directory for the segments of every primary
	load     *pgtest.Process
	moments  []moment
	took     []string // how long promotions were without WAL
}

func newTrio(t *testing.T, major int) *trio {
	t.Helper()
	tr := &trio{t: t, timeline: 1, kept: pgtest.TempDir(t), archive: newArchive(t)}
	tr.primary = pgtest.New(t, pgtest.Options{Major: major, WALSegmentSize: fileSize, Settings: map[string]string{
		"wal_keep_size": "10GB", "max_wal_size": "10GB", "autovacuum": "off",
		"wal_retrieve_retry_interval": "200ms",
	}})
	tr.primary.Start()
	if code := tr.primary.Command(t, "pgbench", "-i", "-q", "postgres").Start().Wait(patience); code != 0 {
		t.Fatalf("pgbench -i ended with %d", code)
	}
	tr.servers = []*pgtest.Cluster{tr.primary}
	for range 2 {
		s := tr.primary.Standby(t, map[string]string{"primary_slot_name": ""})
		tr.servers = append(tr.servers, s)
		s.Upstream(tr.primary)
		s.Reload()
	}
	names := make([]string, len(tr.servers))
	for i, s := range tr.servers {
		names[i] = s.Name()
	}
	for _, s := range tr.servers {
		s.Set(map[string]string{"synchronous_standby_names": "ANY 1 (" + strings.Join(names, ", ") + ")"})
		s.Reload()
	}
	tr.first = walFile(tr.primary)
	tr.receiver = tr.newReceiver().start()
	tr.backup = tr.primary.BaseBackup(t, "").Dir
	tr.startLoad()
	return tr
}

// newReceiver prepares a receiver of whichever server is the primary.
func (tr *trio) newReceiver(args ...string) *receiver {
	return newReceiver(tr.t, tr.primary, append([]string{
		"-d", allOf(tr.servers...) + " target_session_attrs=primary", "--archive", tr.archive, "-v",
	}, args...)...)
}

// allOf is a connection string with several servers.
func allOf(servers ...*pgtest.Cluster) string {
	var hosts, ports []string
	for _, s := range servers {
		hosts = append(hosts, "127.0.0.1")
		ports = append(ports, fmt.Sprint(s.Port))
	}
	return fmt.Sprintf("host=%s port=%s user=postgres", strings.Join(hosts, ","), strings.Join(ports, ","))
}

// startLoad runs pgbench on the primary, until the server is gone.
func (tr *trio) startLoad() {
	tr.load = tr.primary.Command(tr.t, "pgbench", "-c", "4", "-R", "300", "-T", "3600", "-n", "postgres").Start()
}

// committed waits for that many more transactions.
func (tr *trio) committed(n int) {
	tr.t.Helper()
	const count = "select count(*) from pgbench_history"
	before := tr.primary.Query(count)
	tr.primary.WaitFor(fmt.Sprintf("select (%s) >= %s + %d", count, before, n), "t", patience)
}

// standbys are the others that run.
func (tr *trio) standbys() (others []*pgtest.Cluster) {
	for _, s := range tr.servers {
		if s != tr.primary && s.Running() {
			others = append(others, s)
		}
	}
	return others
}

// end is a way in which a primary ends.
type end func(tr *trio)

// killed: at any moment, with what it has in its memory.
func killed(tr *trio) {
	tr.primary.Kill9()
	tr.load.Kill()
}

// killedLongAgo: the receiver waits as long as it ever does between two tries.
func killedLongAgo(tr *trio) {
	tr.t.Helper()
	const failure = "trying again until it works"
	before := len(tr.receiver.logged(failure))
	killed(tr)
	pgtest.Eventually(tr.t, patience, func() bool { return len(tr.receiver.logged(failure)) >= before+8 }, "it does not try again")
}

// switchedOver: in order, after all standbys and the receiver have everything.
func switchedOver(tr *trio) {
	tr.primary.Stop(pgtest.Fast)
	tr.load.Kill()
}

// onBorder: killed with no record behind the end of a segment.
func onBorder(tr *trio) {
	tr.t.Helper()
	tr.load.Kill()
	p := tr.primary
	p.WaitFor("select count(*) from pg_stat_activity where application_name = 'pgbench'", "0", patience)
	pgtest.Eventually(tr.t, patience, func() bool {
		p.SwitchWAL()
		p.WaitFor("select bool_and(flush_lsn = pg_current_wal_lsn()) from pg_stat_replication where application_name <> 'walrecv'", "t", patience)
		return p.Query("select (pg_current_wal_lsn() - '0/0') % 1048576") == "0"
	}, "the server does not rest at the end of a segment")
	p.Kill9()
}

// promote ends the primary and promotes the standby that has most.
func (tr *trio) promote(how end) {
	tr.t.Helper()
	old := tr.primary
	how(tr)
	tr.keep(old)
	next := tr.furthest()
	began := time.Now()
	next.Promote()
	promoted := time.Now()
	tr.primary = next
	tr.timeline++
	for _, s := range tr.standbys() {
		s.Upstream(next)
		s.Reload()
	}
	if tr.receiver.cluster = next; !tr.stopped() {
		tr.receives()
		tr.took = append(tr.took, fmt.Sprintf("%.1f (%.1f)", time.Since(promoted).Seconds(), time.Since(began).Seconds()))
		if d := time.Since(promoted); d > pgtest.Allow(15*time.Second) {
			tr.t.Errorf("streaming again only %s after the promotion", d)
		}
	}
	tr.startLoad()
}

// receives waits until the primary knows that the receiver streams from it.
func (tr *trio) receives() {
	tr.t.Helper()
	tr.primary.WaitFor(fmt.Sprintf("select count(*) from pg_stat_replication where application_name = 'walrecv' and flush_lsn >= '%s'",
		tr.primary.FlushLSN()), "1", patience)
}

// stopped tells whether the receiver is held still by SIGSTOP.
func (tr *trio) stopped() bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", tr.receiver.PID()))
	if err != nil {
		tr.t.Fatal(err)
	}
	_, state, _ := strings.Cut(string(stat), ") ")
	return strings.HasPrefix(state, "T")
}

// hold stops the receiver in the middle of whatever it does, until release.
func (tr *trio) hold() (release func()) {
	tr.t.Helper()
	tr.receiver.Signal(syscall.SIGSTOP)
	pgtest.Eventually(tr.t, patience, tr.stopped, "the receiver does not stop")
	return func() {
		tr.t.Helper()
		tr.receiver.Signal(syscall.SIGCONT)
		tr.receives()
	}
}

// furthest is the standby that is to be promoted.
func (tr *trio) furthest() *pgtest.Cluster {
	tr.t.Helper()
	var furthest *pgtest.Cluster
	var most segment.LSN
	for _, s := range tr.standbys() {
		s.WaitFor("select count(*) from pg_stat_wal_receiver where status = 'streaming'", "0", patience)
		at := parseLSN(tr.t, s.Query("select greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())"))
		if furthest == nil || at > most {
			furthest, most = s, at
		}
	}
	return furthest
}

// keep copies the WAL of a primary; see keepWAL.
func (tr *trio) keep(c *pgtest.Cluster) {
	tr.t.Helper()
	keepWAL(tr.t, tr.kept, c, tr.timeline)
}

// keepWAL copies the segments that a primary wrote on its timeline, before anything
// happens to them, and the history of it: a server that is rebuilt later has no
// older one.
func keepWAL(t testing.TB, dir string, c *pgtest.Cluster, timeline segment.TimelineID) {
	t.Helper()
	for _, name := range sealedNames(t, c.WALDir()) {
		if strings.HasPrefix(name, timeline.String()) {
			writeFile(t, filepath.Join(dir, name), readFile(t, c.WALFile(name)))
		}
	}
	if timeline > 1 {
		history := segment.HistoryName(timeline)
		writeFile(t, filepath.Join(dir, history), readFile(t, c.WALFile(history)))
	}
}

// rejoin brings every server back that is down, as a standby of the primary.
func (tr *trio) rejoin(prepare func(tr *trio, c *pgtest.Cluster)) {
	tr.t.Helper()
	for _, c := range tr.servers {
		if c.Running() {
			continue
		}
		prepare(tr, c)
		c.Follow(tr.primary)
		c.Start()
	}
	tr.primary.WaitFor(fmt.Sprintf("select count(*) from pg_stat_replication where application_name like 'port%%' and flush_lsn >= '%s'",
		tr.primary.FlushLSN()), "2", patience)
}

// asItIs suits a primary that was stopped in order.
func asItIs(*trio, *pgtest.Cluster) {}

// anew replaces the server by a base backup.
func anew(tr *trio, c *pgtest.Cluster) { c.Rebuild(tr.t, tr.primary) }

// rewound takes back what the server has and its primary has not. Until its first
// checkpoint a new primary says that it is on the old timeline.
func rewound(tr *trio, c *pgtest.Cluster) {
	tr.primary.Exec("checkpoint")
	code, out, errOut := pgtest.Run(tr.t, rewindOf(tr.t, c.Major),
		"--target-pgdata", c.DataDir, "--source-server", tr.primary.SocketConn("postgres"))
	if code != 0 {
		tr.t.Fatalf("pg_rewind ended with %d:\n%s%s", code, out, errOut)
	}
}
