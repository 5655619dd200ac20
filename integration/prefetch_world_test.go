package integration

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/pgtest"
	"github.com/walrecv/walrecv/internal/s3test"
	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage"
	"github.com/walrecv/walrecv/storage/s3"
)

// aheadWorld is a cluster whose WAL is archived twice, in a directory and in S3,
// with a backup from before all of it. The server is gone.
type aheadWorld struct {
	t       *testing.T
	p       *pgtest.Cluster
	wal     *wal
	cluster string // what is of the cluster in the directory
	store   *s3test.Server
	backup  string
	names   []string                     // the archived segments, in order
	content map[string]map[string]string // what may be delivered as a file: digests, and which of them that is
	rows    string                       // what rowsOf is at the end
}

// aheadPrefix is where in S3 the second archive is.
const aheadPrefix = "ahead"

// newAheadWorld archives so many segments.
func newAheadWorld(t *testing.T, major, segments int) *aheadWorld {
	t.Helper()
	w := &aheadWorld{t: t, p: newPrimary(t, major), store: s3test.Start(t), content: map[string]map[string]string{}}
	w.wal = newWAL(t, w.p)
	w.cluster = filepath.Dir(w.wal.identity())
	first := walFile(w.p)
	w.backup = w.p.BaseBackup(t, "").Dir
	for len(w.names) < segments {
		fill(w.p, 2)
		mark(w.p, fmt.Sprint(len(w.names)))
		if len(w.names)%5 == 0 {
			w.p.Exec("checkpoint")
		}
		w.names = w.wal.segments(first, w.p.SwitchWAL())
	}
	w.rows = rowsOf(w.p)
	w.wal.put(w.p, w.names...)
	a := w.inS3()
	for _, name := range w.names {
		w.wal.must(a.PutSegment(t.Context(), archive.NewScratch(vfs.OS(), w.wal.work), w.wal.name(name), fileOpener(w.p.WALFile(name))))
		w.may(name, "whole", readFile(t, w.p.WALFile(name)))
	}
	w.p.Stop(pgtest.Immediate)
	return w
}

// inS3 opens the archive there.
func (w *aheadWorld) inS3() *archive.Archive {
	w.t.Helper()
	location, err := storage.ParseURL(w.store.URL(aheadPrefix))
	w.wal.must(err)
	store, err := s3.New(w.t.Context(), location.S3, s3.Options{Environ: w.store.Environ()})
	w.wal.must(err)
	id, err := strconv.ParseUint(filepath.Base(w.cluster), 10, 64)
	w.wal.must(err)
	a, err := archive.Init(w.t.Context(), store,
		archive.Identity{SystemID: id, SegmentSize: segment.Size(w.p.SegmentSize), Major: w.p.Major}, archive.Keys{})
	w.wal.must(err)
	return a
}

// may adds to what a file may be delivered as.
func (w *aheadWorld) may(name, as string, data []byte) {
	if w.content[name] == nil {
		w.content[name] = map[string]string{}
	}
	sum := sha256.Sum256(data)
	w.content[name][hex.EncodeToString(sum[:])] = as
}

// with is the same world for a subtest.
func (w *aheadWorld) with(t *testing.T) *aheadWorld {
	sub := *w
	sub.t = t
	sub.p = w.p.With(t)
	wal := *w.wal
	wal.t = t
	sub.wal = &wal
	return &sub
}

// rowsOf is a digest of all rows, and where they are.
func rowsOf(c *pgtest.Cluster) string {
	return c.Query(`select (select count(*) || ' ' || max(i) || ' ' || md5(string_agg(i || t, ',' order by i)) from filling) ||
		' ' || (select string_agg(name, ',' order by name) from mark)`)
}

// ahead is a server that recovers from an archive of an aheadWorld, and whose
// calls of restore_command are recorded.
type ahead struct {
	*pgtest.Cluster
	w     *aheadWorld
	t     *testing.T
	under *pgtest.Process // what runs the server, if it is not the cluster itself
	calls string          // a file with a line when a call begins, and one when it ends
}

var aheadServers atomic.Int64

// restored makes a server that recovers to the end of an archive, which is the one
// in the directory where url is "".
func (w *aheadWorld) restored(signal pgtest.Signal, url, args string, settings ...string) *ahead {
	w.t.Helper()
	calls := filepath.Join(newDir(w.t), fmt.Sprint("calls", aheadServers.Add(1)))
	if url == "" {
		url = w.wal.dir
	}
	command := strings.Join(w.store.Environ(), " ") + " " + w.wal.bin + ` restore --archive "` + url + `" ` + args + ` %f %p`
	n := w.p.Restore(w.t, w.backup, signal, with(map[string]string{
		"restore_command":             recorded(calls, command),
		"wal_retrieve_retry_interval": "200ms",
		"primary_conninfo":            "",
	}, settings...))
	return &ahead{Cluster: n, w: w, t: w.t, calls: calls}
}

// recorded is a restore_command that writes down what it is asked for, with which
// exit code it ends, and the digest of what it has delivered. A file with the name of
// the record and of what is asked for makes it wait, or with one word more is a script
// that it runs before.
func recorded(calls, command string) string {
	return `echo "%f asked" >>` + calls + `; while [ -e ` + calls + `.%f ]; do sleep 0.02; done; [ ! -e ` + calls + `.%f.do ] || . ` + calls + `.%f.do; ` +
		command + `; r=$?; d=; [ $r -ne 0 ] || d=$(sha256sum <%p); echo "%f $r $d" >>` + calls +
		`; [ $r -le 1 ] || [ $r -ge 126 ] || r=200; exit $r`
}

// hold makes the call for a file wait, and returns what ends that.
func (n *ahead) hold(name string) (release func()) {
	n.t.Helper()
	path := n.calls + "." + name
	writeFile(n.t, path, nil)
	return func() {
		n.t.Helper()
		if err := os.Remove(path); err != nil {
			n.t.Fatal(err)
		}
	}
}

// helped starts the server and makes the call for a file wait, with a helper that has
// heard of all calls before that one but the first.
func (n *ahead) helped(asked string) (release func()) {
	n.t.Helper()
	second := n.w.names[2] // the backup begins behind the first
	early := n.hold(second)
	release = n.hold(asked)
	n.launch()
	n.asked(second)
	pgtest.Eventually(n.t, patience, func() bool { return len(staged(n.t, n.staging())) > 0 }, "nothing is fetched ahead")
	early()
	n.asked(asked)
	return release
}

// before makes the call for a file run a script first.
func (n *ahead) before(name, script string) { writeFile(n.t, n.calls+"."+name+".do", []byte(script)) }

// asked waits until a file is asked for.
func (n *ahead) asked(name string) {
	n.t.Helper()
	pgtest.Eventually(n.t, patience, func() bool {
		return slices.ContainsFunc(n.record(), func(c recordedCall) bool { return c.name == name })
	}, "%s is not asked for", name)
}

// answered waits until a file has been delivered.
func (n *ahead) answered(name string) {
	n.t.Helper()
	pgtest.Eventually(n.t, patience, func() bool {
		return slices.ContainsFunc(n.record(), func(c recordedCall) bool { return c.name == name && c.code == 0 })
	}, "%s is not delivered", name)
}

// recordedCall is a line of a record. code is -1 for a call that begins.
type recordedCall struct {
	name, digest string
	code         int
}

// record are the calls so far.
func (n *ahead) record() (calls []recordedCall) {
	n.t.Helper()
	data, err := os.ReadFile(n.calls)
	if err != nil && !os.IsNotExist(err) {
		n.t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if !strings.HasSuffix(line, "\n") || len(fields) < 2 {
			continue
		}
		c := recordedCall{name: fields[0], code: -1}
		if fields[1] != "asked" {
			if _, err := fmt.Sscan(fields[1], &c.code); err != nil {
				n.t.Fatalf("%q: %v", line, err)
			}
		}
		if len(fields) > 2 {
			c.digest = fields[2]
		}
		calls = append(calls, c)
	}
	return calls
}

// launch starts the server under another program, which is given all that it is to
// run, or by itself.
func (n *ahead) launch(under ...string) {
	n.t.Helper()
	if len(under) == 0 {
		n.Launch()
		return
	}
	args := append(slices.Clone(under[1:]), "sh", "-c", `log=$1; shift; exec "$@" >>"$log" 2>&1`, "sh", filepath.Join(n.Dir, "log"),
		filepath.Join(pgtest.BinDir(n.t, n.Major), "postgres"), "-D", n.DataDir)
	n.under = pgtest.Command(n.t, under[0], args...)
	n.under.Dir = n.Dir
	n.under.Start()
}

// recovers waits until the server is a primary that has all rows, and checks what
// can be checked about the way there.
func (n *ahead) recovers() {
	n.t.Helper()
	n.WaitFor("select pg_is_in_recovery()", "f", patience)
	n.isRight(n.w.rows)
}

// isRight compares the rows and looks at files, log and calls.
func (n *ahead) isRight(rows string) {
	n.t.Helper()
	n.hasRows(rows)
	n.answersAreRight()
}

// hasRows is isRight without the calls.
func (n *ahead) hasRows(rows string) {
	n.t.Helper()
	if got := rowsOf(n.Cluster); got != rows {
		n.t.Errorf("rows %s, want %s", got, rows)
	}
	checkHeapAndIndexes(n.t, n.Cluster)
	n.undisturbed()
}

// harmless is what a server's log may say: to who connects too early, of its own
// workers, and of a helper that has seen that it was adopted.
var harmless = []string{"the database system is", "background worker", "exited with exit code 0\n"}

// undisturbed looks for backends that died, in the server's log.
func (n *ahead) undisturbed() {
	n.t.Helper()
	for line := range strings.Lines(n.Log()) {
		for _, bad := range []string{"PANIC", "FATAL", "terminated by signal", "terminating any other active", "exited with exit code", "panicked", "internal error"} {
			if strings.Contains(line, bad) && !slices.ContainsFunc(harmless, func(text string) bool { return strings.Contains(line, text) }) {
				n.t.Errorf("the server's log has %q", line)
			}
		}
	}
}

// answersAreRight looks at every call: 0 with what the file has to be, or 1 for one
// that the archive does not have.
func (n *ahead) answersAreRight() {
	n.t.Helper()
	for _, c := range n.record() {
		content := n.w.content[c.name]
		switch {
		case c.code == -1, c.code == 0 && content[c.digest] != "":
		case c.code == 1 && (content == nil || slices.Contains(values(content), "nothing")):
		default:
			n.t.Errorf("the answer to %s is %d %s; it is one of %v", c.name, c.code, c.digest, content)
		}
	}
}

func values(m map[string]string) (all []string) {
	for _, v := range m {
		all = append(all, v)
	}
	return all
}

// staging is where, without --prefetch-dir, files are fetched to ahead.
func (n *ahead) staging() string { return filepath.Join(filepath.Dir(n.DataDir), "walrecv-prefetch") }

// helper waits for the one that fetches ahead for the server.
func (n *ahead) helper() (pid int) {
	n.t.Helper()
	seldom(n.t, func() bool {
		pids := pgtest.Helpers(n.staging())
		if len(pids) > 0 {
			pid = pids[0]
		}
		return len(pids) > 0
	}, "nothing fetches ahead")
	return pid
}

// seldom is pgtest.Eventually for what is dear to look at: all processes there are.
func seldom(t testing.TB, holds func() bool, what ...any) {
	t.Helper()
	pgtest.Eventually(t, patience, func() bool {
		if holds() {
			return true
		}
		for until := time.Now().Add(50 * time.Millisecond); time.Now().Before(until); {
			time.Sleep(time.Until(until))
		}
		return false
	}, what...)
}

// staged are the segments in a staging directory that are whole.
func staged(t testing.TB, dir string) (names []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*", "0*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if name := filepath.Base(file); len(name) == 24 {
			names = append(names, name)
		}
	}
	return names
}

// areStaged waits until segments are there that have not been asked for.
func (n *ahead) areStaged(names []string) {
	n.t.Helper()
	pgtest.Eventually(n.t, patience, func() bool {
		there := staged(n.t, n.staging())
		return !slices.ContainsFunc(names, func(name string) bool { return !slices.Contains(there, name) })
	}, "%v are not fetched ahead", names)
}

// leavesNothing checks that soon after the end of the server nothing is left of what
// fetched ahead.
func (n *ahead) leavesNothing() {
	n.t.Helper()
	leavesNothing(n.t, n.staging())
}

func leavesNothing(t testing.TB, staging string) {
	t.Helper()
	var left []string
	seldom(t, func() bool {
		left = nil
		for _, pid := range pgtest.Helpers(staging) {
			left = append(left, fmt.Sprint("process ", pid))
		}
		_ = filepath.WalkDir(staging, func(path string, d os.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() && !strings.HasSuffix(path, ".tail") { // that is kept for the next call
				if info, err := d.Info(); err == nil && info.Size() > 64<<10 {
					left = append(left, path)
				}
			}
			return nil
		})
		return len(left) == 0
	}, "left behind: %v", &left)
}

// killHelpers ends them all, and returns how many there were.
func (n *ahead) killHelpers(sig syscall.Signal) int {
	n.t.Helper()
	pids := pgtest.Helpers(n.staging())
	for _, pid := range pids {
		if err := syscall.Kill(pid, sig); err != nil && err != syscall.ESRCH {
			n.t.Fatal(err)
		}
	}
	return len(pids)
}
