package integration

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/backup"
	"github.com/walrecv/walrecv/internal/basebackup"
	"github.com/walrecv/walrecv/internal/crypt"
	"github.com/walrecv/walrecv/internal/manifest"
	"github.com/walrecv/walrecv/internal/pgtest"
	"github.com/walrecv/walrecv/internal/s3test"
	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/storage/local"
)

// backups is an archive into which base backups are taken.
type backups struct {
	t   testing.TB
	bin string
	url string   // of the archive
	dir string   // where its objects are files
	env []string // NAME=value
	c   *pgtest.Cluster

	receiver *receiver // from c into the archive
}

// takesBackups is for tests that take base backups with walrecv.
func takesBackups(t testing.TB, major int) {
	t.Helper()
	pgtest.Only(t, major, major >= basebackup.MinMajor, "walrecv takes no base backups of it")
}

// backupsOf starts a receiver from a cluster into an archive of its own.
func backupsOf(t testing.TB, c *pgtest.Cluster) *backups {
	t.Helper()
	takesBackups(t, c.Major)
	dir := newArchive(t)
	r := newReceiver(t, c, "--archive", dir, "--tail-interval", "100ms").start()
	r.flushed()
	return &backups{t: t, bin: r.bin, url: dir, dir: dir, c: c, receiver: r}
}

// with is b for a part of its test.
func (b *backups) with(t testing.TB) *backups {
	of := *b
	of.t, of.c = t, b.c.With(t)
	return &of
}

// start begins a base backup of a server.
func (b *backups) start(from *pgtest.Cluster, args ...string) *pgtest.Process {
	b.t.Helper()
	p := pgtest.Command(b.t, b.bin, append([]string{"backup", "create", "-d", from.ReplConn(), "--archive", b.url}, args...)...)
	p.Env = b.env
	return p.Start()
}

// create takes a base backup, which has to be good.
func (b *backups) create(from *pgtest.Cluster, args ...string) backup.Line {
	b.t.Helper()
	return b.created(b.start(from, args...))
}

// created waits for a base backup that was begun, and has to be good.
func (b *backups) created(p *pgtest.Process) backup.Line {
	b.t.Helper()
	if code := p.Wait(patience); code != 0 {
		b.t.Fatalf("backup create ended with %d: %s", code, p.Stderr())
	}
	for _, line := range b.list() {
		if strings.HasPrefix(p.Stdout(), "base backup "+line.ID+" is good: ") && line.State == backup.Good && line.WAL.Complete {
			return line
		}
	}
	b.t.Fatalf("%q, but the list is %+v", p.Stdout(), b.list())
	return backup.Line{}
}

// list is what "backup list" shows.
func (b *backups) list() []backup.Line {
	b.t.Helper()
	code, stdout, stderr := withStore(b.t, b.env, "backup", "list", "--json", "--archive", b.url)
	var report backup.Report
	if err := json.Unmarshal([]byte(stdout), &report); err != nil || code != 0 {
		b.t.Fatalf("backup list: exit code %d, %v: %s%s", code, err, stdout, stderr)
	}
	return report.Backups
}

// good counts the backups that are.
func (b *backups) good() (n int) {
	b.t.Helper()
	for _, line := range b.list() {
		if line.State == backup.Good {
			n++
		}
	}
	return n
}

// isTheServers checks that a backup has all files of its manifest, with the right bytes,
// and no others.
func (b *backups) isTheServers(id string, ids ...age.Identity) {
	b.t.Helper()
	system, err := strconv.ParseUint(b.c.SystemID(), 10, 64)
	if err != nil {
		b.t.Fatal(err)
	}
	a, err := archive.Open(b.t.Context(), local.New(vfs.OS(), b.dir, local.Private), system, archive.Keys{Identities: crypt.Identities(ids)})
	if err != nil {
		b.t.Fatal(err)
	}
	entries, err := backup.List(b.t.Context(), a, time.Now())
	if err != nil {
		b.t.Fatal(err)
	}
	for _, e := range entries {
		if e.ID == id && e.Backup != nil {
			b.compare(a, e.Backup)
			return
		}
	}
	b.t.Errorf("no good backup %s", id)
}

func (b *backups) compare(a *archive.Archive, of *backup.Backup) {
	b.t.Helper()
	m, err := manifest.Read(b.open(a, of, of.Manifest()), nil)
	if err != nil {
		b.t.Fatal(err)
	}
	left := map[string]bool{}
	for i := range m.Len() {
		left[m.At(i).Path] = true
	}
	for _, space := range of.Tablespaces {
		for _, piece := range of.Pieces(space) {
			prefix := ""
			if space.OID != 0 {
				prefix = fmt.Sprintf("pg_tblspc/%d", space.OID)
			}
			r := b.open(a, of, piece)
			b.compareTar(tar.NewReader(r), prefix, m, left)
			if _, err := io.Copy(io.Discard, r); err != nil { // to the digests
				b.t.Errorf("%s: %v", piece.File, err)
			}
		}
	}
	if len(left) > 0 || m.Len() < 900 {
		b.t.Errorf("of %d files are missing: %v", m.Len(), left)
	}
}

// compareTar compares the files of a tar with the manifest.
func (b *backups) compareTar(r *tar.Reader, prefix string, m *manifest.Manifest, left map[string]bool) {
	b.t.Helper()
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			b.t.Fatal(err)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		name := path.Join(prefix, h.Name)
		file, ok := m.Find(name)
		if !ok || !left[name] {
			b.t.Errorf("%s is not in the manifest, or came twice", name)
			continue
		}
		delete(left, name)
		check := file.NewChecker()
		if _, err := io.Copy(check, r); err != nil || check.Mismatch() != "" {
			b.t.Errorf("%s: %v %s", name, err, check.Mismatch())
		}
	}
}

func (b *backups) open(a *archive.Archive, of *backup.Backup, s archive.Stored) io.Reader {
	b.t.Helper()
	r, err := a.OpenStored(b.t.Context(), of.ID, s)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = r.Close() })
	return r
}

// withTablespaces gives a cluster two of them with something inside, one on an odd path.
func withTablespaces(t testing.TB, c *pgtest.Cluster) (odd string) {
	t.Helper()
	for i, name := range []string{"plain", "an ödd  dir % $HOME"} {
		dir := filepath.Join(newDir(t), name)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		pgtest.Give(t, dir)
		c.Exec(fmt.Sprintf("create tablespace space%d location '%s'", i, dir))
		c.Exec(fmt.Sprintf("create table inside%d tablespace space%d as select i, repeat(i::text, 50) from generate_series(1, 2000) i", i, i))
		odd = dir
	}
	return odd
}

// TestBackupCreate takes base backups of a primary and a standby, into a directory and
// into S3, encrypted and several at once.
func TestBackupCreate(t *testing.T) {
	t.Parallel()
	for _, major := range pgtest.Versions(t) {
		t.Run(fmt.Sprintf("pg%d", major), func(t *testing.T) {
			t.Parallel()
			createBackups(t, major)
		})
	}
}

func createBackups(t *testing.T, major int) {
	c := small(t, major, nil)
	all := backupsOf(t, c)
	t.Run("standby", func(t *testing.T) { // before there are tablespaces, for which it would have no place
		b := all.with(t)
		standby := b.c.Standby(t, nil)
		line := b.create(standby)
		standby.Stop(pgtest.Immediate)
		if line.From != backup.FromStandby {
			t.Errorf("%+v", line)
		}
		b.isTheServers(line.ID)
	})
	odd := withTablespaces(t, c)
	t.Run("primary", func(t *testing.T) {
		b := all.with(t)
		line := b.create(c, "--label", `it's a "läbel" \`)
		if line.Label != `it's a "läbel" \` || line.From != backup.FromPrimary || line.Major != major || line.Timeline != 1 ||
			line.EndLSN <= line.StartLSN || len(line.Tablespaces) != 3 || line.Tablespaces[0].Location != odd && line.Tablespaces[1].Location != odd {
			t.Errorf("%+v", line)
		}
		b.isTheServers(line.ID)
		b.unpacks(line.ID)
	})
	if major != pgtest.Version(t) && !pgtest.Long() {
		return // what comes now is less the server's business
	}
	t.Run("encrypted", func(t *testing.T) {
		b := all.with(t)
		id, err := age.GenerateX25519Identity()
		if err != nil {
			t.Fatal(err)
		}
		line := b.create(c, "--encrypt-to", id.Recipient().String(), "--checkpoint", "spread", "--max-rate", "1024M")
		b.isTheServers(line.ID, id)
	})
	t.Run("two at once", func(t *testing.T) {
		b := all.with(t)
		one, two := b.start(c), b.start(c)
		first, second := b.created(one), b.created(two)
		if first.ID == second.ID {
			t.Errorf("both are %s", first.ID)
		}
		b.isTheServers(first.ID)
		b.isTheServers(second.ID)
	})
	t.Run("its WAL comes late", func(t *testing.T) {
		b := all.with(t)
		all.receiver.Signal(syscall.SIGSTOP)
		p := b.start(c, "-v")
		p.WaitOutput(`"missing":"0`, patience)
		good := b.good()
		b.isAsBefore(good)
		all.receiver.Signal(syscall.SIGCONT)
		b.created(p)
	})
	t.Run("deleted", func(t *testing.T) { all.with(t).deletes() })
	if major == pgtest.Version(t) {
		t.Run("s3", func(t *testing.T) {
			s := s3test.Start(t)
			b := &backups{t: t, bin: all.bin, url: s.URL("some/prefix"), dir: s.Path("some/prefix"), env: s.Environ(), c: c.With(t)}
			r := newReceiver(t, b.c, "--archive", b.url, "-S", "s3")
			r.env = b.env
			r.start()
			line := b.create(c)
			b.isTheServers(line.ID)
		})
	}
}

// unpacks checks that command-line tools are enough for a backup that is not encrypted.
func (b *backups) unpacks(id string) {
	b.t.Helper()
	dir := filepath.Join(b.dir, b.c.SystemID(), "backup", id)
	out, err := exec.Command("sh", "-c", `zstd -dcq "$1"/base.*.tar.zst | tar -tf -`, "sh", dir).Output()
	names := strings.Split(strings.TrimSpace(string(out)), "\n")
	if err != nil || names[0] != "backup_label" || names[len(names)-1] != "global/pg_control" {
		b.t.Errorf("%v: %d files from %s to %s", err, len(names), names[0], names[len(names)-1])
	}
}
