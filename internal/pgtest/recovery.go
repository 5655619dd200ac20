package pgtest

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// Signal is the file that tells a server what to do with the WAL it is given.
type Signal string

// What a restored cluster does when it starts.
const (
	RecoverySignal Signal = "recovery.signal" // recover to the target or the end, then be a primary
	StandbySignal  Signal = "standby.signal"  // go on recovering until promoted
	NoSignal       Signal = ""                // crash recovery from what pg_wal holds
)

// Restore makes a new cluster from a base backup of c, which it leaves as it
// is. It is not started. The new cluster has the settings of c but for
// synchronous_standby_names, which would make it wait for somebody else's
// standby, then those given: restore_command, recovery_target_lsn and so on.
// Settings that were made by ALTER SYSTEM come along with the backup.
func (c *Cluster) Restore(t testing.TB, backupDir string, signal Signal, settings map[string]string) *Cluster {
	t.Helper()
	n := newCluster(t, c.Major, c.SegmentSize)
	n.CAFile = c.CAFile
	n.settings = maps.Clone(c.settings)
	delete(n.settings, "synchronous_standby_names")
	maps.Copy(n.settings, settings)
	err := n.run.copyTree(backupDir, n.DataDir, nil)
	if err == nil {
		err = n.writeConf()
	}
	if err == nil {
		err = n.run.copyFile(filepath.Join(c.Dir, "pg_hba.conf"), filepath.Join(n.Dir, "pg_hba.conf"), 0o600)
	}
	if err == nil && signal != NoSignal {
		err = n.run.writeFile(filepath.Join(n.DataDir, string(signal)), nil)
	}
	if err != nil {
		t.Fatalf("restore of %s: %v", backupDir, err)
	}
	return n
}

// RestoredBy makes a new cluster, which is not started, of what restore puts into an
// empty data directory, which belongs to the user of the servers. It has the settings
// of c, then those given; what restore writes to postgresql.auto.conf wins over both.
func (c *Cluster) RestoredBy(t testing.TB, restore func(dataDir string), settings map[string]string) *Cluster {
	t.Helper()
	n := newCluster(t, c.Major, c.SegmentSize)
	n.CAFile = c.CAFile
	n.settings = maps.Clone(c.settings)
	maps.Copy(n.settings, settings)
	if err := n.run.mkdirAt(n.DataDir, 0o700); err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	restore(n.DataDir)
	err := n.run.copyFile(filepath.Join(c.Dir, "pg_hba.conf"), filepath.Join(n.Dir, "pg_hba.conf"), 0o600)
	if err = errors.Join(err, n.writeConf()); err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	return n
}

// Recover restores a base backup, starts it, and waits until it has recovered
// all it can get and is a primary.
func (c *Cluster) Recover(t testing.TB, backupDir string, settings map[string]string) *Cluster {
	t.Helper()
	n := c.Restore(t, backupDir, RecoverySignal, settings)
	n.Start()
	n.WaitFor("select pg_is_in_recovery()", "f", 2*time.Minute)
	return n
}

// Standby makes a standby of the running server c, starts it, and waits until
// it streams, unless the settings give it another primary_conninfo. Its slot on
// c has the name that its application_name is too.
func (c *Cluster) Standby(t testing.TB, settings map[string]string) *Cluster {
	t.Helper()
	name := "standby_" + strconv.FormatInt(c.run.next.Add(1), 10)
	// Before the backup, so that c keeps the WAL that the standby starts from.
	c.Exec(fmt.Sprintf("select pg_create_physical_replication_slot('%s', true)", name))
	backup := c.BaseBackup(t, "")
	all := map[string]string{
		"primary_conninfo":  fmt.Sprintf("host=%s port=%d user=%s application_name=%s", c.SocketDir, c.Port, superuser, name),
		"primary_slot_name": name,
	}
	maps.Copy(all, settings)
	n := c.Restore(t, backup.Dir, StandbySignal, all)
	if err := os.RemoveAll(backup.Dir); err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	n.Start()
	if _, own := settings["primary_conninfo"]; !own {
		c.WaitFor(fmt.Sprintf("select state from pg_stat_replication where application_name = '%s'", name), "streaming", time.Minute)
	}
	return n
}

// Rebuild replaces the data directory of c, whose server must not run, by a base
// backup of another server, as when a failed server is set up anew. c keeps its
// port and its settings. It is not started, and has no signal file.
func (c *Cluster) Rebuild(t testing.TB, from *Cluster) {
	t.Helper()
	if c.running() {
		t.Fatal("pgtest: the server to be rebuilt runs")
	}
	if err := c.removeData(); err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	from.BaseBackup(t, c.DataDir)
	if err := c.writeConf(); err != nil {
		t.Fatalf("pgtest: %v", err)
	}
}

// Follow makes c, whose server must not run, a standby of another server when it
// starts next. The two must have a timeline in common that c has not left: see
// pg_rewind.
func (c *Cluster) Follow(primary *Cluster) {
	c.t.Helper()
	c.Upstream(primary)
	if err := c.run.writeFile(filepath.Join(c.DataDir, string(StandbySignal)), nil); err != nil {
		c.t.Fatalf("pgtest: %v", err)
	}
}

// Upstream changes where c streams from as a standby, without a slot, from the
// next Reload or start on.
func (c *Cluster) Upstream(from *Cluster) {
	c.t.Helper()
	c.Set(map[string]string{
		"primary_conninfo":  fmt.Sprintf("host=%s port=%d user=%s application_name=%s", from.SocketDir, from.Port, superuser, c.Name()),
		"primary_slot_name": "",
	})
}

// Name is what c calls itself as a standby, where Upstream or Follow made it one:
// a name for synchronous_standby_names.
func (c *Cluster) Name() string { return fmt.Sprintf("port_%d", c.Port) }
