package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/pgtest"
	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/storage/local"
)

// TestPatroni: one receiver follows a cluster of Patroni through a failover and
// a switchover, on the slot that Patroni makes on every new leader. The old
// leader is rewound with WAL of the archive, a new replica begins from it, and in
// the end the archive alone has the rows that the cluster has. It takes three
// servers and a minute: that is for the long form only.
func TestPatroni(t *testing.T) {
	if !pgtest.Long() {
		return
	}
	p := newPatroni(t)
	n1, n2, n3 := p.node("n1", "[basebackup]"), p.node("n2", "[basebackup]"), p.node("n3", "[basebackup]")
	n1.start()
	n1.WaitFor("select count(*) from pg_replication_slots where slot_name = 'walrecv'", "1", patience)
	n1.Exec("create role walrecv login replication password 'the-receiver'")
	n1.Exec("create table acked(row text primary key, filler text)")
	r := p.receive(n1)
	n1.BaseBackup(t, p.backup)
	n2.start().follows(n1)
	n3.start().follows(n1)
	load := startClientsOn(t, p.conninfo("postgres")+" dbname=postgres target_session_attrs=read-write", 4, 5*time.Millisecond)
	load.more(t, 500)

	archived, received, acknowledged := p.fail(n1, r, load)
	leader := p.newLeader(n2, n3)
	leader.leads()
	lost := missing(leader.Cluster, acknowledged)
	t.Logf("failover to %s: %d of %d acknowledged rows never reached it", leader.name, len(lost), len(acknowledged))
	if len(lost) == 0 {
		t.Error("walrecv was not ahead of the new leader")
	}
	if n := len(missing(leader.Cluster, archived)); n > 0 {
		t.Errorf("%d rows that were archived are not on the new leader, which should have asked the archive", n)
	}
	load.more(t, 500)

	n1.start().follows(leader)
	p.checkRewound(n1)
	leader.SwitchWAL()
	load.more(t, 500)

	p.ctl("switchover", "walrecv", "--leader", leader.name, "--candidate", "n1", "--force")
	n1.leads()
	acknowledged = load.rows()
	if now := missing(n1.Cluster, acknowledged); !slices.Equal(now, lost) {
		t.Errorf("%d of %d acknowledged rows are missing after a planned switchover, %d were before", len(now), len(acknowledged), len(lost))
	}
	leader.follows(n1)
	load.more(t, 500)

	n4 := p.node("n4", "[archive]").start()
	n4.follows(n1)
	for _, timeline := range []string{"00000001", "00000002", "00000003"} {
		if !strings.Contains(n4.log(), `restored log file "`+timeline+"00") {
			t.Errorf("the new replica has restored no segment of timeline %s", timeline)
		}
	}
	load.more(t, 500)

	load.stop()
	last := walFile(n1.Cluster)
	n1.SwitchWAL()
	n := archivedLikeServer(t, n1.Cluster, p.archive, last[:8], last)
	t.Logf("%d rows acknowledged, %d segments of the last leader compared", len(load.rows()), n)
	p.checkWhole(n1)
	p.checkRecovered(n1)
	p.checkAbandoned(received)
	for _, rec := range r.alarms() {
		t.Log(strings.TrimSpace(rec.text))
	}
	r.stop()
}

// fail kills the leader, with its Patroni, when its standbys are cut off: a
// complete segment is only in the archive, the rows after it only in walrecv's
// spool, and the leader has removed WAL that a rewind needs. It returns the rows
// that were acknowledged in what the archive has, in what walrecv has, and all.
func (p *patroni) fail(leader *patroniNode, r *receiver, load *clients) (archived, received, acknowledged []string) {
	p.t.Helper()
	leader.Exec("checkpoint") // the last one that the new leader will know of
	emit(leader.Cluster, 40<<10)
	leader.WaitFor("select bool_and(flush_lsn >= pg_current_wal_flush_lsn() - 100000) from pg_stat_replication", "t", patience)
	for _, row := range leader.QueryRows("select pid from pg_stat_replication where application_name <> 'walrecv'") {
		pid, err := strconv.Atoi(row[0])
		if err != nil {
			p.t.Fatal(err)
		}
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			p.t.Fatal(err)
		}
	}
	load.more(p.t, 100)
	archived = load.rows()
	sealed := object(leader.Cluster, p.archive, leader.SwitchWAL())
	pgtest.Eventually(p.t, patience, func() bool {
		_, err := os.Stat(sealed)
		return err == nil
	}, "%s does not appear", sealed)
	load.more(p.t, 100)
	leader.Exec("checkpoint")
	received = load.rows()
	r.flushed()
	leader.process.Kill()
	return archived, received, load.rows()
}

// checkRewound looks for the segments that pg_rewind has asked the archive for:
// it gives restore_command the full path of the segment itself.
func (p *patroni) checkRewound(n *patroniNode) {
	p.t.Helper()
	if !strings.Contains(n.log(), "pg_rewind exit code=0") {
		p.t.Error("pg_rewind has not run, or failed")
	}
	asked := 0
	for line := range strings.Lines(string(readFile(p.t, p.asked))) {
		file, path, _ := strings.Cut(strings.TrimSpace(line), " ")
		if path == n.WALFile(file) {
			asked++
		}
	}
	p.t.Logf("pg_rewind has asked the archive for %d segments", asked)
	if asked == 0 {
		p.t.Errorf("pg_rewind needed nothing of the archive:\n%s", n.log())
	}
}

// checkWhole looks for holes in the archive, over all timelines.
func (p *patroni) checkWhole(leader *patroniNode) {
	p.t.Helper()
	id, err := strconv.ParseUint(leader.SystemID(), 10, 64)
	if err != nil {
		p.t.Fatal(err)
	}
	a, err := archive.Open(p.t.Context(), local.New(vfs.OS(), p.archive, local.Private), id, archive.Keys{})
	if err != nil {
		p.t.Fatal(err)
	}
	listing, err := a.Listing(p.t.Context())
	if err != nil {
		p.t.Fatal(err)
	}
	histories, damaged, err := a.Histories(p.t.Context(), listing)
	if err != nil {
		p.t.Fatal(err)
	}
	chain := archive.NewChain(listing, histories, damaged, nil)
	for _, b := range chain.Branches {
		if b.Problem != nil || len(b.Holes) > 0 {
			p.t.Errorf("timeline %d: %v, holes %v", b.Timeline, b.Problem, b.Holes)
		}
	}
	window, ok := chain.Window(chain.Current().Timeline)
	if !ok || len(window.Spans) != 3 || window.Spans[0].Timeline != 1 {
		p.t.Errorf("the archive can be recovered over %+v, not over three timelines", window.Spans)
	}
	code, out, errOut := pgtest.Run(p.t, p.bin, "verify", "--archive", p.archive, "--deep")
	p.t.Logf("walrecv verify --deep: %d\n%s%s", code, out, errOut)
	if code != 0 {
		p.t.Error("the archive is not sound")
	}
}

// checkRecovered recovers to the end, and compares all rows with the leader's.
func (p *patroni) checkRecovered(leader *patroniNode) {
	p.t.Helper()
	n := p.recover("latest")
	const all = "select row, md5(filler) from acked order by row"
	want, got := leader.QueryRows(all), n.QueryRows(all)
	if !slices.EqualFunc(want, got, slices.Equal) {
		p.t.Errorf("the archive has %d rows, the leader %d, and they differ", len(got), len(want))
	}
	checkHeapAndIndexes(p.t, n)
}

// checkAbandoned recovers to the end of the first timeline: there are the rows
// that the failover lost.
func (p *patroni) checkAbandoned(received []string) {
	p.t.Helper()
	n := p.recover("1")
	if lost := missing(n, received); len(lost) > 0 {
		p.t.Errorf("%d of %d rows of the old timeline are not in the archive", len(lost), len(received))
	}
	checkHeapAndIndexes(p.t, n)
}

// recover starts from the first base backup and the archive alone.
func (p *patroni) recover(timeline string) *pgtest.Cluster {
	p.t.Helper()
	n := p.nodes[0].Restore(p.t, p.backup, pgtest.RecoverySignal, map[string]string{
		"restore_command": p.restoreCommand(), "recovery_target_timeline": timeline,
	})
	writeFile(p.t, filepath.Join(n.DataDir, "postgresql.conf"), []byte("include 'pgtest.conf'\n"))
	n.Start()
	n.WaitFor("select pg_is_in_recovery()", "f", patience)
	return n
}

// TestPatroniDocumentation: what is documented is what is tested.
func TestPatroniDocumentation(t *testing.T) {
	documented := string(readFile(t, filepath.Join(pgtest.ModuleRoot(t), "docs", "patroni.md")))
	for _, text := range []string{
		"restore_command = '" + restoreCommand("walrecv", "--archive /srv/walrecv") + "'",
		"walrecv receive " + strings.Join(patroniReceive, " "),
	} {
		if !strings.Contains(documented, text) {
			t.Errorf("docs/patroni.md lacks: %s", text)
		}
	}
	tested := map[string]bool{}
	for line := range strings.Lines(string(readFile(t, patroniTemplate))) {
		tested[setting(line)] = true
	}
	lines := 0
	for i, block := range strings.Split(documented, "```yaml\n") {
		block, _, _ = strings.Cut(block, "```")
		for line := range strings.Lines(block) {
			if i > 0 && !tested[setting(line)] {
				t.Errorf("docs/patroni.md has a setting that is not tested: %s", line)
			}
			lines += min(i, 1)
		}
	}
	if lines == 0 {
		t.Error("docs/patroni.md has no configuration")
	}
}

// setting is a line of a configuration, without where files are.
func setting(line string) string {
	key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
	if strings.Contains(value, "/") {
		value = "a path"
	}
	return fmt.Sprintf("%s: %s", key, value)
}
