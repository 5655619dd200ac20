package integration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/walrecv/walrecv/internal/pgtest"
)

// fileSize is the segment size of the clusters that faults are tried on: small,
// so that segments come and go quickly.
const fileSize = 1 << 20

// inSpool prepares "walrecv receive" into a directory, with these options and no
// others but where the server is.
func inSpool(t testing.TB, c *pgtest.Cluster, spool string, args ...string) *receiver {
	t.Helper()
	r := &receiver{t: t, bin: pgtest.Build(t), cluster: c, spool: spool}
	r.args = append([]string{"receive", "-D", spool, "-d", c.ReplConn()}, args...)
	return r
}

// fresh is inSpool for a directory that is new.
func fresh(t testing.TB, c *pgtest.Cluster, args ...string) *receiver {
	t.Helper()
	return inSpool(t, c, newDir(t), args...)
}

// newDir makes an empty directory that programs under test can write to.
func newDir(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(pgtest.TempDir(t), "dir")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	pgtest.Give(t, dir)
	return dir
}

// ends starts the program and expects its end; see ended.
func (r *receiver) ends(code int, texts ...string) {
	r.t.Helper()
	r.launch()
	r.ended(code, texts...)
}

// ended waits for the end of the program, with an exit code and one last word, in
// the log or for people, that has all the texts.
func (r *receiver) ended(code int, texts ...string) {
	r.t.Helper()
	expectEnd(r.t, r.Process, code, texts...)
}

func expectEnd(t testing.TB, p *pgtest.Process, code int, texts ...string) {
	t.Helper()
	if got := p.Wait(patience); got != code {
		t.Errorf("exit code %d, want %d", got, code)
	}
	var lines []string
	for line := range strings.Lines(p.Stderr()) {
		var last struct{ Msg, Error string }
		switch {
		case !strings.HasPrefix(line, "{"):
			lines = append(lines, strings.TrimSpace(line))
		case json.Unmarshal([]byte(line), &last) == nil && last.Msg == "the receiver ends with an error":
			lines = append(lines, "walrecv: "+last.Error)
		}
	}
	want := 1
	if code == 0 {
		want = 0
	}
	if len(lines) != want || want == 1 && !strings.HasPrefix(lines[0], "walrecv: ") {
		t.Errorf("%d last words, want %d: %q", len(lines), want, lines)
	}
	for _, text := range texts {
		if !strings.Contains(strings.Join(lines, " "), text) {
			t.Errorf("the message lacks %q: %s", text, lines)
		}
	}
	if !t.Failed() {
		t.Logf("%d %s", code, strings.Join(lines, " "))
	}
}

// record is a line of the log.
type record struct {
	Level, Msg, Error, File, Slot string

	text string
}

// logged returns the records so far whose text has all the parts.
func (r *receiver) logged(parts ...string) (found []record) {
	r.t.Helper()
	return recordsOf(r.t, r.Stderr(), parts...)
}

func recordsOf(t testing.TB, log string, parts ...string) (found []record) {
	t.Helper()
	for line := range strings.Lines(log) {
		if !strings.HasPrefix(line, "{") || !strings.HasSuffix(line, "\n") {
			continue // for people, or not written to its end yet
		}
		rec := record{text: line}
		if err := json.Unmarshal([]byte(line), &rec); err != nil {
			t.Fatalf("line of the log: %v: %s", err, line)
		}
		all := true
		for _, part := range parts {
			all = all && strings.Contains(line, part)
		}
		if all {
			found = append(found, rec)
		}
	}
	return found
}

// alarms are the records from WARN on that have all the parts.
func (r *receiver) alarms(parts ...string) (found []record) {
	r.t.Helper()
	for _, rec := range r.logged(parts...) {
		if rec.Level == "WARN" || rec.Level == "ERROR" {
			found = append(found, rec)
		}
	}
	return found
}

// retries waits until the program, which was started with -v, has failed to
// stream that often, and checks that it told of it once, with these texts.
func (r *receiver) retries(often int, texts ...string) {
	r.t.Helper()
	const failure = "trying again until it works"
	pgtest.Eventually(r.t, patience, func() bool {
		_, ended := r.Exited()
		return ended || len(r.logged(failure)) >= often
	}, "it has not failed %d times", often)
	if code, ended := r.Exited(); ended {
		r.t.Fatalf("it ended with %d instead of trying again", code)
	}
	alarms := r.alarms(failure)
	if len(alarms) != 1 {
		r.t.Errorf("%d warnings about one state, want 1: %v", len(alarms), alarms)
		return
	}
	for _, text := range texts {
		if !strings.Contains(alarms[0].Error, text) {
			r.t.Errorf("the warning lacks %q: %s", text, alarms[0].text)
		}
	}
	r.t.Logf("retried: %s", alarms[0].Error)
}

// streams waits until a program that was launched streams, from now on.
func (r *receiver) streams() {
	r.t.Helper()
	r.WaitOutput(`"msg":"streaming"`, patience)
}

// streamsAgain waits until it has begun to stream that often.
func (r *receiver) streamsAgain(often int) {
	r.t.Helper()
	pgtest.Eventually(r.t, patience, func() bool {
		_, ended := r.Exited()
		return ended || len(r.logged(`"msg":"streaming"`)) >= often
	}, "it does not stream for the %d. time", often)
	if code, ended := r.Exited(); ended {
		r.t.Fatalf("it ended with %d", code)
	}
}

// emit writes about that many KB of WAL that does not compress, in one
// transaction that is flushed.
func emit(c *pgtest.Cluster, kb int) {
	c.Exec(fmt.Sprintf("select count(pg_logical_emit_message(false, 'emit', pg_read_binary_file('/dev/urandom', 0, 16384))) from generate_series(1, %d)", max(1, kb/16)))
	c.Exec("select pg_logical_emit_message(true, 'emit', 'commit')")
}

// isWhole checks that a directory has all segments from its first one on, all
// the server's, and then the partial that holds the server's WAL up to the end.
func isWhole(t testing.TB, c *pgtest.Cluster, dir, end string) {
	t.Helper()
	names := sealedNames(t, dir)
	sameAsServer(t, c, dir, 0)
	for i, name := range names {
		if i > 0 && number(t, name) != number(t, names[i-1])+1 {
			t.Errorf("hole between %s and %s", names[i-1], name)
		}
	}
	last := c.Query(fmt.Sprintf("select pg_walfile_name('%s')", end))
	offset, err := strconv.Atoi(c.Query(fmt.Sprintf("select file_offset from pg_walfile_name_offset('%s')", end)))
	if err != nil {
		t.Fatal(err)
	}
	if offset == 0 {
		return // pg_walfile_name gives the segment that ends here
	}
	theirs := readFile(t, c.WALFile(last))[:offset]
	ours, err := os.ReadFile(filepath.Join(dir, last+".partial"))
	if err != nil {
		ours, err = os.ReadFile(filepath.Join(dir, last))
	}
	if err != nil {
		t.Fatal(err)
	}
	if len(ours) != fileSize || !bytes.Equal(ours[:offset], theirs) {
		t.Errorf("the partial of %s differs from the server's WAL up to %s", last, end)
	}
	if len(names) > 0 && number(t, last) > number(t, names[len(names)-1])+1 {
		t.Errorf("hole between %s and the partial of %s", names[len(names)-1], last)
	}
}

// number is the number of a segment of fileSize within its timeline: with 1 MB
// the last part of a name counts up to FFF.
func number(t testing.TB, name string) uint64 {
	t.Helper()
	var tli, high, low uint64
	if _, err := fmt.Sscanf(name, "%08X%08X%08X", &tli, &high, &low); err != nil {
		t.Fatalf("segment name %q: %v", name, err)
	}
	return high*(1<<32/fileSize) + low
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// writeFile writes a file that programs under test own.
func writeFile(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	pgtest.Give(t, path)
}

// filesIn lists a directory, by name.
func filesIn(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// small makes and starts a cluster of small segments that keeps its WAL, unless
// the settings say otherwise.
func small(t testing.TB, major int, settings map[string]string) *pgtest.Cluster {
	t.Helper()
	return smallWith(t, pgtest.Options{Major: major, Settings: settings})
}

func smallWith(t testing.TB, o pgtest.Options) *pgtest.Cluster {
	t.Helper()
	settings := map[string]string{
		"wal_keep_size": "1GB", "max_wal_size": "1GB", "max_slot_wal_keep_size": "2GB", "autovacuum": "off",
	}
	for name, value := range o.Settings {
		settings[name] = value
	}
	o.Settings, o.WALSegmentSize = settings, fileSize
	c := pgtest.New(t, o)
	c.Start()
	return c
}

// forgetful are settings of a server that removes WAL as soon as it can.
func forgetful() map[string]string {
	return map[string]string{"wal_keep_size": "0", "min_wal_size": "2MB", "max_wal_size": "1GB", "wal_recycle": "off"}
}

// toolPath is where a program is.
func toolPath(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("no %s: %v; get it with: tools/need %s", name, err, name)
	}
	return path
}
