package drill

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/pgtest"
)

// takeData copies the files of a server that does not run.
func takeData(p *place, from string) error {
	if err := os.CopyFS(p.data(), os.DirFS(from)); err != nil {
		return err
	}
	return filepath.WalkDir(p.data(), func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			err = os.Chmod(path, 0o700)
		}
		return errors.Join(err, p.as.own(path))
	})
}

// stopped makes a cluster that has a superuser of another name, and is stopped.
func stopped(t *testing.T) *pgtest.Cluster {
	t.Helper()
	c := pgtest.New(t, pgtest.Options{Major: 15, WALSegmentSize: 1 << 20})
	c.Start()
	c.Exec("create role other superuser login")
	c.Exec("create role third superuser nologin")
	c.Exec("create role weak login")
	c.Exec("set session authorization other; alter role postgres rename to boss")
	c.Stop(pgtest.Fast)
	return c
}

func TestServer(t *testing.T) {
	c := stopped(t)
	// What it was called before stands there, too, until somebody vacuums.
	if got := superusers(c.DataDir); !slices.Contains(got, "boss") || !slices.Contains(got, "other") || slices.Contains(got, "third") || slices.Contains(got, "weak") {
		t.Errorf("superusers %q", got)
	}
	base := pgtest.TempDir(t)
	t.Run("whole", func(t *testing.T) { serverRuns(t, c, base) })
	t.Run("killed", func(t *testing.T) { killed(t, c, base) })
	left, err := os.ReadDir(base)
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func serverRuns(t *testing.T, c *pgtest.Cluster, base string) {
	// So long that no socket can lie in it.
	base = filepath.Join(base, strings.Repeat("x", 90))
	if err := os.Mkdir(base, 0o755); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := os.Remove(base); err != nil {
			t.Error(err)
		}
	}()
	as, err := FindAccount()
	if err != nil {
		t.Fatal(err)
	}
	p, err := newPlace(t.Context(), base, as, func(string) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := Clear(p.dirs()); err != nil {
			t.Error(err)
		}
	}()
	if len(p.dirs()) != 2 || filepath.Dir(p.socket) != "/tmp" {
		t.Errorf("the socket is in %s", p.socket)
	}
	if err := takeData(p, c.DataDir); err != nil {
		t.Fatal(err)
	}
	programs, err := FindPrograms(t.Context(), pgtest.BinDir(t, 15), "", 15, as)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(p.disarm(), p.configure(p.settingsOf(15, true, map[string]int{"max_connections": 123}))); err != nil {
		t.Fatal(err)
	}
	s, err := startServer(p, programs, []string{os.Args[0], asConfined}, serverEnviron([]string{"PGPORT=1", "WALRECV_SPOOL=/x", "LC_ALL=de_DE.UTF-8", "PATH=" + os.Getenv("PATH")}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.follow(t.Context(), time.Minute, func(r replay) bool { return !r.Ready.IsZero() }); err != nil {
		t.Fatalf("%v\n%s", err, strings.Join(s.log.reasons(), "\n"))
	}
	conn, _, err := p.connect(t.Context(), "postgres", superusers(p.data()))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"max_connections": "123", "listen_addresses": "", "archive_mode": "off", "max_logical_replication_workers": "0"} {
		if got, err := ask(t.Context(), conn, "show "+name); err != nil || got != want {
			t.Errorf("%s is %q, %v", name, got, err)
		}
	}
	// Where tests run the kernel can do that.
	elsewhere := filepath.Join(pgtest.TempDir(t), "file")
	if _, err := ask(t.Context(), conn, "copy (select 1) to '"+elsewhere+"'"); err == nil || !strings.Contains(err.Error(), "Permission denied") {
		t.Errorf("the server can write elsewhere: %v", err)
	}
	if err := conn.Exec(t.Context(), "copy (select 1) to '"+p.file("file")+"'").Close(); err != nil {
		t.Errorf("the server cannot write where it may: %v", err)
	}
	if err := errors.Join(conn.Close(t.Context()), s.stop(t.Context())); err != nil {
		t.Error(err)
	}
	s.awaitLog()
}

// killed kills a drill half-way.
func killed(t *testing.T, c *pgtest.Cluster, base string) {
	cmd := exec.Command(os.Args[0], asVictim, base, c.DataDir, pgtest.BinDir(t, 15))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var dir, socket string
	line, err := bufio.NewReader(out).ReadString('\n')
	if _, scanned := fmt.Sscanf(line, "begun: %s %s", &dir, &socket); scanned != nil || err != nil {
		t.Errorf("%q, %v", line, err)
	}
	if n := len(processesIn(dir)); n < 4 {
		t.Errorf("%d processes run in %q", n, dir)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	pgtest.Eventually(t, 30*time.Second, func() bool {
		_, err := os.Stat(dir)
		return errors.Is(err, fs.ErrNotExist) && len(processesIn(dir)) == 0
	}, "%s or its server stayed", dir)
}

func TestClearRefuses(t *testing.T) {
	dir := t.TempDir()
	for _, bad := range []string{dir, "/", "", filepath.Join(dir, "walrecv-drill"), "walrecv-drill-1"} {
		if err := Clear([]string{bad}); err == nil {
			t.Errorf("cleared %q", bad)
		}
	}
	if _, err := os.Stat(dir); err != nil {
		t.Error(err)
	}
}

func TestFindPrograms(t *testing.T) {
	as, err := FindAccount()
	if err != nil {
		t.Fatal(err)
	}
	bin15, err15 := filepath.EvalSymlinks(pgtest.BinDir(t, 15))
	bin18, err18 := filepath.EvalSymlinks(pgtest.BinDir(t, 18))
	if err := errors.Join(err15, err18); err != nil {
		t.Fatal(err)
	}
	p, err := FindPrograms(t.Context(), "", "relative:/nowhere:"+bin15+":"+bin18, 18, as)
	if err != nil || p.Dir != bin18 {
		t.Errorf("%+v, %v", p, err)
	}
	if got := strings.Join(usualPlaces("/usr/bin:relative::/opt/pg:/usr/bin", 15), " "); got != "/usr/lib/postgresql/15/bin /usr/bin /opt/pg" {
		t.Errorf("looked into %s", got)
	}
	links := t.TempDir()
	if err := os.Symlink(filepath.Join(bin15, "postgres"), filepath.Join(links, "postgres")); err != nil {
		t.Fatal(err)
	}
	p, err = FindPrograms(t.Context(), links, "", 15, as)
	if err != nil || p.Dir != bin15 || p.Amcheck != filepath.Join(bin15, "pg_amcheck") {
		t.Errorf("by a link: %+v, %v", p, err)
	}
	if p, err = FindPrograms(t.Context(), "", links, 15, as); err != nil || p.Dir != bin15 || p.Amcheck == "" {
		t.Errorf("by a link in PATH: %+v, %v", p, err)
	}
	for name, tt := range map[string]struct {
		dir, path string
		major     int
		want      string
	}{
		"other major": {bin15, bin18, 18, "is of PostgreSQL 15, and the backup of 18"},
		"none":        {"", "/nowhere", 14, "no PostgreSQL 14 is installed here"},
		"others":      {"", bin15, 14, "is of PostgreSQL 15"},
		"no programs": {t.TempDir(), bin15, 15, "no such file"},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		_, err := FindPrograms(ctx, tt.dir, tt.path, tt.major, as)
		cancel()
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
