package integration

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/backup"
	"github.com/walrecv/walrecv/internal/pgtest"
)

// slowly makes a backup of these clusters last for a second or two, so that something
// can happen in its middle.
const slowly = "--max-rate=16M"

// begun starts a slow backup and returns when its data comes.
func (b *backups) begun(from *pgtest.Cluster) *pgtest.Process {
	b.t.Helper()
	p := b.start(from, slowly)
	p.WaitOutput(`"msg":"the base backup begins"`, patience)
	return p
}

// fails waits for a backup to fail, with one line that says why, and checks that it is
// not among the good ones.
func (b *backups) fails(p *pgtest.Process, goodBefore int, texts ...string) {
	b.t.Helper()
	expectEnd(b.t, p, 1, texts...)
	if p.Stdout() != "" {
		b.t.Errorf("it has printed %q", p.Stdout())
	}
	b.isAsBefore(goodBefore)
}

// isAsBefore checks that no good backup was added: what failed counts as running, since
// something was added to it a moment ago.
func (b *backups) isAsBefore(good int) {
	b.t.Helper()
	list := b.list()
	for _, line := range list {
		if line.State == backup.Good {
			good--
		} else if line.State != backup.Running {
			b.t.Errorf("%+v", line)
		}
	}
	if good != 0 || len(list) == 0 || list[len(list)-1].State != backup.Running {
		b.t.Errorf("other backups are good than before: %+v", list)
	}
}

// TestBackupFaults: whatever happens during a backup, it is not taken for a good one,
// and the next one is.
func TestBackupFaults(t *testing.T) {
	t.Parallel()
	c := small(t, pgtest.Version(t), nil)
	c.Exec("create table victim as select i from generate_series(1, 10000) i")
	all := backupsOf(t, c)
	all.create(c)

	t.Run("terminated", func(t *testing.T) {
		b := all.with(t)
		good := b.good()
		p := b.begun(c)
		began := time.Now()
		p.Signal(syscall.SIGTERM)
		b.fails(p, good, "was not completed", "terminated")
		if took := time.Since(began); took > pgtest.Allow(5*time.Second) {
			t.Errorf("it took %v to end", took)
		}
		b.c.WaitFor("select count(*) from pg_stat_replication where state = 'backup'", "0", patience)
		b.noScratch()
	})
	t.Run("killed", func(t *testing.T) {
		b := all.with(t)
		good := b.good()
		b.begun(c).Kill()
		b.isAsBefore(good)
		b.create(c)
	})
	t.Run("terminated in a checkpoint", func(t *testing.T) {
		b := all.with(t)
		// A spread checkpoint with something to write takes minutes.
		c.Exec("create table dirty as select i, repeat('x', 500) t from generate_series(1, 20000) i")
		p := b.start(c, "--checkpoint=spread")
		b.c.WaitFor("select count(*) from pg_stat_activity where backend_type = 'walsender' and application_name = 'walrecv_backup' and wait_event like 'Checkpoint%'", "1", patience)
		p.Signal(syscall.SIGTERM)
		expectEnd(t, p, 1, "no base backup was taken", "terminated")
		b.c.WaitFor("select count(*) from pg_stat_activity where application_name = 'walrecv_backup'", "0", 15*time.Second) // long before the checkpoint ends
	})
	t.Run("damaged page", func(t *testing.T) {
		b := all.with(t)
		good := b.good()
		file := filepath.Join(c.DataDir, c.Query("select pg_relation_filepath('victim')"))
		b.c.Stop(pgtest.Fast)
		flipByte(t, file, 8192+5000)
		b.c.Start()
		p := b.start(c)
		b.fails(p, good, "checksum", "XX001")
		if !strings.Contains(p.Stderr(), "has sent all") && !strings.Contains(p.Stderr(), filepath.Base(file)) {
			t.Errorf("the log does not say which file: %s", p.Stderr())
		}
		b.c.Stop(pgtest.Fast)
		flipByte(t, file, 8192+5000)
		b.c.Start()
		b.create(c)
	})
	t.Run("server stopped", func(t *testing.T) {
		b := all.with(t)
		good := b.good()
		p := b.begun(c)
		b.c.Stop(pgtest.Immediate)
		b.fails(p, good, "was not completed")
		b.c.Start()
		b.create(c)
	})
	t.Run("standby", func(t *testing.T) { standbyFaults(all.with(t)) })
	t.Run("disk full", func(t *testing.T) {
		if !canMount(t) {
			return // there is no other way to fill a disk
		}
		dir := newArchive(t)
		r := &receiver{t: t, bin: all.bin, cluster: c.With(t), args: []string{"backup", "create", "-d", c.ReplConn(), "--archive", dir}}
		r.onSmallDisk(2, dir)
		r.ended(1, "no space left on device", "was not completed")
	})
}

// standbyFaults are those of a backup from a standby. The backup stands still meanwhile.
func standbyFaults(b *backups) {
	standby := b.c.Standby(b.t, nil)
	good := b.good()
	p := b.begun(standby)
	p.Signal(syscall.SIGSTOP)
	b.c.Set(map[string]string{"full_page_writes": "off"})
	b.c.Reload()
	b.c.WaitFor("select pg_reload_conf() and current_setting('full_page_writes') = 'off'", "t", patience)
	b.c.Exec("checkpoint")
	b.c.Set(map[string]string{"full_page_writes": "on"})
	b.c.Reload()
	b.c.Exec("checkpoint")
	standby.WaitFor("select pg_last_wal_replay_lsn() >= '"+b.c.FlushLSN()+"'", "t", patience)
	p.Signal(syscall.SIGCONT)
	b.fails(p, good, "full_page_writes=off")

	p = b.begun(standby)
	p.Signal(syscall.SIGSTOP)
	standby.Promote()
	p.Signal(syscall.SIGCONT)
	b.fails(p, good, "the standby was promoted during online backup")
	standby.Stop(pgtest.Immediate)
	b.create(b.c)
}

// noScratch checks that nothing is left of uploads that were given up.
func (b *backups) noScratch() {
	b.t.Helper()
	err := filepath.WalkDir(filepath.Join(b.dir, b.c.SystemID(), "backup"), func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && d.Name() != "start.json" && d.Name() != "backup.json" && !strings.HasSuffix(d.Name(), ".zst") {
			b.t.Errorf("left behind: %s", path)
		}
		return err
	})
	if err != nil {
		b.t.Error(err)
	}
}

// flipByte changes a byte of a file, or changes it back.
func flipByte(t testing.TB, file string, at int64) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var one [1]byte
	if _, err := f.ReadAt(one[:], at); err != nil {
		t.Fatal(err)
	}
	one[0] ^= 0xff
	if _, err := f.WriteAt(one[:], at); err != nil {
		t.Fatal(err)
	}
}
