package pgtest

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// superuser is the role that initdb makes in every cluster.
const superuser = "postgres"

// Options describe a cluster.
type Options struct {
	Major          int   // one of Versions
	WALSegmentSize int64 // bytes; 0 for the server's own 16 MiB

	// Settings are lines of postgresql.conf, on top of the package's own.
	Settings map[string]string

	// HBA are the lines of pg_hba.conf for connections over TCP. Without any,
	// everybody on 127.0.0.1 is trusted. Connections over the socket always are.
	HBA []string

	// TLS switches ssl on, with a certificate for 127.0.0.1 and localhost of
	// the authority in Cluster.CAFile.
	TLS bool

	// GroupAccess makes data_directory_mode 0750 instead of 0700.
	GroupAccess bool

	// Fresh gives the cluster a system identifier of its own. Without it
	// clusters of one major and segment size may share one, which is quicker.
	Fresh bool
}

// Cluster is one database cluster and, while it runs, its server.
type Cluster struct {
	Major       int
	SegmentSize int64  // bytes of a WAL segment
	Dir         string // holds everything below; the user of the servers owns it
	DataDir     string
	SocketDir   string
	Port        int    // on 127.0.0.1, reserved also while the server is down
	CAFile      string // the authority of the server's certificate, with Options.TLS

	t   testing.TB
	run *run
	bin string
	*state
}

// state is what changes in the life of a cluster.
type state struct {
	owner    testing.TB // the cluster ends with it
	port     *port
	settings map[string]string // what pgtest.conf holds
	server   *Process          // the last one that was started
}

// New makes a cluster. It is not started.
func New(t testing.TB, o Options) *Cluster {
	t.Helper()
	if o.WALSegmentSize == 0 {
		o.WALSegmentSize = 16 << 20
	}
	c := newCluster(t, o.Major, o.WALSegmentSize)
	if err := c.initialize(o); err != nil {
		t.Fatalf("new PostgreSQL %d cluster: %v", o.Major, err)
	}
	return c
}

// newCluster makes the directory and the port of a cluster without data.
func newCluster(t testing.TB, major int, segmentSize int64) *Cluster {
	t.Helper()
	r := currentRun(t)
	c := &Cluster{Major: major, SegmentSize: segmentSize, t: t, run: r, bin: BinDir(t, major), state: &state{owner: t}}
	var err error
	if c.Dir, err = r.mkdir(r.data, "c"); err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	t.Cleanup(c.cleanup)
	c.DataDir = filepath.Join(c.Dir, "data")
	c.SocketDir = c.Dir
	if c.port, err = reservePort(); err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	c.Port = c.port.number
	return c
}

func (c *Cluster) initialize(o Options) error {
	make := c.run.initdb
	if !o.Fresh {
		make = c.run.copyTemplate
	}
	if err := make(c.t, c.bin, c.DataDir, templateKey{o.Major, o.WALSegmentSize, o.GroupAccess}); err != nil {
		return err
	}
	c.settings = baseSettings()
	if o.TLS {
		files, err := tlsFiles(c.run)
		if err != nil {
			return err
		}
		c.CAFile = files.ca
		maps.Copy(c.settings, files.settings())
	}
	maps.Copy(c.settings, o.Settings)
	return errors.Join(c.writeConf(), c.writeHBA(o.HBA))
}

// baseSettings keep a server small and quick, tell much in its log, and leave
// nothing outside of its directory.
func baseSettings() map[string]string {
	return map[string]string{
		"fsync":          "off",
		"shared_buffers": "32MB",
		"jit":            "off",
		// Segments in /dev/shm would outlive a server that is killed.
		"dynamic_shared_memory_type": "mmap",
		"log_line_prefix":            "%m [%p] %q%a ",
		"log_replication_commands":   "on",
		"log_checkpoints":            "on",
		"password_encryption":        "scram-sha-256", // 13 would choose md5
		"log_timezone":               "UTC",
		"timezone":                   "UTC",
	}
}

// writeConf writes all settings, and those that belong to the place where the
// cluster stands, which must not follow a copy of it.
func (c *Cluster) writeConf() error {
	own := map[string]string{
		"listen_addresses":        "127.0.0.1",
		"port":                    strconv.Itoa(c.Port),
		"unix_socket_directories": c.SocketDir,
		"hba_file":                filepath.Join(c.Dir, "pg_hba.conf"),
	}
	all := maps.Clone(own)
	maps.Copy(all, c.settings)
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(&text, "%s = '%s'\n", name, strings.ReplaceAll(all[name], "'", "''"))
	}
	return c.run.writeFile(filepath.Join(c.DataDir, "pgtest.conf"), []byte(text.String()))
}

func (c *Cluster) writeHBA(tcp []string) error {
	lines := []string{"local all all trust", "local replication all trust"}
	if len(tcp) == 0 {
		tcp = []string{"host all all 127.0.0.1/32 trust", "host replication all 127.0.0.1/32 trust"}
	}
	text := strings.Join(append(lines, tcp...), "\n") + "\n"
	return c.run.writeFile(filepath.Join(c.Dir, "pg_hba.conf"), []byte(text))
}

// Set changes settings in the configuration file. They count from the next
// Reload or start on. An empty value takes a setting away.
func (c *Cluster) Set(settings map[string]string) {
	c.t.Helper()
	for name, value := range settings {
		if value == "" {
			delete(c.settings, name)
			continue
		}
		c.settings[name] = value
	}
	if err := c.writeConf(); err != nil {
		c.t.Fatalf("pgtest: %v", err)
	}
}

// SetHBA replaces the lines of pg_hba.conf for TCP; see Options.HBA. They count
// from the next Reload or start on.
func (c *Cluster) SetHBA(lines ...string) {
	c.t.Helper()
	if err := c.writeHBA(lines); err != nil {
		c.t.Fatalf("pgtest: %v", err)
	}
}

// With returns the same cluster for another test, a subtest say, which then is
// the one that its failures end. The cluster itself still ends with the test
// that made it.
func (c *Cluster) With(t testing.TB) *Cluster {
	sub := *c
	sub.t = t
	return &sub
}

// WALDir returns the directory of the cluster's own WAL segments.
func (c *Cluster) WALDir() string { return filepath.Join(c.DataDir, "pg_wal") }

// Log returns all that the servers of this cluster have logged so far.
func (c *Cluster) Log() string { return readLog(c.logPath()) }

func (c *Cluster) logPath() string { return filepath.Join(c.Dir, "log") }

// Destroy kills the server, if it runs, and removes the data directory.
func (c *Cluster) Destroy() {
	c.t.Helper()
	c.Kill9()
	if err := c.removeData(); err != nil {
		c.t.Fatalf("pgtest: %v", err)
	}
}

func (c *Cluster) removeData() error {
	return errors.Join(c.removeSharedMemory(), os.RemoveAll(c.DataDir))
}

// removeSharedMemory removes the System V segment that a killed server leaves:
// it locks the data directory with it, and only the next start there would find
// it.
func (c *Cluster) removeSharedMemory() error {
	data, err := os.ReadFile(filepath.Join(c.DataDir, "postmaster.pid"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	lines := strings.Split(string(data), "\n")
	if len(lines) < 7 || len(strings.Fields(lines[6])) != 2 {
		return nil // killed before it had one
	}
	return runTool(c.owner, "ipcrm", "-m", strings.Fields(lines[6])[1])
}

func (c *Cluster) cleanup() {
	if c.server != nil && c.running() {
		c.endQuickly()
	}
	if c.owner.Failed() && c.server != nil {
		c.owner.Logf("end of the log of the PostgreSQL %d server on port %d:\n%s", c.Major, c.Port, tail(c.Log()))
	}
	endHelpers(c.Dir)
	var err error
	if c.port != nil {
		err = c.port.release()
	}
	if err := errors.Join(err, c.removeData(), os.RemoveAll(c.Dir)); err != nil {
		c.owner.Errorf("pgtest: %v", err)
	}
}

// templateKey tells the clusters apart that initdb makes.
type templateKey struct {
	major       int
	segmentSize int64
	groupAccess bool
}

var templates sync.Map // templateKey -> func() (string, error)

// copyTemplate copies a cluster that initdb made once in this run.
func (r *run) copyTemplate(t testing.TB, bin, dataDir string, key templateKey) error {
	once, _ := templates.LoadOrStore(key, sync.OnceValues(func() (string, error) {
		dir, err := r.mkdir(r.data, "t")
		if err != nil {
			return "", err
		}
		template := filepath.Join(dir, "data")
		return template, r.initdb(t, bin, template, key)
	}))
	template, err := once.(func() (string, error))()
	if err != nil {
		return err
	}
	return r.copyTree(template, dataDir, nil)
}

// initdb makes a cluster whose configuration file includes pgtest.conf.
func (r *run) initdb(t testing.TB, bin, dataDir string, key templateKey) error {
	args := []string{
		"--pgdata", dataDir, "--username", superuser, "--auth", "trust", "--no-sync",
		"--encoding", "UTF8", "--locale", "C", "--data-checksums",
		"--wal-segsize", strconv.FormatInt(key.segmentSize>>20, 10),
	}
	if key.groupAccess {
		args = append(args, "--allow-group-access")
	}
	if err := runTool(t, filepath.Join(bin, "initdb"), args...); err != nil {
		return err
	}
	conf, err := os.OpenFile(filepath.Join(dataDir, "postgresql.conf"), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = conf.WriteString("\ninclude_if_exists = 'pgtest.conf'\n")
	return errors.Join(err, conf.Close())
}

// runTool runs a program as the user of the servers and turns any exit code but
// 0 into an error.
func runTool(t testing.TB, path string, args ...string) error {
	code, _, stderr := Run(t, path, args...)
	if code != 0 {
		return fmt.Errorf("%s ended with %d: %s", filepath.Base(path), code, strings.TrimSpace(stderr))
	}
	return nil
}
