package pgtest_test

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/pgtest"
)

// eachMajor runs a test against every version, on a cluster of small segments
// that is started.
func eachMajor(t *testing.T, o pgtest.Options, test func(t *testing.T, c *pgtest.Cluster)) {
	for _, major := range pgtest.Versions(t) {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			o.Major = major
			if o.WALSegmentSize == 0 {
				o.WALSegmentSize = 1 << 20
			}
			c := pgtest.New(t, o)
			c.Start()
			test(t, c)
		})
	}
}

func TestServerIsTheOneAskedFor(t *testing.T) {
	o := pgtest.Options{Settings: map[string]string{"cluster_name": "it's me"}, GroupAccess: true}
	eachMajor(t, o, func(t *testing.T, c *pgtest.Cluster) {
		for query, want := range map[string]string{
			"show server_version_num":  strconv.Itoa(c.Major),
			"show wal_segment_size":    "1MB",
			"show cluster_name":        "it's me",
			"show data_directory_mode": "0750",
			"show data_directory":      c.DataDir,
			"select null":              "",
		} {
			if got := c.Query(query); !strings.HasPrefix(got, want) || want == "" && got != "" {
				t.Errorf("%s: %q, want %q", query, got, want)
			}
		}
		info, err := os.Stat(c.WALFile(c.SwitchWAL()))
		if err != nil || info.Size() != 1<<20 {
			t.Errorf("finished segment: %v, %v", info, err)
		}
		if took := c.Stop(pgtest.Fast); c.Running() {
			t.Errorf("runs %v after a stop", took)
		}
		c.Start()
	})
}

func TestKill9LeavesNoProcessAndTheServerRecovers(t *testing.T) {
	eachMajor(t, pgtest.Options{}, func(t *testing.T, c *pgtest.Cluster) {
		c.Exec("create table t(i int); insert into t select generate_series(1, 1000)")
		if n := len(processesIn(t, c.DataDir)); n < 5 {
			t.Fatalf("%d processes of the server, want the postmaster and its helpers", n)
		}
		c.Kill9()
		if left := processesIn(t, c.DataDir); len(left) > 0 {
			t.Errorf("left after Kill9: %v", left)
		}
		if _, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", c.Port)); err == nil {
			t.Error("the port of a killed server takes connections")
		}
		c.Start()
		if got := c.Query("select count(*) from t"); got != "1000" {
			t.Errorf("%s rows after the crash", got)
		}
		if !strings.Contains(c.Log(), "was not properly shut down") {
			t.Error("the server did not notice that it crashed")
		}
		c.Kill9()
		segment := sharedMemoryOf(t, c.DataDir)
		c.Destroy()
		if hasSharedMemory(t, segment) {
			t.Errorf("shared memory segment %s outlived the cluster", segment)
		}
	})
}

func TestStandbyStreamsAndIsPromoted(t *testing.T) {
	eachMajor(t, pgtest.Options{}, func(t *testing.T, c *pgtest.Cluster) {
		c.Exec("create table t as select 1 i")
		standby := c.Standby(t, nil)
		c.Exec("insert into t values (2)")
		standby.WaitFor("select sum(i) from t", "3", 30*time.Second)
		c.Kill9()
		standby.Promote()
		standby.Exec("insert into t values (3)")
		if got := standby.Query("select timeline_id from pg_control_checkpoint()"); got == "" {
			t.Error("no timeline")
		}
		standby.WaitFor("select pg_walfile_name(pg_current_wal_lsn()) like '00000002%'", "t", 30*time.Second)
	})
}

func TestRecoverFromBaseBackupAndOldWAL(t *testing.T) {
	settings := map[string]string{"wal_keep_size": "1GB"}
	eachMajor(t, pgtest.Options{Settings: settings}, func(t *testing.T, c *pgtest.Cluster) {
		c.Exec("create table t as select 1 i")
		c.Exec("select pg_create_physical_replication_slot('not_in_the_backup', true)")
		backup := c.BaseBackup(t, "")
		c.Exec("insert into t values (2)")
		c.SwitchWAL()
		wal := c.WALDir()
		c.Kill9()
		restored := c.Recover(t, backup.Dir, map[string]string{"restore_command": "cp " + wal + "/%f %p"})
		if got := restored.Query("select sum(i) from t"); got != "3" {
			t.Errorf("sum after recovery: %s, want 3", got)
		}
		if got := restored.Query("select count(*) from pg_replication_slots"); got != "0" {
			t.Errorf("%s slots came along with the backup", got)
		}
	})
}

func TestFailedStartSaysWhy(t *testing.T) {
	for _, major := range pgtest.Versions(t) {
		c := pgtest.New(t, pgtest.Options{Major: major, Settings: map[string]string{"wal_level": "sideways"}})
		err := c.TryStart()
		if err == nil || !strings.Contains(err.Error(), "sideways") {
			t.Errorf("start with a wrong setting: %v", err)
		}
	}
}

func TestFreshClustersDiffer(t *testing.T) {
	for _, major := range pgtest.Versions(t) {
		ids := map[string]bool{}
		for range 2 {
			c := pgtest.New(t, pgtest.Options{Major: major, WALSegmentSize: 1 << 20, Fresh: true})
			c.Start()
			ids[c.SystemID()] = true
		}
		if len(ids) != 2 {
			t.Errorf("system identifiers of two fresh clusters: %v", ids)
		}
	}
}

func TestPasswordsAndTLS(t *testing.T) {
	o := pgtest.Options{TLS: true, HBA: []string{"hostssl all alice 127.0.0.1/32 scram-sha-256"}}
	eachMajor(t, o, func(t *testing.T, c *pgtest.Cluster) {
		c.Exec("create role alice login password 'secret'")
		for conn, want := range map[string]string{
			"user=alice password=secret sslmode=verify-full": "",
			"user=alice password=wrong sslmode=verify-full":  "28P01",
			"user=alice password=secret sslmode=disable":     "28000",
			"user=postgres sslmode=verify-full":              "28000",
		} {
			err := connect(t, fmt.Sprintf("host=127.0.0.1 port=%d dbname=postgres sslrootcert=%s %s", c.Port, c.CAFile, conn))
			if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
				t.Errorf("%s: %v, want %q", conn, err, want)
			}
		}
		c.SetHBA()
		c.Reload()
		pgtest.Eventually(t, 30*time.Second, func() bool { return connect(t, c.ConnString("postgres")) == nil },
			"the first lines of pg_hba.conf stayed")
	})
}

func TestProgramRunsApartFromTheTests(t *testing.T) {
	t.Setenv("PGHOST", "elsewhere.invalid")
	hello := pgtest.BuildPackage(t, "./internal/pgtest/testdata/hello")
	code, out, stderr := pgtest.Run(t, hello)
	if code != 0 || stderr != "" {
		t.Fatalf("hello ended with %d: %s", code, stderr)
	}
	if strings.Contains(out, "PGHOST") {
		t.Errorf("the environment of the tests came along:\n%s", out)
	}
	if strings.Contains(out, "uid 0\n") {
		t.Error("runs as root")
	}
	p := pgtest.Command(t, hello, "a while").Start()
	p.WaitOutput("waiting: a while", 10*time.Second)
	if code, ended := p.Exited(); ended {
		t.Fatalf("ended with %d while it should wait", code)
	}
	p.Signal(syscall.SIGTERM)
	if code := p.Wait(10 * time.Second); code != 7 {
		t.Errorf("exit code %d, want 7", code)
	}
	p = pgtest.Command(t, hello, "forever").Start()
	p.Kill()
	if code := p.Wait(0); code != 128+9 {
		t.Errorf("exit code %d after SIGKILL, want 137", code)
	}
	if code, _, _ := pgtest.Run(t, "/nonexistent"); code != 127 {
		t.Errorf("exit code %d of a program that is not there, want 127", code)
	}
}

func TestClientRuns(t *testing.T) {
	eachMajor(t, pgtest.Options{}, func(t *testing.T, c *pgtest.Cluster) {
		p := c.Command(t, "pgbench", "-i", "-q", "-s", "1").Start()
		if code := p.Wait(time.Minute); code != 0 {
			t.Fatalf("pgbench -i ended with %d: %s", code, p.Stderr())
		}
		if got := c.Query("select count(*) from pgbench_accounts"); got != "100000" {
			t.Errorf("%s accounts", got)
		}
	})
}

// What ends a test must end it: each of these would otherwise let any test pass.
func TestWhatDoesNotHoldEndsTheTest(t *testing.T) {
	c := pgtest.New(t, pgtest.Options{Major: 15, WALSegmentSize: 1 << 20})
	c.Start()
	p := pgtest.Command(t, "/bin/sleep", "1000").Start()
	t.Setenv("WALRECV_TEST_PG77", t.TempDir())
	for want, act := range map[string]func(t testing.TB){
		"tools/need pg77": func(t testing.TB) { pgtest.BinDir(t, 77) },
		"7 is not 8": func(t testing.TB) {
			pgtest.Eventually(t, time.Millisecond, func() bool { return false }, "%d is not %d", 7, 8)
		},
		`"1" after 1ms, want "2"`:    func(t testing.TB) { c.With(t).WaitFor("select 1", "2", time.Millisecond) },
		"division by zero":           func(t testing.TB) { c.With(t).Exec("select 1/0") },
		`sleep has not written "up"`: func(t testing.TB) { p.With(t).WaitOutput("up", time.Millisecond) },
		"sleep still runs after 1ms": func(t testing.TB) { p.With(t).Wait(time.Millisecond) },
	} {
		rec := &fatalRecorder{TB: t}
		func() {
			defer func() { _ = recover() }()
			act(rec)
		}()
		if !strings.Contains(rec.message, want) {
			t.Errorf("%q, want %q", rec.message, want)
		}
	}
}

// fatalRecorder keeps what a test would have ended with.
type fatalRecorder struct {
	testing.TB
	message string
}

func (r *fatalRecorder) Fatalf(format string, args ...any) {
	r.message = fmt.Sprintf(format, args...)
	panic("the test would end here")
}
