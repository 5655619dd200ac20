package integration

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walrecv/walrecv/internal/pgtest"
	wr "github.com/walrecv/walrecv/receiver"
	"github.com/walrecv/walrecv/segment"
)

// forEachMajor runs a test against every PostgreSQL there is.
func forEachMajor(t *testing.T, test func(t *testing.T, major int)) {
	for _, major := range pgtest.Versions(t) {
		t.Run(strconv.Itoa(major), func(t *testing.T) { test(t, major) })
	}
}

// connInfo parses a connection string in an environment of the test's own.
func connInfo(t testing.TB, conninfo string, env map[string]string) *wr.ConnConfig {
	t.Helper()
	c, err := wr.ParseConnInfo(wr.ConnOptions{Conninfo: conninfo, Getenv: func(name string) string { return env[name] }})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// tryConnect connects once.
func tryConnect(t testing.TB, c *wr.ConnConfig) (*pgconn.PgConn, *wr.ConnectError) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, err := wr.Connect(ctx, c)
	var failure *wr.ConnectError
	if err != nil && !errors.As(err, &failure) {
		t.Fatalf("not a ConnectError: %v", err)
	}
	if err == nil {
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
	}
	return conn, failure
}

func mustConnect(t testing.TB, conninfo string) (*pgconn.PgConn, *wr.ConnConfig) {
	t.Helper()
	c := connInfo(t, conninfo, nil)
	conn, failure := tryConnect(t, c)
	if failure != nil {
		t.Fatal(failure)
	}
	return conn, c
}

// What a server refuses, and the advice that comes with it: where the advice is
// a line for pg_hba.conf or a statement, following it helps.
func TestConnectRefusals(t *testing.T) {
	forEachMajor(t, func(t *testing.T, major int) {
		lines := []string{
			"hostssl replication alice 127.0.0.1/32 scram-sha-256",
			"host replication bob,nobody 127.0.0.1/32 trust",
			"host all postgres 127.0.0.1/32 trust",
		}
		c := pgtest.New(t, pgtest.Options{Major: major, TLS: true, HBA: lines, Settings: map[string]string{"max_wal_senders": "3"}})
		c.Start()
		c.Exec("set password_encryption = 'scram-sha-256'; create role alice login replication password 'in Wonderland'; " +
			"create role bob login; create role carol login replication password 'x'")
		server := fmt.Sprintf("host=127.0.0.1 port=%d ", c.Port)
		password := "password='in Wonderland' "

		for _, test := range []struct {
			name, conninfo string
			code           string
			class          wr.Class
			text           string
		}{
			{"wrong password", "user=alice password=wrong", "28P01", wr.ClassFatal, `for user "alice"`},
			{"no password", "user=alice", "28P01", wr.ClassFatal, "there is none"},
			{"no line for TLS off", "user=alice sslmode=disable " + password, "28000", wr.ClassFatal, "host replication alice 127.0.0.1/32"},
			{"no such role", "user=nobody", "28000", wr.ClassFatal, "must exist"},
			{"unknown setting", "user=alice options='-c nonsense=1' " + password, "42704", wr.ClassFatal, "options"},
			{"md5 only", "user=alice sslmode=require require_auth=md5 " + password, "", wr.ClassFatal, "connection options"},
			{"md5 only, with or without TLS", "user=alice require_auth=md5 " + password, "28000", wr.ClassFatal, "require_auth"},
		} {
			_, failure := tryConnect(t, connInfo(t, server+test.conninfo, nil))
			if failure == nil {
				t.Errorf("%s: connected", test.name)
				continue
			}
			if failure.Code != test.code || failure.Class != test.class || !strings.Contains(failure.Error(), test.text) {
				t.Errorf("%s: %s, %v: %v", test.name, failure.Code, failure.Class, failure)
			}
		}

		t.Run("pg_hba.conf", func(t *testing.T) {
			carol := connInfo(t, server+"user=carol password=x", nil)
			_, failure := tryConnect(t, carol)
			if failure == nil || failure.Code != "28000" {
				t.Fatal(failure)
			}
			line := regexp.MustCompile(`host replication carol .* scram-sha-256`).FindString(failure.Line)
			c := c.With(t)
			c.SetHBA(append(lines, line)...)
			c.Reload()
			pgtest.Eventually(t, patience, func() bool { _, failure = tryConnect(t, carol); return failure == nil }, "%q does not help", line)
		})
		t.Run("no REPLICATION", func(t *testing.T) {
			bob := connInfo(t, server+"user=bob", nil)
			_, failure := tryConnect(t, bob)
			if failure == nil || failure.Code != "42501" || failure.Class != wr.ClassFatal {
				t.Fatal(failure)
			}
			c.With(t).Exec(regexp.MustCompile("ALTER ROLE bob REPLICATION").FindString(failure.Line))
			if _, failure := tryConnect(t, bob); failure != nil {
				t.Error(failure)
			}
		})
		t.Run("no place", func(t *testing.T) {
			bob := connInfo(t, server+"user=bob", nil)
			var failure *wr.ConnectError
			for range 4 { // one more than max_wal_senders
				if _, failure = tryConnect(t, bob); failure != nil {
					break
				}
			}
			if failure == nil || failure.Code != "53300" || failure.Class != wr.ClassRetry {
				t.Error(failure)
			}
		})
		c.Stop(pgtest.Immediate)
		if _, failure := tryConnect(t, connInfo(t, server+"user=bob", nil)); failure == nil || failure.Class != wr.ClassRetry || failure.Code != "" {
			t.Errorf("stopped server: %v", failure)
		}
	})
}

// Everything that a careful operator sets, at once, and the ways to give it.
func TestConnectSecurely(t *testing.T) {
	forEachMajor(t, func(t *testing.T, major int) {
		c := pgtest.New(t, pgtest.Options{Major: major, TLS: true, HBA: []string{"hostssl replication alice 127.0.0.1/32 scram-sha-256", "host all postgres 127.0.0.1/32 trust"}})
		c.Start()
		c.Exec("set password_encryption = 'scram-sha-256'; create role alice login replication password 'p:w'")
		home := t.TempDir()
		write := func(name, content string) string {
			path := filepath.Join(home, name)
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			return path
		}
		write(".pgpass", fmt.Sprintf("127.0.0.1:%d:postgres:alice:wrong\n127.0.0.1:%d:replication:alice:p\\:w\n", c.Port, c.Port))
		write(".pg_service.conf", fmt.Sprintf("[prod]\nhost=127.0.0.1\nport=%d\nuser=alice\nsslmode=verify-full\nsslrootcert=%s\n"+
			"channel_binding=require\nkeepalives_idle=10\n", c.Port, c.CAFile))
		secure := fmt.Sprintf("host=127.0.0.1 port=%d user=alice sslmode=verify-full sslrootcert=%s ", c.Port, c.CAFile)
		for _, test := range []struct {
			name, conninfo string
			env            map[string]string
		}{
			{"SCRAM, channel binding", secure + "channel_binding=require require_auth=scram-sha-256 password='p:w'", nil},
			{"URI", fmt.Sprintf("postgresql://alice:p%%3Aw@127.0.0.1:%d/x?sslmode=verify-full&sslrootcert=%s", c.Port, c.CAFile), nil},
			{".pgpass for replication", secure, map[string]string{"HOME": home}},
			{"passfile", secure + "passfile=" + filepath.Join(home, ".pgpass"), nil},
			{"service", "service=prod", map[string]string{"HOME": home}},
			{"service in the environment", "ssl_min_protocol_version=TLSv1.2", map[string]string{"HOME": home, "PGSERVICE": "prod"}},
			{"environment", "", map[string]string{
				"PGHOST": "localhost", "PGHOSTADDR": "127.0.0.1", "PGPORT": strconv.Itoa(c.Port), "PGUSER": "alice", "PGPASSWORD": "p:w",
				"PGSSLMODE": "verify-full", "PGSSLROOTCERT": c.CAFile, "PGAPPNAME": "by_environment",
			}},
		} {
			conn, failure := tryConnect(t, connInfo(t, test.conninfo, test.env))
			if failure != nil {
				t.Errorf("%s: %v", test.name, failure)
				continue
			}
			if _, err := wr.Identify(t.Context(), conn); err != nil {
				t.Errorf("%s: %v", test.name, err)
			}
			name := conn.ParameterStatus("application_name")
			if want := test.env["PGAPPNAME"]; name != want && (want != "" || name != "walrecv") {
				t.Errorf("%s: application_name %q", test.name, name)
			}
		}
		other := write("other.crt", string(otherAuthority(t)))
		_, failure := tryConnect(t, connInfo(t, strings.Replace(secure, c.CAFile, other, 1)+"password='p:w'", nil))
		if failure == nil || failure.Class != wr.ClassFatal || failure.Code != "" {
			t.Errorf("certificate of another authority: %v", failure)
		}
		if _, failure := tryConnect(t, connInfo(t, fmt.Sprintf("host=%s port=%d user=postgres", c.SocketDir, c.Port), nil)); failure != nil {
			t.Errorf("socket: %v", failure)
		}
	})
}

// otherAuthority is a certificate that no server here has anything to do with.
func otherAuthority(t *testing.T) []byte {
	t.Helper()
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
}

// Six values, against a primary and its standby, on walsenders that understand
// no SQL.
func TestConnectTargetSessionAttrs(t *testing.T) {
	forEachMajor(t, func(t *testing.T, major int) {
		primary := pgtest.New(t, pgtest.Options{Major: major, WALSegmentSize: 1 << 20})
		primary.Start()
		standby := primary.Standby(t, nil)
		for attrs, wantStandby := range map[string]bool{
			"any": true, "read-write": false, "primary": false, "read-only": true, "standby": true, "prefer-standby": true,
		} {
			order := []int{standby.Port, primary.Port}
			if attrs != "any" && wantStandby {
				order = []int{primary.Port, standby.Port}
			}
			conninfo := fmt.Sprintf("host=127.0.0.1,127.0.0.1 port=%d,%d user=postgres target_session_attrs=%s", order[0], order[1], attrs)
			conn, _ := mustConnect(t, conninfo)
			s, err := wr.Identify(t.Context(), conn)
			if err != nil || s.InRecovery != wantStandby {
				t.Errorf("%s: in recovery %v, %v", attrs, s.InRecovery, err)
			}
			_ = conn.Close(t.Context())
		}
		alone := fmt.Sprintf("host=127.0.0.1 port=%d user=postgres target_session_attrs=", primary.Port)
		mustConnect(t, alone+"prefer-standby")
		if _, failure := tryConnect(t, connInfo(t, alone+"standby", nil)); failure == nil || failure.Class != wr.ClassRetry {
			t.Errorf("a standby was wanted: %v", failure)
		}

		standby.Promote()
		conn, _ := mustConnect(t, strings.Replace(alone, strconv.Itoa(primary.Port), strconv.Itoa(standby.Port), 1)+"primary")
		name, content, err := wr.TimelineHistory(t.Context(), conn, 2)
		if err != nil {
			t.Fatal(err)
		}
		onDisk, err := os.ReadFile(standby.WALFile(name))
		if err != nil || string(onDisk) != string(content) {
			t.Errorf("%s: %q, on disk %q (%v)", name, content, onDisk, err)
		}
		if _, _, err := wr.TimelineHistory(t.Context(), conn, 1); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("history of timeline 1: %v", err)
		}
		if s, err := wr.Identify(t.Context(), conn); err != nil || s.Timeline != 2 || s.InRecovery {
			t.Errorf("after the promotion: %+v %v", s, err)
		}
	})
}

func TestIdentifyServer(t *testing.T) {
	forEachMajor(t, func(t *testing.T, major int) {
		c := pgtest.New(t, pgtest.Options{Major: major, WALSegmentSize: 1 << 20, GroupAccess: true})
		c.Start()
		conn, _ := mustConnect(t, c.ReplConn())
		s, err := wr.Identify(t.Context(), conn)
		if err != nil {
			t.Fatal(err)
		}
		got := fmt.Sprintln(s.VersionNum, s.Major, s.SystemID, s.SegmentSize, uint32(s.Timeline), s.DirMode, s.FileMode, s.InRecovery)
		want := fmt.Sprintln(c.Query("show server_version_num"), major, c.SystemID(), segment.Size(1<<20), 1, fs.FileMode(0o750), fs.FileMode(0o640), false)
		if got != want {
			t.Errorf("got %swant %s", got, want)
		}
		t.Logf("server_version %q", s.Version)
	})
}

func TestSlotsOfServer(t *testing.T) {
	forEachMajor(t, func(t *testing.T, major int) {
		c := pgtest.New(t, pgtest.Options{Major: major, WALSegmentSize: 1 << 20, Settings: map[string]string{
			"wal_level": "logical", "max_slot_wal_keep_size": "2MB", "max_wal_size": "4MB", "min_wal_size": "2MB",
		}})
		c.Start()
		conn, config := mustConnect(t, c.ReplConn())
		ctx := t.Context()
		read := func(name string) (wr.Slot, error) { return wr.ReadSlot(ctx, conn, config, name, major) }

		if _, err := read("1abc"); !errors.Is(err, wr.ErrSlotMissing) {
			t.Errorf("read missing: %v", err)
		}
		if err := wr.DropSlot(ctx, conn, "1abc"); !errors.Is(err, wr.ErrSlotMissing) {
			t.Errorf("drop missing: %v", err)
		}
		for range 2 {
			if err := wr.CreateSlot(ctx, conn, "1abc", major, true); err != nil {
				t.Fatal(err)
			}
		}
		s, err := read("1abc")
		if err != nil || !s.Known || s.Lost || s.RestartLSN == 0 {
			t.Errorf("new slot: %+v %v", s, err)
		}
		if want := c.Query("select restart_lsn from pg_replication_slots where slot_name = '1abc'"); s.RestartLSN.String() != want {
			t.Errorf("restart position %s, want %s", s.RestartLSN, want)
		}
		if major >= 15 && s.RestartTLI != 1 {
			t.Errorf("timeline %d", s.RestartTLI)
		}

		c.Exec("select pg_create_physical_replication_slot('reserves_nothing')")
		if s, err := read("reserves_nothing"); err != nil || s != (wr.Slot{Known: true}) {
			t.Errorf("slot that reserves nothing: %+v %v", s, err)
		}
		c.Exec("select pg_create_logical_replication_slot('logical', 'pgoutput')")
		if _, err := read("logical"); !errors.Is(err, wr.ErrSlotLogical) || wr.Classify(err) != wr.ClassUsage {
			t.Errorf("logical slot: %v", err)
		}
		c.Exec("select pg_drop_replication_slot('logical')")

		for range 6 {
			c.SwitchWAL()
		}
		c.Exec("checkpoint")
		c.WaitFor("select wal_status from pg_replication_slots where slot_name = '1abc'", "lost", patience)
		if s, err := read("1abc"); err != nil || !s.Known || !s.Lost || s.RestartLSN != 0 {
			t.Errorf("lost slot: %+v %v", s, err)
		}
		if err := wr.DropSlot(ctx, conn, "1abc"); err != nil {
			t.Error(err)
		}
		if n := c.Query("select count(*) from pg_replication_slots where slot_name = '1abc'"); n != "0" {
			t.Error("the slot is still there")
		}

		// The fallback needs an ordinary connection; without one the state is
		// not known, which is no error.
		c.SetHBA("host replication all 127.0.0.1/32 trust")
		c.Reload()
		pgtest.Eventually(t, patience, func() bool {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			conn, err := pgconn.Connect(ctx, c.ConnString("postgres"))
			if err == nil {
				_ = conn.Close(ctx)
			}
			return err != nil
		}, "the new pg_hba.conf does not count")
		s, err = read("reserves_nothing")
		if want := (wr.Slot{Known: major >= 15}); err != nil || s != want {
			t.Errorf("without an ordinary connection: %+v %v", s, err)
		}
	})
}
