package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/pgtest"
	"github.com/walrecv/walrecv/internal/s3test"
)

// takeOver is how long the second receiver of a pair may take from the moment
// when the slot is free until it streams.
const takeOver = 3 * time.Second

const ofSlot = " from pg_replication_slots where slot_name = 'walrecv'"

// pair are two receivers with the same slot and archive, and nothing else in
// common.
type pair struct {
	t               testing.TB
	c               *pgtest.Cluster
	active, waiting *receiver
}

func newPair(t testing.TB, c *pgtest.Cluster, archive string, env []string, args ...string) *pair {
	t.Helper()
	args = append([]string{"-S", "walrecv", "--ensure-slot", "--archive", archive}, args...)
	p := &pair{t: t, c: c, active: fresh(t, c, args...), waiting: fresh(t, c, args...)}
	p.active.env, p.waiting.env = env, env
	p.active.start()
	p.waiting.launch()
	p.waits(p.waiting)
	return p
}

// waits waits until a receiver has seen that the slot is in use.
func (p *pair) waits(r *receiver) {
	p.t.Helper()
	holder := p.c.Query("select active_pid" + ofSlot)
	pgtest.Eventually(p.t, patience, func() bool {
		return len(r.logged("the replication slot is in use", `"pid":`+holder)) > 0
	}, "it does not wait for the slot")
}

// takesOver does something to the active receiver that makes the server give up
// on it, and expects the other one in its place.
func (p *pair) takesOver(harm func()) {
	p.t.Helper()
	before := len(p.waiting.logged(`"msg":"streaming"`))
	holder := p.c.Query("select active_pid" + ofSlot)
	harm()
	p.c.WaitFor("select active_pid is distinct from "+holder+ofSlot, "t", patience)
	free := time.Now()
	p.waiting.streamsAgain(before + 1)
	took := time.Since(free)
	p.t.Logf("took over %v after the slot was free", took.Round(time.Millisecond))
	if most := pgtest.Allow(takeOver); took > most {
		p.t.Errorf("took over after %v, want %v at most", took, most)
	}
	p.active, p.waiting = p.waiting, p.active
}

// Two receivers on one slot and one archive are a highly available pair: whichever
// dies or hangs, the other one goes on where the archive ends. The archive has no
// gap and nothing but the server's WAL.
func TestPair(t *testing.T) {
	t.Parallel()
	rounds := 2 // and one in which it hangs
	if pgtest.Long() {
		rounds = 10
	}
	for _, major := range pgtest.FewVersions(t) {
		t.Run(fmt.Sprintf("pg%d/ack=flush", major), func(t *testing.T) {
			dir := newDir(t)
			pairSurvives(t, major, rounds, "flush", pairArchive{url: dir, dir: dir, restore: restoreCommand(pgtest.Build(t), "--archive "+dir)})
		})
		t.Run(fmt.Sprintf("pg%d/ack=archive in S3", major), func(t *testing.T) {
			s := s3test.Start(t)
			url := s.URL("pair")
			pairSurvives(t, major, rounds, "archive", pairArchive{
				url: url, dir: s.Path("pair"), env: s.Environ(), restore: s3Command(pgtest.Build(t), s, url, ""),
			})
		})
	}
}

// pairArchive is where a pair archives: what leads there, and the directory in which
// it can be looked at.
type pairArchive struct {
	url, dir, restore string
	env               []string
}

func pairSurvives(t *testing.T, major, rounds int, ack string, a pairArchive) {
	settings := map[string]string{}
	if ack == "archive" {
		settings = forgetful() // the slot is all that holds WAL back
	}
	settings["wal_sender_timeout"] = pgtest.Allow(time.Second).String()
	c := small(t, major, settings)
	c.Exec("create table acked(row text primary key, filler text)")
	p := newPair(t, c, a.url, a.env, "--ack="+ack)
	first := firstOf(t, p.active)
	backup := filepath.Join(pgtest.TempDir(t), "backup")
	c.BaseBackup(t, backup)

	load := startClientsOn(t, c.ConnString("postgres"), 4, time.Millisecond)
	for range rounds {
		load.more(t, 200)
		p.takesOver(func() {
			p.active.Kill()
			c.Exec("checkpoint")
		})
		load.more(t, 200)
		if ack == "archive" {
			empty(t, p.waiting.spool) // nothing is lost by that
		}
		p.waiting.launch()
		p.waits(p.waiting)
	}
	// One whose connection is dead, but which is not, does no harm when it wakes up.
	load.more(t, 200)
	p.takesOver(func() { p.active.Signal(syscall.SIGSTOP) })
	load.more(t, 200)
	p.waiting.Signal(syscall.SIGCONT)
	p.waits(p.waiting)
	load.more(t, 200)
	load.stop()

	last := c.SwitchWAL()
	archived(t, c, a.dir, first, last)
	p.active.stop()
	p.waiting.stop()
	if code, stdout, stderr := withStore(t, a.env, "verify", "--deep", "--archive", a.url); code != 0 {
		t.Errorf("verify ended with %d: %s%s", code, stdout, stderr)
	}
	if ack == "flush" { // else the server has not kept what to compare with
		archiveIsWhole(t, c, a.dir, first, last)
		sameAsServer(t, c, p.active.spool, 0)
		sameAsServer(t, c, p.waiting.spool, 0)
	}
	for _, r := range []*receiver{p.active, p.waiting} {
		if alarms := r.logged(`"level":"ERROR"`); len(alarms) > 0 {
			t.Errorf("errors: %v", alarms)
		}
		empty(t, r.spool)
	}
	rows := load.rows()
	t.Logf("%d rows acknowledged", len(rows))
	checkRestored(t, c, backup, a.restore, rows)
}

// empty removes what is in a directory.
func empty(t testing.TB, dir string) {
	t.Helper()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	pgtest.Give(t, dir)
}
