package main

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/backup"
	"github.com/walrecv/walrecv/internal/basebackup"
	"github.com/walrecv/walrecv/internal/fakepg"
	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/receiver"
	"github.com/walrecv/walrecv/storage/local"
)

func TestBackupCreateRefuses(t *testing.T) {
	for args, says := range map[string]string{
		"":                              "nowhere to put the backup; use --archive",
		"--archive /a x":                `too many command-line arguments (first is "x")`,
		"--archive /a -w -W":            "cannot use --no-password together with --password",
		"--archive /a -c now":           `--checkpoint: invalid value "now": valid are fast, spread`,
		"--archive /a -r 31":            `--max-rate: invalid rate "31": must be between 32k and 1024M`,
		"--archive /a -r 1025M":         `must be between 32k and 1024M`,
		"--archive /a -r 9999999999999": "want a number of kB/s",
		"--archive /a -r 1G":            "want a number of kB/s",
		"--archive /a -r -5":            "want a number of kB/s",
		"--archive /a --wait 13h":       "must be between 0 and 12h",
		"--archive /a --encrypt-to x":   "--encrypt-to: ",
		"--archive /a --label a\tb":     "a label has no control characters",
	} {
		words := []string{"backup", "create"}
		if args != "" {
			words = append(words, strings.Split(args, " ")...)
		}
		o := walrecv([]string{"HOME=/nowhere"}, words...)
		if o.code != exitUsage || !strings.Contains(o.stderr, says) || o.stdout != "" {
			t.Errorf("%q: exit %d, %s%s; want %q", args, o.code, o.stdout, o.stderr, says)
		}
	}
	for text, want := range map[string]int{"32": 32, "1048576": 1 << 20, "32k": 32, "2M": 2048, "1024M": 1 << 20} {
		var rate int
		if err := rateValue(&rate).Set(text); err != nil || rate != want {
			t.Errorf("%s: %d, %v", text, rate, err)
		}
	}
}

// fakeSystem is the cluster of a fake server.
const fakeSystem = "17123456789012345678"

// backupWorld is a server that sends base backups, and an archive.
type backupWorld struct {
	t    *testing.T
	addr string
	dir  string
}

// newBackupWorld makes a server at 0/300100 whose backups begin at 0/300028.
func newBackupWorld(t *testing.T, change func(*fakepg.Config)) *backupWorld {
	t.Helper()
	var data bytes.Buffer
	w := tar.NewWriter(&data)
	for _, name := range []string{"backup_label", "PG_VERSION", "global/pg_control"} {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: int64(len(name))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	config := fakepg.Config{End: 0x300100, BaseBackup: fakepg.BaseBackup{
		Start: 0x300028, Base: data.Bytes(), Manifest: []byte("{}"),
		Tablespaces: []fakepg.Tablespace{{OID: 16384, Location: "/srv/space", Tar: data.Bytes()}},
	}}
	if change != nil {
		change(&config)
	}
	s := fakepg.New(config)
	t.Cleanup(s.Close)
	addr, err := s.Listen()
	if err != nil {
		t.Fatal(err)
	}
	return &backupWorld{t: t, addr: addr, dir: t.TempDir()}
}

// archived makes segments stand in the archive that nobody has looked into.
func (w *backupWorld) archived(names ...string) {
	w.t.Helper()
	for _, name := range names {
		path := filepath.Join(w.dir, fakeSystem, "wal", name[:8], name+".zst")
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			w.t.Fatal(err)
		}
		trailer := `{"sha256":"` + strings.Repeat("0", 64) + `","size":1048576}`
		length := binary.LittleEndian.AppendUint32(nil, uint32(len(trailer)+4))
		object := bytes.Join([][]byte{{0x5E, 0x2A, 0x4D, 0x18}, length, []byte(trailer), length}, nil)
		if err := os.WriteFile(path, object, 0o600); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *backupWorld) create(args ...string) outcome {
	w.t.Helper()
	host, port, _ := strings.Cut(w.addr, ":")
	connect := "host=" + host + " port=" + port + " user=replicator sslmode=disable"
	return walrecv(nil, append([]string{"backup", "create", "-d", connect, "--archive", w.dir, "--wait", "0"}, args...)...)
}

// states are those of the backups in the archive, by "backup list".
func (w *backupWorld) states() (states []backup.State) {
	w.t.Helper()
	o := walrecv(nil, "backup", "list", "--json", "--archive", w.dir)
	var r backup.Report
	if err := json.Unmarshal([]byte(o.stdout), &r); err != nil || o.code != exitDone {
		w.t.Fatalf("%v: %s", err, o.stderr)
	}
	for _, line := range r.Backups {
		states = append(states, line.State)
	}
	return states
}

const segment3 = "000000010000000000000003"

func TestBackupCreate(t *testing.T) {
	w := newBackupWorld(t, nil)
	w.archived(segment3)
	for range 2 { // the second one begins in the same second, or in the next
		o := w.create("--label", "nightly")
		if o.code != exitDone || !strings.HasPrefix(o.stdout, "base backup 20") || !strings.Contains(o.stdout, " is good: ") ||
			!strings.Contains(o.stdout, "in 3 objects") || !strings.HasSuffix(o.stdout, "from a primary, with WAL from 0/300028 to 0/300100 on timeline 1\n") {
			t.Fatalf("exit %d, %s%s", o.code, o.stdout, o.stderr)
		}
		if strings.Contains(o.stderr, `"WARN"`) {
			t.Errorf("a warning: %s", o.stderr)
		}
	}
	if got := w.states(); len(got) != 2 || got[0] != backup.Good || got[1] != backup.Good {
		t.Errorf("backups: %v", got)
	}
}

func TestBackupCreateFails(t *testing.T) {
	for name, c := range map[string]struct {
		change   func(*fakepg.Config)
		archived []string
		says     string
		left     bool // something of the backup is in the archive
	}{
		"old server": {func(c *fakepg.Config) { c.Version = "14.23" }, nil, "the server is PostgreSQL 14.23; base backups are taken from 15", false},
		"checksums": {func(c *fakepg.Config) {
			c.BaseBackup.Before = failBefore[*pgproto3.ReadyForQuery](fakepg.Error{Code: "XX001", Message: "checksum verification failure during base backup"})
		}, []string{segment3}, "was not completed: base backup: ERROR: checksum verification failure during base backup (SQLSTATE XX001)", true},
		"promoted": {func(c *fakepg.Config) {
			c.Standby = true
			c.BaseBackup.Before = failBefore[*pgproto3.CopyDone](fakepg.Error{Code: "55000", Message: "the standby was promoted during online backup"})
		}, []string{segment3}, "the standby was promoted during online backup", true},
		"no right": {func(c *fakepg.Config) {
			c.BaseBackup.Before = failBefore[*pgproto3.RowDescription](fakepg.Error{Code: "42501", Message: "must be superuser"})
		}, nil, "no base backup was taken: ", false},
		"no WAL":            {nil, nil, segment3 + " is not in the archive yet; waited for 0s", true},
		"WAL of its middle": {func(c *fakepg.Config) { c.BaseBackup.End = 0x500000 }, []string{segment3, "000000010000000000000005"}, "000000010000000000000004 is missing", true},
		"segment size":      {func(c *fakepg.Config) { c.SegmentSize = 2 << 20 }, nil, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newBackupWorld(t, c.change)
			w.archived(c.archived...)
			if name == "segment size" {
				first := newBackupWorld(t, nil)
				first.create()
				w.dir = first.dir
				if err := os.RemoveAll(filepath.Join(w.dir, fakeSystem, "backup")); err != nil {
					t.Fatal(err)
				}
			}
			o := w.create()
			if o.code != exitFailed || o.stdout != "" || !strings.Contains(o.stderr, c.says) {
				t.Fatalf("exit %d, %s%s; want %q", o.code, o.stdout, o.stderr, c.says)
			}
			if !c.left {
				if _, err := os.Stat(filepath.Join(w.dir, fakeSystem, "backup")); err == nil {
					t.Error("something is left behind")
				}
				return
			}
			if got := w.states(); len(got) != 1 || got[0] != backup.Running {
				t.Errorf("backups: %v", got)
			}
		})
	}
}

// A server names the damaged pages while it sends them.
func TestBackupCreateWarnings(t *testing.T) {
	w := newBackupWorld(t, func(c *fakepg.Config) {
		c.BaseBackup.Before = func(c *fakepg.Conn, m pgproto3.BackendMessage) (bool, error) {
			if _, ok := m.(*pgproto3.CopyDone); !ok {
				return true, nil
			}
			warning := &pgproto3.NoticeResponse{Severity: "WARNUNG", SeverityUnlocalized: "WARNING", Code: "01000", Message: "checksum verification failed in block 3"}
			return true, c.Send(warning)
		}
	})
	w.archived(segment3)
	if o := w.create(); o.code != exitDone || !strings.Contains(o.stderr, `"level":"WARN","msg":"the server says: checksum verification failed in block 3"`) {
		t.Errorf("exit %d, %s", o.code, o.stderr)
	}
}

// failBefore makes a server fail before a kind of message.
func failBefore[M pgproto3.BackendMessage](e fakepg.Error) func(*fakepg.Conn, pgproto3.BackendMessage) (bool, error) {
	return func(c *fakepg.Conn, m pgproto3.BackendMessage) (bool, error) {
		if _, ok := m.(M); !ok {
			return true, nil
		}
		if err := c.Fail(e); err != nil {
			return false, err
		}
		return false, fakepg.ErrAnswered
	}
}

// A backup that begins in a hole of the archive is refused before anything of it is
// there, after some patience with uploads that are on their way.
func TestBackupCreateInHole(t *testing.T) {
	w := newBackupWorld(t, nil)
	w.create() // makes the archive
	w.archived("000000010000000000000002", "000000010000000000000004")
	begin := func(pause func(context.Context) error) error {
		store := local.New(vfs.OS(), w.dir, local.Private)
		a, err := archive.Open(t.Context(), store, 17123456789012345678, archive.Keys{})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(filepath.Join(w.dir, fakeSystem, "backup")); err != nil {
			t.Fatal(err)
		}
		server := receiver.Server{SystemID: a.Identity().SystemID, Major: 15}
		b := &taking{ctx: t.Context(), archive: a, server: server, started: time.Now(), now: time.Now, pause: pause, log: slog.New(slog.DiscardHandler)}
		return b.Begin(basebackup.Start{LSN: 0x300028, Timeline: 1})
	}
	pauses := 0
	err := begin(func(context.Context) error { pauses++; return nil })
	if err == nil || pauses != looksForStart-1 || !strings.Contains(err.Error(), "it would begin at 0/300028, and "+segment3+" is missing in the archive, which has later WAL") {
		t.Errorf("after %d pauses: %v", pauses, err)
	}
	if got := w.states(); len(got) != 0 {
		t.Errorf("backups: %v", got)
	}
	err = begin(func(context.Context) error { w.archived(segment3); return nil })
	if got := w.states(); err != nil || len(got) != 1 {
		t.Errorf("%v, backups: %v", err, got)
	}
}

// What the archive does not have is told at the start.
func TestBackupCreateWarns(t *testing.T) {
	for says, archived := range map[string][]string{
		"has no WAL of the server's timeline": nil,
		"is far behind the server":            {"000000010000000000000001"},
	} {
		w := newBackupWorld(t, func(c *fakepg.Config) { c.End = 0x500100 })
		w.archived(archived...)
		if o := w.create(); !strings.Contains(o.stderr, says) || !strings.Contains(o.stderr, `"WARN"`) {
			t.Errorf("%v: %s; want %q", archived, o.stderr, says)
		}
	}
}

// A backup in the clear is no matter of course where the rest is encrypted.
func TestBackupCreateInTheClear(t *testing.T) {
	const says = "this base backup will not be"
	recipients := filepath.Join(t.TempDir(), "recipients")
	id, err := age.GenerateX25519Identity()
	if err == nil {
		err = os.WriteFile(recipients, []byte(id.Recipient().String()), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		file string // besides segment 1; empty: none
		args []string
		warn bool
	}{
		{"nothing is encrypted", "", nil, false},
		{"the newest WAL is", "wal/00000001/000000010000000000000002.zst.age", nil, true},
		{"older WAL is", "wal/00000001/000000010000000000000000.zst.age", nil, false},
		{"the tail is", "tail/000000010000000000000002/00000000-00000100.zst.age", nil, true},
		{"a backup is", "backup/20260131T120000Z/base.000001.tar.zst.age", nil, true},
		{"this one is, too", "backup/20260131T120000Z/base.000001.tar.zst.age", []string{"--encrypt-to", "@" + recipients}, false},
	} {
		w := newBackupWorld(t, nil)
		w.archived("000000010000000000000001")
		if tt.file != "" {
			file := filepath.Join(w.dir, fakeSystem, tt.file)
			if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, nil, 0o600)); err != nil {
				t.Fatal(err)
			}
		}
		if o := w.create(tt.args...); strings.Contains(o.stderr, says) != tt.warn || !strings.Contains(o.stderr, "the base backup begins") {
			t.Errorf("%s: %s", tt.name, o.stderr)
		}
	}
}

// An archive of other clusters alone is not what was meant.
func TestBackupCreateElsewhere(t *testing.T) {
	w := newBackupWorld(t, nil)
	w.dir = emptyArchive(t, 7400000000000000001)
	o := w.create()
	if o.code != exitFailed || !strings.Contains(o.stderr, "holds nothing of the cluster with system identifier "+fakeSystem+", only of 7400000000000000001") {
		t.Errorf("exit %d, %s", o.code, o.stderr)
	}
	w.dir = filepath.Join(t.TempDir(), "nowhere")
	if o := w.create(); o.code != exitFailed || !strings.Contains(o.stderr, "create it, or correct --archive") {
		t.Errorf("exit %d, %s", o.code, o.stderr)
	}
}
