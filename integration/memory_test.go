package integration

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/pgtest"
	"github.com/walrecv/walrecv/internal/s3test"
	"github.com/walrecv/walrecv/segment"
)

// maxRestore is what one restore_command may use.
const maxRestore = 32 << 20

// TestMemoryOfLongArchive: what a receiver uses does not depend on what its archive holds,
// whoever looks at its page. The long form is about 100,000 segments.
func TestMemoryOfLongArchive(t *testing.T) {
	t.Parallel()
	segments := uint64(1000)
	if pgtest.Long() {
		segments = 100_000
	}
	major := pgtest.Version(t)
	program := filepath.Join(pgtest.BinDir(t, major), "pg_resetwal")
	pgtest.Only(t, major, exists(program), "no pg_resetwal of it is here")
	c := pgtest.New(t, pgtest.Options{Major: major, WALSegmentSize: fileSize})
	c.Start()
	archive := newArchive(t)
	root := inArchive(c, archive)
	identity := fmt.Sprintf(`{"format":1,"system_identifier":%q,"wal_segment_size":%d,"postgresql_major":%d}`, c.SystemID(), fileSize, c.Major)
	c.Stop(pgtest.Fast)
	name := func(number uint64) string { return segment.Name{Timeline: 1, Number: number}.Format(fileSize) }
	reset := pgtest.Command(t, program, "-l", name(segments+1), c.DataDir)
	if code := reset.Start().Wait(patience); code != 0 {
		t.Fatal(code, reset.Stderr())
	}
	if err := os.MkdirAll(filepath.Join(root, "wal", "00000001"), 0o700); err != nil {
		t.Fatal(err)
	}
	end := fmt.Sprintf(`{"sha256":"%064x","size":%d}`, 1, fileSize) // of an object: docs/format.md
	length := binary.LittleEndian.AppendUint32(nil, uint32(len(end)+4))
	writeAll(t, map[string]string{
		filepath.Join(root, "walrecv.json"): identity,
		filepath.Join(root, "object"):       "\x5e\x2a\x4d\x18" + string(length) + end + string(length),
	})
	for n := range segments {
		if err := os.Symlink("../../object", filepath.Join(root, "wal", "00000001", name(n+1)+".zst")); err != nil {
			t.Fatal(err)
		}
	}
	pgtest.Give(t, archive)
	c.Start()
	r := watched(newReceiver(t, c, "--archive", archive)).start()
	emit(c, 3000)
	r.flushed()
	r.becomes("/api/status", 200, fmt.Sprintf(`"unverified":%d`, segments))
	r.modest()
	r.stop()
}

// TestMemory soaks a receiver: segments of 64 MB, records that are larger than one, a
// busy tail, encryption, a store that is slow and then away, again and again. The most
// that it ever used stays within the limit, and so does that of each restore_command
// that reads what came of it. The long form takes minutes.
func TestMemory(t *testing.T) {
	t.Parallel()
	const size = 64 << 20
	rounds := 1
	if pgtest.Long() {
		rounds = 20
	}
	s := s3test.Start(t)
	proxy := s.Proxy(t)
	ids, files := identityFiles(t, 1)
	pgtest.Give(t, filepath.Dir(files[0]))
	c := pgtest.New(t, pgtest.Options{Major: pgtest.Version(t), WALSegmentSize: size, Settings: map[string]string{
		"wal_keep_size": "1GB", "max_wal_size": "2GB", "min_wal_size": "128MB", "fsync": "off",
	}})
	c.Start()
	r := watched(newReceiver(t, c, "--archive", proxy.URL("encrypted"), "--encrypt-to", ids[0].Recipient().String(), "--spool-max", "256MB"))
	r.env = proxy.Environ()
	r.start()
	for range rounds {
		proxy.SetLatency(30 * time.Millisecond)
		c.Exec("select pg_logical_emit_message(true, 'large', pg_read_binary_file('/dev/urandom', 0, 70 << 20))")
		for range 20 {
			emit(c, 500)
		}
		proxy.SetOutage(s3test.Hang)
		emit(c, 130<<10)
		r.metricBecomes("oldest_unarchived_seconds", func(v float64) bool { return v > 1 })
		proxy.SetOutage(s3test.None)
		r.metricBecomes("oldest_unarchived_seconds", func(v float64) bool { return v < 1 })
	}
	r.modest()

	at := parseLSN(t, c.Query("select pg_current_wal_insert_lsn()"))
	name := func(at segment.LSN) string { return c.Query(fmt.Sprintf("select pg_walfile_name('%s')", at)) }
	sealed, tail, absent := name(at-size), name(at), name(at+size)
	emit(c, 500)
	r.flushed()
	r.stop() // with the tail
	local := newArchive(t)
	for _, archive := range []string{local, s.URL("plain")} {
		push := pgtest.Command(t, r.bin, "push", "--archive", archive, "pg_wal/"+sealed)
		push.Env, push.Dir = s.Environ(), c.DataDir
		if code := push.Start().Wait(patience); code != 0 {
			t.Fatalf("push to %s: %d, %s", archive, code, push.Stderr())
		}
	}
	key := " --decrypt-with " + files[0]
	for _, call := range []struct {
		args, file string
		code       int
	}{
		{local, sealed, 0},
		{s.URL("plain"), sealed, 0},
		{s.URL("encrypted") + key, sealed, 0},
		{s.URL("encrypted") + key, tail, 0},
		{s.URL("encrypted") + key, absent, 1},
	} {
		peak, code := restorePeak(t, s.Environ(), append(strings.Fields(call.args), call.file)...)
		t.Logf("restore --archive %s %s used up to %d MB", call.args, call.file, peak>>20)
		if code != call.code || peak > maxRestore {
			t.Errorf("restore --archive %s %s: exit code %d, %d bytes of memory", call.args, call.file, code, peak)
		}
	}
}

// restorePeak runs a restore_command for a data directory of its own, and returns the
// most memory that it used.
func restorePeak(t *testing.T, env []string, args ...string) (bytes, code int) {
	t.Helper()
	r := newRestore(t, env, args...)
	r.process.Start()
	return r.peak()
}

// measured is a restore_command for a data directory of its own, below dir.
type measured struct {
	t       *testing.T
	dir     string
	process *pgtest.Process
}

func newRestore(t *testing.T, env []string, args ...string) *measured {
	t.Helper()
	dir := newDir(t)
	data := filepath.Join(dir, "data")
	if err := os.MkdirAll(filepath.Join(data, "pg_wal"), 0o700); err != nil {
		t.Fatal(err)
	}
	writeAll(t, map[string]string{filepath.Join(data, "recovery.signal"): ""})
	pgtest.Give(t, dir)
	p := pgtest.Command(t, pgtest.BuildPackage(t, "./bench/meter"), filepath.Join(dir, "report"),
		pgtest.Build(t), "restore", "--retry-for", "10s", "--archive")
	p.Args = append(append(p.Args, args...), "pg_wal/RECOVERYXLOG")
	p.Env, p.Dir = env, data
	return &measured{t, dir, p}
}

// peak waits for its end, and that of all it has started, and returns the most memory
// that any of them used.
func (r *measured) peak() (bytes, code int) {
	r.t.Helper()
	code = r.process.Wait(patience)
	var took, cpu, kb int
	if _, err := fmt.Sscan(string(readFile(r.t, filepath.Join(r.dir, "report"))), &took, &cpu, &kb); err != nil {
		r.t.Fatalf("%v; %s", err, r.process.Stderr())
	}
	return kb << 10, code
}
