package integration

import (
	"fmt"
	"maps"
	"path/filepath"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/pgtest"
)

const (
	hour = time.Hour
	day  = 24 * hour
)

// Each alert fires in the situation that it is for, and in no other.
func TestAlerts(t *testing.T) {
	t.Parallel()
	takesBackups(t, pgtest.Version(t))
	var all alerts
	t.Run("situations", func(t *testing.T) {
		for name, situations := range map[string]func(*testing.T, *alerts){
			"archive": alertsOfArchive, "server": alertsOfServer, "slot": alertsOfSlot,
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				situations(t, &all)
			})
		}
	})
	if !t.Failed() {
		all.run(t)
	}
}

func positive(v float64) bool { return v > 0 }

// alertsOfArchive are situations of an archive, of its base backups and drills, and of
// the spool.
func alertsOfArchive(t *testing.T, a *alerts) {
	c := small(t, pgtest.Version(t), nil)
	b := &backups{t: t, bin: pgtest.Build(t), c: c}
	b.url = newArchive(t)
	r := watched(newReceiver(t, c, "--archive", b.url, "--tail-interval", "100ms"), "--slot-stats").start()
	settled := func() {
		t.Helper()
		r.flushed()
		r.metricBecomes("slot_known", is(1))
		r.metricBecomes("oldest_unarchived_seconds", is(0))
	}
	again := func(metric string) { // what the archive says of restores is not looked at all the time
		t.Helper()
		r.stop()
		r.start()
		settled()
		r.metricBecomes(metric, positive)
	}
	emit(c, 1500)
	settled()
	r.metricBecomes("archived_lsn", positive)
	a.add(situation{name: "new"}, r)
	a.add(situation{name: "never a backup", lasts: 25 * hour, fires: firing{"WalrecvNoBackup": day}}, r)

	b.create(c)
	again("last_backup_timestamp_seconds")
	a.add(situation{name: "a first backup"}, r)
	a.add(situation{name: "never a drill", lasts: 25 * hour, fires: firing{"WalrecvNoDrill": day}}, r)
	a.add(situation{name: "no backup for days", aged: 47 * hour, lasts: 2 * hour, fires: firing{"WalrecvBackupOld": 71 * time.Minute}}, r)

	w := &drillable{c: c}
	w.drill(t, b.url, "--check", "select false").Start().Wait(patience)
	again("last_drill_timestamp_seconds")
	a.add(situation{name: "a drill that failed", fires: firing{"WalrecvDrillFailed": 0}}, r)

	w.drill(t, b.url).run(0)
	again("last_drill_success")
	emit(c, 1500)
	settled()
	r.metricBecomes("sealed_lsn", positive)
	a.add(situation{name: "all is well", lasts: 25 * hour}, r)
	r.exports()
	a.add(situation{name: "a drill last week", aged: 7 * day, fires: firing{"WalrecvBackupOld": 10 * time.Minute}}, r)
	a.add(situation{name: "no drill for days", aged: 8*day - hour, lasts: 2 * hour, fires: firing{"WalrecvBackupOld": 10 * time.Minute, "WalrecvDrillOld": 71 * time.Minute}}, r)

	rename(t, b.url, b.url+".away")
	emit(c, 1500)
	r.flushed()
	r.metricBecomes("oldest_unarchived_seconds", positive)
	a.add(situation{name: "archive away", fires: firing{"WalrecvNotArchiving": 7 * time.Minute}}, r)
	rename(t, b.url+".away", b.url)
	r.stop()
	a.add(situation{name: "receiver gone", gone: true, fires: firing{"WalrecvDown": 2 * time.Minute}}, r)
	a.add(situation{name: "no receiver is scraped", fires: firing{"WalrecvDown": 2 * time.Minute}})

	url := newArchive(t)
	r = watched(fresh(t, c, "-S", "spool", "--ensure-slot", "--archive", url), "--spool-max", "9MB").start()
	r.flushed()
	r.metricBecomes("oldest_unarchived_seconds", is(0))
	rename(t, url, url+".away")
	fill := func(share float64) {
		t.Helper()
		pgtest.Eventually(t, patience, func() bool {
			emit(c, 200)
			r.flushed() // else more may be under way than there is room for
			return r.metrics()["spool_bytes"] > share*(9<<20)
		}, "the spool is not filled")
		r.metricBecomes("oldest_unarchived_seconds", positive)
	}
	fill(0.4)
	before := r.told()
	a.add(situation{name: "spool half full", fires: firing{"WalrecvNotArchiving": 7 * time.Minute}}, r)
	fill(0.85)
	a.add(situation{name: "spool nearly full", fires: firing{"WalrecvNotArchiving": 7 * time.Minute, "WalrecvSpoolFilling": 5 * time.Minute}}, r)
	emit(c, 9000)
	r.metricBecomes("paused", is(1))
	r.metricBecomes(`lag_seconds{stage="flushed"}`, positive)
	a.add(situation{name: "spool full", before: &before, fires: firing{"WalrecvNotArchiving": 7 * time.Minute, "WalrecvSpoolFull": 2 * time.Minute}}, r)
	rename(t, url+".away", url)
	r.stop()
}

// alertsOfServer are situations of the connection, and of what comes over it.
func alertsOfServer(t *testing.T, a *alerts) {
	c := small(t, pgtest.Version(t), nil)
	c.Exec("create role sender login replication")
	conn := fmt.Sprintf("host=127.0.0.1 port=%d user=sender", c.Port)
	r := watched(fresh(t, c, "-d", conn, "-S", "walrecv", "--ensure-slot"), "--slot-stats").start()
	emit(c, 1500)
	r.flushed()
	r.metricBecomes("slot_known", is(1))
	a.add(situation{name: "no archive"}, r)

	before := r.told()
	for n := range 8 {
		c.Exec("select pg_terminate_backend(pid) from pg_stat_replication")
		r.metricBecomes("reconnects_total", func(v float64) bool { return v > float64(n) })
		if n == 3 {
			a.add(situation{name: "a connection that broke sometimes", before: &before}, r)
		}
	}
	r.flushed()
	a.add(situation{name: "a connection that breaks", before: &before, lasts: 2 * hour, fires: firing{"WalrecvUnstable": 0}, passes: hour}, r)

	// Nobody listens to one of a pair but the other one.
	standby := watched(fresh(t, c, "-d", conn, "-S", "walrecv", "--ensure-slot"))
	standby.launch()
	standby.metricBecomes("waiting_for_slot", is(1))
	a.add(situation{name: "a pair"}, r, standby)
	a.add(situation{name: "something else has the slot", fires: firing{"WalrecvSlotTaken": 5 * time.Minute}}, standby)
	standby.stop()

	r.stop()
	c.Exec("revoke connect on database postgres from public")
	r.start()
	r.flushed()
	a.add(situation{name: "kept out of the database", fires: firing{"WalrecvSlotUnknown": 15 * time.Minute}}, r)
	c.Exec("grant connect on database postgres to public")
	before = r.told()
	r.stop()

	// The server's own WAL is damaged, and mended again.
	emit(c, 3000)
	file := filepath.Join(c.WALDir(), c.Query("select pg_walfile_name(pg_current_wal_lsn() - 1500000)"))
	flip(t, file, 5000)
	r.start()
	r.WaitOutput("the server sends damaged WAL", patience)
	r.metricBecomes("streaming", is(1))
	r.flushed()
	r.metricBecomes("slot_known", is(1))
	a.add(situation{name: "WAL that is damaged", fires: firing{"WalrecvWALDamaged": 0}}, r)
	a.add(situation{name: "WAL that is damaged later", before: &before, lasts: 2 * hour, fires: firing{"WalrecvWALDamaged": 0}, passes: hour}, r)
	flip(t, file, 5000)
	r.stop()

	wire := newWire(t, c)
	r = watched(fresh(t, c, append(wire.args(), "-S", "behind", "--ensure-slot")...), "--slot-stats").start()
	emit(c, 1500)
	r.flushed()
	r.stop()
	emit(c, 20000)
	wire.crawl()
	r.start()
	r.metricBecomes(`lag_bytes{stage="flushed"}`, func(v float64) bool { return v > 10<<20 })
	r.metricBecomes(`lag_seconds{stage="flushed"}`, positive)
	r.metricBecomes("slot_known", is(1))
	a.add(situation{name: "a slow network", fires: firing{"WalrecvBehind": 7 * time.Minute}}, r)

	c.Stop(pgtest.Immediate)
	r.metricBecomes("streaming", is(0))
	r.metricBecomes("slot_known", is(0))
	a.add(situation{name: "server gone", fires: firing{"WalrecvNotStreaming": 5 * time.Minute}}, r)
	r.stop()
}

// alertsOfSlot are situations of a slot that a receiver does not get at, and of what
// follows.
func alertsOfSlot(t *testing.T, a *alerts) {
	settings := forgetful()
	settings["max_slot_wal_keep_size"], settings["max_wal_size"] = "16MB", "4MB"
	c := smallWith(t, pgtest.Options{Major: pgtest.Version(t), Settings: settings})
	c.Exec("create role sender login replication")
	wire := newWire(t, c)
	args := append(wire.args(), "-U", "sender", "-S", "walrecv", "--ensure-slot", "--archive", newArchive(t))
	r := watched(fresh(t, c, args...), "--slot-stats").start()
	emit(c, 1500)
	r.flushed()

	for _, step := range []struct {
		name   string
		while  func() // it does not receive, and is not let in any more
		status string
		fires  firing
	}{
		{"a little is held back", func() { emit(c, 500) }, "reserved", nil},
		{"much is held back", func() { emit(c, 9000) }, "extended", firing{"WalrecvSlotExtended": 5 * time.Minute}},
		{"the limit is near", func() { emit(c, 14000) }, "extended", firing{"WalrecvSlotInDanger": time.Minute}},
		{"the limit is passed", func() { c.Set(map[string]string{"max_wal_size": "1GB"}); c.Reload(); emit(c, 18000) }, "unreserved", firing{"WalrecvSlotInDanger": time.Minute}},
		{"the slot is lost", func() { lose(t, c, "walrecv") }, "lost", firing{"WalrecvSlotLost": time.Minute}},
	} {
		r.keptOut(c, wire, step.while)
		r.metricBecomes(slotStatus(step.status), is(1))
		fires := firing{"WalrecvNotStreaming": 5 * time.Minute}
		maps.Copy(fires, step.fires)
		a.add(situation{name: step.name, fires: fires}, r)
		if step.status != "lost" {
			c.Exec("alter role sender replication")
			r.metricBecomes("streaming", is(1))
			r.metricBecomes("slot_active", is(1)) // else what is told next may be of this step
			r.flushed()
		}
	}
	c.Exec("select pg_drop_replication_slot('walrecv')")
	r.metricBecomes(slotStatus("missing"), is(1))
	a.add(situation{name: "the slot is missing", fires: firing{"WalrecvNotStreaming": 5 * time.Minute, "WalrecvSlotLost": time.Minute}}, r)
	r.stop()

	c.Exec("alter role sender replication")
	consents := watched(inSpool(t, c, r.spool, append(args, "--accept-gap")...), "--slot-stats").start()
	consents.metricBecomes("gaps", is(1))
	consents.flushed()
	consents.metricBecomes(slotStatus("reserved"), is(1))
	consents.metricBecomes("oldest_unarchived_seconds", is(0))
	a.add(situation{name: "a gap that was accepted", fires: firing{"WalrecvGap": 0}}, consents)
	consents.stop()
}

// keptOut has a receiver hear nothing while something happens, and then not be let in
// any more, as role sender. What the slot is by then is known at once.
func (r *receiver) keptOut(c *pgtest.Cluster, wire *wire, while func()) {
	r.t.Helper()
	wire.die()
	while()
	c.Exec("alter role sender noreplication")
	c.Exec("select pg_terminate_backend(pid) from pg_stat_replication")
	c.WaitFor("select count(*) from pg_replication_slots where active", "0", patience)
	wire.leadTo(c)
	r.metricBecomes("streaming", is(0))
	r.metricBecomes("slot_active", is(0))
}
