package integration

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/walrecv/walrecv/internal/pgtest"
	"github.com/walrecv/walrecv/internal/s3test"
)

// worlds are for the pages that need another one than streaming.
var worlds = map[string]func(*testing.T) *world{
	"README.md":             func(t *testing.T) *world { return newWorld(t, "/srv", "/var/lib") },
	"docs/cloudnativepg.md": func(t *testing.T) *world { return newWorld(t) },
	"docs/configuration.md": withSecrets,
	"docs/encryption.md":    encrypting,
	"docs/failover.md": func(t *testing.T) *world {
		w := twoServers(t)
		w.before = map[string]func(){"walrecv check": func() {
			w.hosts["db2"].WaitFor("select count(*) from pg_stat_replication where application_name = 'walrecv'", "1", patience)
		}}
		return w
	},
	"docs/format.md": byHand,
	"docs/migration.md": func(t *testing.T) *world {
		w := streaming(t)
		w.hosts["db1"].Exec("select pg_create_physical_replication_slot('walg')")
		return w
	},
	"docs/pair.md":    twoServers,
	"docs/patroni.md": led,
	"docs/push.md":    refused,
	"docs/replica.md": func(t *testing.T) *world {
		w := streaming(t)
		w.mkdir("/var/lib/postgresql/15")
		w.startWith(`-o "-p 5434"`) // a machine of its own, elsewhere
		return w
	},
	"docs/restore.md": func(t *testing.T) *world { return newWorld(t) },
	"docs/runbook.md": disaster,
	"docs/s3.md":      inS3,
	"docs/status.md":  afterFailover,
	"docs/verify.md":  damaged,
}

// streaming is the world of a page that takes a cluster for granted that is
// streamed, archived, and has a base backup.
func streaming(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, "/srv/archive", "/var/lib/walrecv", "/etc/walrecv").withRole()
	w.configure()
	w.receive("walrecv receive --config /etc/walrecv.toml")
	w.run("walrecv backup create --config /etc/walrecv.toml --label nightly")
	c := w.hosts["db1"]
	c.Exec("create table orders as select now() as created")
	c.Exec("create table currencies as select generate_series(1, 3)")
	// The moment that pages recover to, before somebody made a mistake.
	w.words["2026-11-22 09:00:00+00"] = c.Query("select clock_timestamp()::text || ':00'")
	c.Exec("drop table currencies")
	c.Exec("create table currencies as select generate_series(1, 3)")
	w.archived()
	return w
}

// twoServers is a world with a standby, db2.
func twoServers(t *testing.T) *world {
	w := streaming(t)
	c := w.hosts["db1"]
	w.mkdir("/var/lib/postgresql/15")
	w.link(c.DataDir, "/var/lib/postgresql/15/main")
	w.addHost("db2", c.Standby(t, nil))
	return w
}

// led is a cluster of three nodes of which one leads; Patroni itself has a test of its own.
func led(t *testing.T) *world {
	w := newWorld(t, "/srv/walrecv", "/var/lib/walrecv")
	c := w.hosts["db1"]
	c.Exec("create role walrecv login replication")
	c.Exec("select pg_create_physical_replication_slot('walrecv', true)")
	for _, node := range []string{"pg1", "pg2", "pg3"} {
		w.addHost(node, c)
	}
	return w
}

// withSecrets is a world with secrets, and an option in the environment.
func withSecrets(t *testing.T) *world {
	w := newWorld(t, "/etc/walrecv", "/home/postgres/.aws", "/var/lib/walrecv/main")
	w.write("/home/postgres/.aws/credentials", "[default]\naws_access_key_id = key\naws_secret_access_key = secret\n")
	w.write("/var/lib/walrecv/.pgpass", "*:*:*:*:secret\n")
	w.env = append(w.env, "WALRECV_SPOOL_MAX=20GB", "PGPASSFILE="+w.root+"/var/lib/walrecv/.pgpass")
	return w
}

// encrypting is a world that has age.
func encrypting(t *testing.T) *world {
	w := streaming(t)
	for _, program := range []string{"age", "age-keygen"} {
		w.link(filepath.Join(pgtest.ModuleRoot(t), "build", "bin", program), "/usr/local/bin/"+program)
	}
	w.before = map[string]func(){"age -d": func() {
		w.hosts["db1"].SwitchWAL()
		w.archived()
		w.words["00000001000000000000000D"] = w.newest("/srv/archive/*/wal/00000001/*.zst.age", ".zst.age")
	}}
	return w
}

// byHand is a world whose base backup has the name that the page gives it.
func byHand(t *testing.T) *world {
	w := streaming(t)
	w.words["20261122T073000Z"] = w.newest("/srv/archive/*/backup/*", "")
	return w
}

// inS3 is a world with a bucket.
func inS3(t *testing.T) *world {
	s := s3test.Start(t)
	w := newWorld(t, "/var/lib/walrecv", "/etc/walrecv").withRole()
	w.words["s3://wal/"] = "s3://" + s.Bucket + "/"
	w.words["region=eu-central-1"] = "region=" + s3test.Region
	w.words["KEY_ID"], w.words["SECRET"] = s.Keys.Access, s.Keys.Secret
	w.env = append(w.env, "AWS_ENDPOINT_URL_S3="+s.Endpoint)
	return w
}

// refused is the world of a server that was promoted without much of what is archived.
func refused(t *testing.T) *world {
	w := streaming(t)
	c := w.hosts["db1"]
	standby := c.Standby(t, nil)
	standby.Stop(pgtest.Fast)
	for range 2 {
		c.SwitchWAL()
		w.archived()
	}
	c.Stop(pgtest.Immediate) // nor does the standby get it now
	standby.Start()
	standby.Promote()
	w.mkdir("/var/lib/postgresql/15")
	w.link(standby.DataDir, "/var/lib/postgresql/15/main")
	const push = "cd /var/lib/postgresql/15/main && walrecv push --config /etc/walrecv.toml pg_wal/00000002.history"
	w.before = map[string]func(){"--accept-branch": func() {
		if code, said := w.try(push); code != 4 {
			t.Fatalf("the branch is let in: %d\n%s", code, said)
		}
	}}
	w.proof = func() { w.run(push) }
	return w
}

// afterFailover is the world of a standby that was promoted without what came last.
func afterFailover(t *testing.T) *world {
	w := streaming(t)
	old := w.hosts["db1"]
	standby := old.Standby(t, nil)
	old.Exec("select pg_create_restore_point('before')")
	old.Exec("insert into orders values (now())") // which flushes that, too
	standby.WaitFor("select pg_last_wal_replay_lsn() >= '"+old.FlushLSN()+"'", "t", patience)
	standby.Stop(pgtest.Fast)
	old.Exec("select pg_create_restore_point('left')")
	old.SwitchWAL()
	w.archived()
	old.Stop(pgtest.Immediate)
	standby.Start()
	standby.Promote()
	w.hosts["db1"] = standby
	w.configure()
	w.receive("walrecv receive --config /etc/walrecv.toml")
	standby.Exec("insert into orders values (now())")
	standby.Exec("select pg_create_restore_point('after')")
	standby.SwitchWAL()
	w.archived()
	return w
}

// damaged is a world in which somebody meddles with the archive.
func damaged(t *testing.T) *world {
	w := streaming(t)
	c := w.hosts["db1"]
	var segments []string
	for range 3 {
		segments = append(segments, walFile(c))
		c.SwitchWAL()
	}
	w.archived()
	w.before = map[string]func(){"not sound": func() {
		w.run(`cd /srv/archive/*/wal && touch notes.txt && rm 00000001/` + segments[1] + `.zst`)
		file := w.path("/srv/archive/*/wal/00000001/" + segments[0] + ".zst")
		content := readFile(t, file)
		trailer := 8 + int(binary.LittleEndian.Uint32(content[len(content)-4:]))
		content[len(content)-trailer-1] ^= 1 // in the checksum of the frame
		if err := os.Chmod(file, 0o600); err != nil {
			t.Fatal(err)
		}
		writeFile(t, file, content)
	}}
	return w
}

// disaster is a world in which somebody has dropped a table. Later its server is lost,
// and then WAL.
func disaster(t *testing.T) *world {
	w := streaming(t)
	c := w.hosts["db1"]
	w.mkdir("/var/lib/postgresql/15", "/etc/postgresql/15/main")
	w.link(c.DataDir, "/var/lib/postgresql/15/main")
	w.words["/usr/lib/postgresql/15/bin"] = pgtest.BinDir(t, worldMajor)
	c.Exec("drop table currencies")
	c.Exec("insert into orders values (now())")
	w.archived()
	w.before = map[string]func(){
		// As Debian's servers have it.
		"config_file=": func() {
			w.run(`pg_ctl -D /tmp/then -m fast stop
mv /tmp/then/*.conf /etc/postgresql/15/main
mv /etc/postgresql/15/main/postgresql.auto.conf /tmp/then
echo "hba_file = '/etc/postgresql/15/main/pg_hba.conf'
ident_file = '/etc/postgresql/15/main/pg_ident.conf'
external_pid_file = '/tmp/15-main.pid'" >>/etc/postgresql/15/main/postgresql.conf
echo 0 >/tmp/15-main.pid`)
		},
		"--accept-gap": func() {
			w.stopReceiver()
			c.Exec("select pg_drop_replication_slot('walrecv')")
			first := walFile(c)
			pgtest.Eventually(t, patience, func() bool {
				c.SwitchWAL()
				c.Exec("checkpoint")
				_, err := os.Stat(w.root + "/var/lib/postgresql/15/main/pg_wal/" + first)
				return os.IsNotExist(err)
			}, "the server still has %s", first)
			if code, said := w.try("walrecv receive --config /etc/walrecv.toml"); code != 5 {
				t.Fatalf("the gap is not refused: %d\n%s", code, said)
			}
		},
	}
	w.proof = func() {
		if got := c.Query("select count(*) from currencies") + " " + c.Query("select count(*) from orders"); got != "3 2" {
			t.Errorf("the table was not brought back, or the server not recovered: %s", got)
		}
		if pid := strings.TrimSpace(string(readFile(t, w.root+"/tmp/15-main.pid"))); pid != "0" {
			t.Errorf("the server beside the other one wrote %s where that has its pid", pid)
		}
	}
	return w
}

// configure writes the configuration of a receiver of db1.
func (w *world) configure() {
	w.t.Helper()
	w.write("/etc/walrecv.toml", `archive = "/srv/archive"
dbname = "host=db1 user=replicator"

[receive]
directory = "/var/lib/walrecv"
slot = "walrecv"
ensure_slot = true
`)
}

// archived waits until the archive has what the server has.
func (w *world) archived() {
	w.t.Helper()
	w.run("walrecv check --config /etc/walrecv.toml")
}

// path is the one file that a pattern of the page's machine means.
func (w *world) path(pattern string) string {
	w.t.Helper()
	found, _ := filepath.Glob(w.root + pattern)
	if len(found) != 1 {
		w.t.Fatalf("%s: %d files", pattern, len(found))
	}
	return found[0]
}

// newest is the last name of a file that a pattern means, without a suffix.
func (w *world) newest(pattern, suffix string) string {
	w.t.Helper()
	found, _ := filepath.Glob(w.root + pattern)
	if len(found) == 0 {
		w.t.Fatalf("there is no %s", pattern)
	}
	return strings.TrimSuffix(filepath.Base(slices.Max(found)), suffix)
}
