package integration

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/fakepg"
	"github.com/walrecv/walrecv/internal/pgtest"
)

// guarded is a cluster whose roles may do various things.
func guarded(t *testing.T, major int) *pgtest.Cluster {
	t.Helper()
	c := smallWith(t, pgtest.Options{
		Major:    major,
		Settings: map[string]string{"wal_level": "logical"},
		HBA: []string{
			"host replication,postgres secret 127.0.0.1/32 scram-sha-256",
			"host replication,postgres weak,ghost,postgres 127.0.0.1/32 trust",
		},
	})
	c.Exec("create role secret login replication password 'right'")
	c.Exec("create role outsider login replication")
	c.Exec("create role weak login")
	c.Exec("select pg_create_logical_replication_slot('logical', 'test_decoding')")
	return c
}

// What an operator has to mend ends the receiver at its start, with the reason
// and the remedy in one line.
func TestFaultsRefusedAtStart(t *testing.T) {
	t.Parallel()
	for _, major := range pgtest.Versions(t) {
		t.Run(fmt.Sprintf("pg%d", major), func(t *testing.T) {
			c := guarded(t, major)
			conn := fmt.Sprintf("host=127.0.0.1 port=%d sslmode=disable user=", c.Port)
			for _, tc := range []struct {
				name, conn, slot string
				code             int
				texts            []string
			}{
				{"wrong password", conn + "secret password=wrong", "s", 1, []string{`password authentication failed for user "secret"`, "28P01", "correct PGPASSWORD"}},
				{"no password", conn + "secret", "s", 1, []string{`demands a password for user "secret"`, ".pgpass"}},
				{"no line in pg_hba.conf", conn + "outsider", "s", 1, []string{"28000", "pg_hba.conf needs a line like: host replication outsider 127.0.0.1/32 scram-sha-256"}},
				{"no such role", conn + "ghost", "s", 1, []string{"28000", `role "ghost"`}},
				{"no right to replicate", conn + "weak", "s", 1, []string{"ALTER ROLE weak REPLICATION", "42501"}},
				{"slot missing", conn + "postgres", "missing", 1, []string{`slot "missing"`, "does not exist", "walrecv slot create missing", "--ensure-slot"}},
				{"slot logical", conn + "postgres", "logical", 2, []string{`slot "logical"`, "physical"}},
				{"slot name", conn + "postgres", "pg-2", 2, []string{`"pg-2"`, `did you mean "pg_2"?`}},
				{"slot name too long", conn + "postgres", strings.Repeat("x", 64), 2, []string{"1 to 63 characters"}},
			} {
				t.Run(tc.name, func(t *testing.T) {
					r := fresh(t, c.With(t), "-w", "-d", tc.conn, "-S", tc.slot)
					r.ends(tc.code, tc.texts...)
					p := pgtest.Command(t, r.bin, "slot", "show", "-w", "-d", tc.conn, tc.slot).Start()
					texts := tc.texts
					if tc.name == "slot missing" {
						texts = texts[:2]
					}
					expectEnd(t, p, tc.code, texts...)
				})
			}
		})
	}
}

// Commands about slots say what is wrong, too.
func TestFaultsOfSlotCommands(t *testing.T) {
	t.Parallel()
	for _, major := range pgtest.Versions(t) {
		t.Run(fmt.Sprintf("pg%d", major), func(t *testing.T) {
			c := guarded(t, major)
			bin := pgtest.Build(t)
			slot := func(code int, text string, args ...string) {
				t.Helper()
				p := pgtest.Command(t, bin, append([]string{"slot"}, args...)...)
				p.Env = []string{"PGHOST=127.0.0.1", fmt.Sprintf("PGPORT=%d", c.Port), "PGUSER=postgres"}
				expectEnd(t, p.Start(), code, text)
			}
			slot(2, `did you mean "pg_2"?`, "create", "pg-2")
			slot(2, "logical", "create", "--if-not-exists", "logical")
			slot(2, "logical", "drop", "logical")
			slot(1, "does not exist", "drop", "missing")
			slot(1, "does not exist", "show", "missing")
			slot(0, "", "create", "mine")
			slot(1, "already exists", "create", "mine")
			slot(0, "", "create", "--if-not-exists", "mine")
			r := fresh(t, c, "-S", "mine").start()
			slot(1, "another program uses it", "drop", "mine")
			r.stop()
			if got := c.Query("select count(*) from pg_replication_slots"); got != "2" {
				t.Errorf("%s slots are left, want mine and logical", got)
			}
			slot(0, "", "drop", "mine")
			c.Stop(pgtest.Fast)
			slot(1, "cannot be reached", "show", "mine")
		})
	}
}

// receive has pg_receivewal's actions, too. A slot holds WAL back from its
// creation on, which pg_receivewal's does not.
func TestFaultsOfSlotActions(t *testing.T) {
	t.Parallel()
	for _, major := range pgtest.Versions(t) {
		t.Run(fmt.Sprintf("pg%d", major), func(t *testing.T) {
			c := guarded(t, major)
			receive := func(code int, text string, args ...string) {
				t.Helper()
				args = append([]string{"receive", "-d", c.ReplConn()}, args...)
				expectEnd(t, pgtest.Command(t, pgtest.Build(t), args...).Start(), code, text)
			}
			receive(0, "", "-S", "mine", "--create-slot")
			if got := c.Query("select slot_type || ' ' || (restart_lsn is not null) from pg_replication_slots where slot_name = 'mine'"); got != "physical true" {
				t.Errorf("the slot is %s", got)
			}
			receive(1, "already exists", "-S", "mine", "--create-slot")
			receive(0, "", "-S", "mine", "--create-slot", "--if-not-exists")
			receive(2, "logical", "-S", "logical", "--create-slot", "--if-not-exists")
			receive(0, "", "-S", "mine", "--drop-slot")
			receive(1, "does not exist", "-S", "mine", "--drop-slot")
			receive(2, `did you mean "pg_2"?`, "-S", "pg-2", "--create-slot")
			receive(2, "cannot use --create-slot together with --drop-slot", "-S", "mine", "--create-slot", "--drop-slot")
			receive(2, "--create-slot needs a slot", "--create-slot")
			receive(2, "no target directory", "-S", "mine")
			receive(2, "cannot use --synchronous together with --no-sync", "-D", "/tmp", "--synchronous", "--no-sync")
			receive(2, "none", "-D", "/tmp", "-Z", "none:1")
			if got := c.Query("select count(*) from pg_replication_slots"); got != "1" {
				t.Errorf("%s slots are left, want the logical one", got)
			}
		})
	}
}

// What may pass by itself is waited for, and told of once.
func TestFaultsWaitedFor(t *testing.T) {
	t.Parallel()
	for _, major := range pgtest.Versions(t) {
		t.Run(fmt.Sprintf("pg%d", major), func(t *testing.T) {
			c := pgtest.New(t, pgtest.Options{Major: major, WALSegmentSize: fileSize, Settings: map[string]string{
				"max_wal_senders": "1", "wal_keep_size": "1GB",
			}})
			r := fresh(t, c, "-v", "-S", "walrecv", "--ensure-slot")
			r.launch()
			r.retries(3, "cannot be reached", "connection refused")
			c.Start()
			r.streams()
			r.flushed()

			second := fresh(t, c, "-v", "-S", "walrecv")
			second.launch()
			second.retries(3, "max_wal_senders", "53300")
			c.Set(map[string]string{"max_wal_senders": "3"})
			c.Restart(pgtest.Fast) // one of the two gets the slot
			winner, loser := r, second
			pgtest.Eventually(t, patience, func() bool {
				if len(second.logged(`"msg":"streaming"`)) > 0 {
					winner, loser = second, r
				}
				return c.Query("select count(*) from pg_stat_replication where state = 'streaming'") == "1" &&
					len(loser.alarms("55006")) > 0
			}, "neither of two receivers complains of the slot")
			if n := len(loser.alarms("55006")); n != 1 {
				t.Errorf("%d warnings about a slot in use", n)
			}
			winner.stop()
			before := len(loser.logged(`"msg":"streaming"`))
			loser.streamsAgain(before + 1)
			emit(c, 1500)
			r.cluster = c
			loser.flushed()
			loser.stop()
			isWhole(t, c, loser.spool, c.FlushLSN())
		})
	}
}

// A slot in use at the start is waited for, and taken over, whether or not the
// server lets the receiver ask who has it.
func TestFaultsSlotInUse(t *testing.T) {
	t.Parallel()
	replicationOnly := []string{"host replication all 127.0.0.1/32 trust"}
	for _, major := range pgtest.Versions(t) {
		for name, hba := range map[string][]string{"any connection": nil, "replication only": replicationOnly} {
			t.Run(fmt.Sprintf("pg%d/%s", major, name), func(t *testing.T) {
				t.Parallel()
				c := smallWith(t, pgtest.Options{Major: major, HBA: hba})
				first := fresh(t, c, "-S", "walrecv", "--ensure-slot").start()
				holder := c.Query("select active_pid from pg_replication_slots")
				second := fresh(t, c, "-v", "-S", "walrecv")
				second.launch()
				const waiting = "the replication slot is in use"
				pgtest.Eventually(t, patience, func() bool { return len(second.logged(waiting)) >= 2 }, "it does not wait for the slot")
				alarms := second.alarms(waiting, "55006", "PID "+holder)
				if len(second.alarms(waiting)) != 1 || len(alarms) != 1 {
					t.Fatalf("alarms: %v", second.alarms())
				}
				if said := `"pid":` + holder + `,"application":"walrecv","address":"127.0.0.1","since":"2`; hba == nil && !strings.Contains(alarms[0].text, said) {
					t.Errorf("not said who has the slot: %s", alarms[0].text)
				}
				emit(c, 1500)
				first.flushed()
				first.Kill()
				begin := time.Now()
				second.streams()
				if took := time.Since(begin); took > pgtest.Allow(takeOver) {
					t.Errorf("it took over after %v", took)
				}
				second.flushed()
				second.stop()
			})
		}
	}
}

// What ends a receiver at its start is waited for once it has streamed: it has
// worked, so it may work again.
func TestFaultsAfterStreaming(t *testing.T) {
	t.Parallel()
	c := guarded(t, pgtest.Version(t))
	r := fresh(t, c, "-w", "-v", "-d", fmt.Sprintf("host=127.0.0.1 port=%d user=secret password=right", c.Port), "-S", "walrecv", "--ensure-slot").start()
	r.flushed()
	c.Exec("alter role secret password 'other'")
	c.Exec("select pg_terminate_backend(pid) from pg_stat_replication")
	pgtest.Eventually(t, patience, func() bool { return len(r.logged("28P01")) > 2 }, "it does not try the old password")
	if n := len(r.alarms("28P01")); n != 1 {
		t.Errorf("%d warnings about one wrong password", n)
	}
	c.Exec("alter role secret password 'right'")
	r.streamsAgain(2)

	r.Signal(syscall.SIGSTOP)
	c.Exec("select pg_terminate_backend(pid) from pg_stat_replication")
	dropSlot(c, "walrecv")
	r.Signal(syscall.SIGCONT)
	r.streamsAgain(3) // --ensure-slot
	if len(r.alarms("the replication slot was missing")) != 1 {
		t.Error("no alarm about the slot")
	}
	emit(c, 1500)
	r.flushed()
	r.stop()
	isWhole(t, c, r.spool, c.FlushLSN())
}

func TestFaultsServerTooOld(t *testing.T) {
	t.Parallel()
	s := fakepg.New(fakepg.Config{Version: "12.22", Slots: map[string]fakepg.Slot{"walrecv": {}}})
	defer s.Close()
	address, err := s.Listen()
	if err != nil {
		t.Fatal(err)
	}
	host, port, _ := strings.Cut(address, ":")
	bin := pgtest.Build(t)
	for _, args := range [][]string{
		{"receive", "-D", newDir(t), "-S", "walrecv"},
		{"slot", "create", "x"},
	} {
		p := pgtest.Command(t, bin, append(args, "-h", host, "-p", port, "-U", "postgres")...).Start()
		expectEnd(t, p, 1, "PostgreSQL 12.22", "13 is the oldest that is supported")
	}
}
