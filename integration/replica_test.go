package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/walrecv/walrecv/internal/pgtest"
)

// replicas are a primary with a receiver and a base backup, and the standbys that
// "walrecv backup restore" makes of it.
type replicas struct {
	t       *testing.T
	bin     string
	archive string
	writes  []string // what who writes to the archive needs, and who reads from it
	reads   []string
	p       *pgtest.Cluster
	r       *receiver
}

// newReplicas takes a backup whose WAL the primary then removes: whoever is made of
// it needs the archive, which is encrypted for the newest version.
func newReplicas(t *testing.T, major int) *replicas {
	t.Helper()
	takesBackups(t, major)
	rs := &replicas{t: t, bin: pgtest.Build(t), archive: newArchive(t)}
	if major == slices.Max(pgtest.Versions(t)) {
		ids, files := identityFiles(t, 1)
		pgtest.Give(t, filepath.Dir(files[0]))
		rs.writes, rs.reads = []string{"--encrypt-to", ids[0].Recipient().String()}, []string{"--decrypt-with", files[0]}
	}
	rs.p = pgtest.New(t, pgtest.Options{
		Major: major, WALSegmentSize: 1 << 20,
		// Replicas get them too; a receiver on one needs its slot.
		Settings: map[string]string{
			"max_wal_size": "2MB", "min_wal_size": "2MB", "autovacuum": "off", "wal_retrieve_retry_interval": "200ms",
		},
	})
	rs.p.Start()
	rs.p.Exec("create table mark(name text primary key)")
	rs.r = rs.receiver(rs.p, "--synchronous")
	first := walFile(rs.p)
	rs.backup(rs.p)
	mark(rs.p, "behind the backup")
	removed(rs.p, rs.r, first)
	return rs
}

// receiver starts one from a server into the archive.
func (rs *replicas) receiver(from *pgtest.Cluster, args ...string) *receiver {
	rs.t.Helper()
	return newReceiver(rs.t, from, slices.Concat(args, []string{"--archive", rs.archive, "--tail-interval", "200ms"}, rs.writes)...).start()
}

// backup takes a base backup of a server, from now on the newest.
func (rs *replicas) backup(of *pgtest.Cluster) {
	rs.t.Helper()
	args := append([]string{"backup", "create", "-d", of.ReplConn(), "--archive", rs.archive}, rs.writes...)
	code, stdout, stderr := pgtest.Run(rs.t, rs.bin, args...)
	if code != 0 {
		rs.t.Fatalf("backup create ended with %d: %s%s", code, stdout, stderr)
	}
}

// removed goes on until a primary has removed a segment, which the receiver has.
func removed(p *pgtest.Cluster, r *receiver, name string) {
	r.t.Helper()
	pgtest.Eventually(r.t, patience, func() bool {
		fill(p, 2)
		r.reaches(p, p.FlushLSN())
		p.Exec("checkpoint")
		_, err := os.Stat(p.WALFile(name))
		return os.IsNotExist(err)
	}, "the primary still has %s", name)
}

// restored restores the newest backup. The new server is not started.
func (rs *replicas) restored(settings map[string]string, args ...string) *pgtest.Cluster {
	rs.t.Helper()
	return rs.p.RestoredBy(rs.t, func(dir string) {
		all := slices.Concat([]string{"backup", "restore", "--archive", rs.archive, "--target-dir", dir}, rs.reads, args)
		if code, stdout, stderr := pgtest.Run(rs.t, rs.bin, all...); code != 0 {
			rs.t.Fatalf("%s: ended with %d: %s%s", all, code, stdout, stderr)
		}
	}, settings)
}

// from are the options for a standby that streams from a server under a name.
func from(c *pgtest.Cluster, name string, more ...string) []string {
	return append([]string{"--standby", "--primary-conninfo", fmt.Sprintf("host=%s port=%d user=postgres application_name=%s", c.SocketDir, c.Port, name)}, more...)
}

// hasRow waits until a server shows a row.
func hasRow(c *pgtest.Cluster, name string) {
	c.WaitFor(fmt.Sprintf("select count(*) from mark where name = '%s'", name), "1", patience)
}

// streamed waits until a server has standbys of these names that stream.
func streamed(c *pgtest.Cluster, names string) {
	c.WaitFor("select string_agg(application_name, ' ' order by application_name) from pg_stat_replication where state = 'streaming'", names, patience)
}

// content is all that the rows of a server are.
const content = "select count(*) || ' ' || coalesce(md5(string_agg(t::text, ' ' order by i)), '') || ' ' || " +
	"(select string_agg(name, ', ' order by name) from mark) from filling t"

// TestReplicas: of one base backup, standbys come up that stream without a slot beside
// a restore_command, by a slot without a restore_command, from the archive alone, and
// from another standby. They follow, stand beside walrecv in synchronous_standby_names,
// and are promoted.
func TestReplicas(t *testing.T) {
	t.Parallel()
	for _, major := range pgtest.FewVersions(t) {
		t.Run(fmt.Sprintf("pg%d", major), func(t *testing.T) {
			t.Parallel()
			rs := newReplicas(t, major)
			// Not before the backup: what the primary has removed by now is laid out.
			rs.p.Exec("select pg_create_physical_replication_slot('by_slot', true)")
			slotted := rs.restored(nil, from(rs.p, "slotted", "--slot", "by_slot")...)
			fed := rs.restored(nil, from(rs.p, "fed")...)
			delayed := rs.restored(map[string]string{"recovery_min_apply_delay": "1h"}, "--standby")
			cascaded := rs.restored(nil, from(fed, "cascaded")...)
			for _, c := range []*pgtest.Cluster{slotted, fed, delayed, cascaded} {
				c.Start()
			}
			streamed(rs.p, "fed slotted walrecv")
			streamed(fed, "cascaded")
			configured(t, slotted, fed, delayed)
			mark(rs.p, "streamed")
			for _, c := range []*pgtest.Cluster{slotted, fed, cascaded} {
				hasRow(c.With(t), "streamed")
			}
			synchronousNames(t, rs.p)
			leftBehind(rs, fed, cascaded)
			other := rs.receiver(slotted)
			promoted(t, rs, delayed, cascaded, fed, slotted)
			behindTheFork(rs, slotted, other)
		})
	}
}

// configured checks where the standbys get their WAL from.
func configured(t *testing.T, slotted, fed, delayed *pgtest.Cluster) {
	t.Helper()
	for _, want := range []struct {
		c                *pgtest.Cluster
		command, slot    bool
		conninfo, stream string
	}{
		{c: slotted, slot: true, stream: "by_slot"},
		{c: fed, command: true},
		{c: delayed, command: true},
	} {
		row := want.c.QueryRows("select current_setting('restore_command') <> '', current_setting('primary_slot_name'), " +
			"current_setting('primary_conninfo') <> '', current_setting('archive_mode')")[0]
		if (row[0] == "t") != want.command || row[1] != want.stream || (row[2] == "t") != (want.c != delayed) || row[3] != "off" {
			t.Errorf("settings: %q", row)
		}
	}
}

// synchronousNames: whatever stands in synchronous_standby_names beside walrecv or
// without it, commits return, and who they wait for is who is meant.
func synchronousNames(t *testing.T, p *pgtest.Cluster) {
	p = p.With(t)
	const states = "select string_agg(application_name || ' ' || sync_state, ', ' order by application_name) from pg_stat_replication"
	for _, tt := range []struct{ names, want string }{
		{"walrecv", "fed async, slotted async, walrecv sync"},
		{"FIRST 1 (walrecv, slotted)", "fed async, slotted potential, walrecv sync"},
		{"FIRST 1 (slotted, walrecv)", "fed async, slotted sync, walrecv potential"},
		{"FIRST 2 (walrecv, slotted, fed)", "fed potential, slotted sync, walrecv sync"},
		{"ANY 1 (walrecv, slotted)", "fed async, slotted quorum, walrecv quorum"},
		{"ANY 2 (*)", "fed quorum, slotted quorum, walrecv quorum"},
		{"FIRST 3 (*)", "fed sync, slotted sync, walrecv sync"},
		{"WalRecv", "fed async, slotted async, walrecv sync"},
		{"slotted", "fed async, slotted sync, walrecv async"},
	} {
		p.Set(map[string]string{"synchronous_standby_names": tt.names})
		p.Reload()
		p.WaitFor(states, tt.want, patience)
		mark(p, tt.names)
	}
	p.Set(map[string]string{"synchronous_standby_names": "*"})
	p.Reload()
	p.WaitFor("select string_agg(sync_state, ' ' order by sync_state) from pg_stat_replication", "potential potential sync", patience)
	mark(p, "*")
}

// leftBehind: a standby without a slot was down for so long that its primary has
// removed what it needs. It comes back by the archive, and streams again. With the
// other one down, walrecv is who a quorum is made of.
func leftBehind(rs *replicas, fed, cascaded *pgtest.Cluster) {
	rs.t.Helper()
	rs.p.Set(map[string]string{"synchronous_standby_names": "ANY 1 (walrecv, fed)"})
	rs.p.Reload()
	next := walFile(rs.p)
	fed.Stop(pgtest.Fast)
	mark(rs.p, "while it was down")
	removed(rs.p, rs.r, next)
	fed.Start()
	streamed(rs.p, "fed slotted walrecv")
	mark(rs.p, "streamed again")
	hasRow(fed, "streamed again")
	hasRow(cascaded, "streamed again")
}

// promoted: the primary is gone; every standby becomes one, with all rows. What they
// write then is nobody's but for the last one's, which has a receiver.
func promoted(t *testing.T, rs *replicas, delayed *pgtest.Cluster, others ...*pgtest.Cluster) {
	t.Helper()
	mark(rs.p, "the last")
	want := rs.p.Query(content)
	for _, c := range others {
		hasRow(c, "the last")
	}
	rs.r.flushed()
	rs.r.stop() // and so all is in the archive
	rs.p.Stop(pgtest.Immediate)
	if rows := delayed.Query("select count(*) from mark where name = 'streamed'"); rows != "0" {
		t.Error("recovery_min_apply_delay holds nothing back")
	}
	for _, c := range append([]*pgtest.Cluster{delayed}, others...) {
		c.Promote()
		if got := c.Query(content); got != want {
			t.Errorf("%q has %s\nthe primary had %s", c.Query("show primary_conninfo"), got, want)
		}
		mark(c, "promoted")
		checkHeapAndIndexes(t, c)
	}
}

// behindTheFork: the receiver on a standby goes along when that is promoted, and of
// the backup of the old timeline a replica of the new primary can be made, although
// that has no WAL from before any more.
func behindTheFork(rs *replicas, p *pgtest.Cluster, r *receiver) {
	rs.t.Helper()
	first := walFile(p)
	removed(p, r, first)
	p.Exec("select pg_create_physical_replication_slot('again', true)")
	again := rs.restored(nil, from(p, "again", "--slot", "again")...)
	again.Start()
	streamed(p, "again walrecv")
	mark(p, "behind the fork")
	hasRow(again, "behind the fork")
	if want, got := p.Query(content), again.Query(content); got != want {
		rs.t.Errorf("it has %s\nthe primary has %s", got, want)
	}
	ofAStandby(rs, p, again)
	again.Promote()
	checkHeapAndIndexes(rs.t, again)
	r.reaches(p, p.FlushLSN())
	r.stop()
	if v, text := verifyArchive(rs.t, rs.archive, 0, rs.reads...); len(v.Timelines) != 2 {
		rs.t.Error(text)
	}
}

// ofAStandby makes a primary of a standby's backup, which has the standby's settings and
// standby.signal, and the names of standbys that are not its own.
func ofAStandby(rs *replicas, p, standby *pgtest.Cluster) {
	rs.t.Helper()
	rs.backup(standby)
	c := rs.restored(map[string]string{"synchronous_standby_names": "FIRST 1 (walrecv, fed)"})
	c.Start()
	c.WaitFor("select pg_is_in_recovery()", "f", patience)
	if want, got := p.Query(content), c.Query(content); got != want {
		rs.t.Errorf("the restored primary has %s\nthe primary has %s", got, want)
	}
	mark(c, "nobody waits")
	checkHeapAndIndexes(rs.t, c)
}
