package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/walrecv/walrecv/internal/pgtest"
)

// TestRestoreFromPgReceivewal recovers from what a real pg_receivewal leaves,
// through a promotion, with the last rows in its partial.
func TestRestoreFromPgReceivewal(t *testing.T) {
	major := pgtest.Version(t)
	program := clientOf(t, "pg_receivewal", major, newestClient)
	if program == nil {
		t.Fatalf("get one with: tools/need pgclient%d", newestClient)
	}
	for _, method := range []string{"none", "gzip:1", "lz4"} {
		t.Run(method, func(t *testing.T) {
			p := newPrimary(t, major)
			dir := filepath.Join(pgtest.TempDir(t), "received")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			pgtest.Give(t, dir)
			p.Exec("select pg_create_physical_replication_slot('rw', true)")
			receive := func(c *pgtest.Cluster) *pgtest.Process {
				return pgtest.Command(t, program[0], append(program[1:len(program):len(program)], "-D", dir, "-Z", method, "-S", "rw", "--synchronous",
					"-d", c.ReplConn())...).Start()
			}
			// Of servers before 15 it does not learn where the slot begins.
			r := receive(p)
			p.WaitFor("select state from pg_stat_replication", "streaming", patience)
			backup := p.BaseBackup(t, "").Dir
			s := p.Standby(t, quick)
			s.Exec("select pg_create_physical_replication_slot('rw', true)")
			mark(p, "one")
			fill(p, 3)
			s.WaitFor("select count(*) from mark", "1", patience)
			p.Stop(pgtest.Fast)
			r.Kill()
			s.Promote()
			r = receive(s)
			fill(s, 3)
			mark(s, "two")
			lsn := s.FlushLSN()
			s.WaitFor(fmt.Sprintf("select coalesce(max(flush_lsn), '0/0') >= '%s' from pg_stat_replication", lsn), "t", patience)
			r.Signal(syscall.SIGINT)
			r.Wait(patience)
			s.Stop(pgtest.Immediate)

			settings := map[string]string{"restore_command": restoreCommand(pgtest.Build(t), "--archive "+dir)}
			n := p.Recover(t, backup, settings)
			wantMarks(t, n, "one two")
			checkHeapAndIndexes(t, n)
			if entries := listed(t, dir); !strings.Contains(entries, ".partial") || !strings.Contains(entries, "00000002.history") {
				t.Errorf("the directory is not what the test is about: %s", entries)
			}
		})
	}
}

func listed(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	names := ""
	for _, e := range entries {
		names += e.Name() + " "
	}
	return names
}

// TestRestoreFromReceiveWithoutArchive does the same with what `walrecv receive`
// leaves when it stands in for pg_receivewal.
func TestRestoreFromReceiveWithoutArchive(t *testing.T) {
	eachMajor(t, func(t *testing.T, major int) {
		for _, method := range []string{"none", "gzip", "lz4", "zstd"} {
			t.Run(method, func(t *testing.T) {
				p := newPrimary(t, major)
				r := newReceiver(t, p, "-Z", method, "--synchronous").start()
				backup := p.BaseBackup(t, "").Dir
				mark(p, "one")
				fill(p, 4)
				p.SwitchWAL()
				fill(p, 2)
				mark(p, "two")
				r.flushed()
				p.Kill9()
				for _, option := range []string{"--archive ", "--spool "} {
					n := p.Recover(t, backup, map[string]string{"restore_command": restoreCommand(r.bin, option+r.spool)})
					wantMarks(t, n, "one two")
					checkHeapAndIndexes(t, n)
					n.Destroy()
				}
				r.Kill()
			})
		}
	})
}
