package segment_test

import (
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/segment"
)

const (
	testSize = segment.Size(1 << 20)
	spoolDir = "/spool"
)

var testCluster = segment.Cluster{
	Identity: segment.Identity{SystemID: 7_000_000_000_000_000_001, Size: testSize},
	Major:    15,
	FileMode: 0o600,
}

// testWAL is the WAL of a cluster that goes through timelines: any byte of it
// can be told from the timeline and the position alone. One byte in four is
// zero, as in real WAL.
type testWAL struct {
	forks map[segment.TimelineID]segment.LSN // where each timeline left the one before
}

func byteAt(t segment.TimelineID, at segment.LSN) byte {
	x := uint64(at)*0x9E3779B97F4A7C15 + uint64(t)*0xD1B54A32D192ED03
	x ^= x >> 29
	x *= 0xBF58476D1CE4E5B9
	if x>>62 == 0 {
		return 0
	}
	return byte(x>>40) | 1
}

// plainWAL has the first segments of three timelines that know no fork.
var plainWAL = sync.OnceValue(func() (wal [4][]byte) {
	for t := 1; t < len(wal); t++ {
		wal[t] = make([]byte, 6*testSize)
		for i := range wal[t] {
			wal[t][i] = byteAt(segment.TimelineID(t), segment.LSN(i))
		}
	}
	return wal
})

func (w testWAL) bytes(t segment.TimelineID, at segment.LSN, n int) []byte {
	p := slices.Clone(plainWAL()[t][at : at+segment.LSN(n)])
	if fork := w.forks[t]; t > 1 && at < fork {
		copy(p, w.bytes(t-1, at, min(n, int(fork-at))))
	}
	return p
}

// newDisk is a file system with an empty spool directory that a crash keeps.
func newDisk(t *testing.T) *vfs.Mem {
	t.Helper()
	disk := vfs.NewMem()
	must(t, disk.Mkdir(spoolDir, 0o700))
	must(t, disk.SyncDir("/"))
	return disk
}

func openSpool(fsys vfs.FS) (*segment.Spool, error) {
	return openSpoolWith(fsys, segment.SpoolOptions{})
}

func openSpoolWith(fsys vfs.FS, o segment.SpoolOptions) (*segment.Spool, error) {
	s, err := segment.OpenSpool(fsys, spoolDir, slog.New(slog.DiscardHandler), o)
	if err != nil {
		return nil, err
	}
	if err := s.Identify(testCluster); err != nil {
		return nil, err
	}
	return s, s.Prepare()
}

func mustOpenSpool(t *testing.T, fsys vfs.FS) *segment.Spool {
	t.Helper()
	s, err := openSpool(fsys)
	must(t, err)
	return s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func readFile(t *testing.T, fsys vfs.FS, base string) []byte {
	t.Helper()
	data, err := vfs.ReadFile(fsys, spoolDir+"/"+base)
	must(t, err)
	return data
}

func writeFile(t *testing.T, fsys vfs.FS, base string, data []byte) {
	t.Helper()
	must(t, vfs.WriteFile(fsys, spoolDir+"/"+base, 0o600, data))
}

func names(t *testing.T, fsys vfs.FS) []string {
	t.Helper()
	entries, err := fsys.ReadDir(spoolDir)
	must(t, err)
	var out []string
	for _, e := range entries {
		out = append(out, e.Name)
	}
	return out
}

func pos(tli segment.TimelineID, at segment.LSN) segment.Position {
	return segment.Position{Timeline: tli, LSN: at}
}

func TestWriterSealsFullSegments(t *testing.T) {
	disk := newDisk(t)
	s := mustOpenSpool(t, disk)
	var wal testWAL
	start := testSize.Start(3)
	w, err := s.NewWriter(pos(1, start))
	must(t, err)
	all := wal.bytes(1, start, 2*int(testSize)+1000)
	rng := rand.New(rand.NewPCG(1, 2))
	for at := 0; at < len(all); {
		n := min(1+rng.IntN(200<<10), len(all)-at)
		must(t, w.Append(start+segment.LSN(at), all[at:at+n]))
		at += n
	}
	flushed, err := w.Sync()
	must(t, err)
	if want := start + segment.LSN(len(all)); flushed != want {
		t.Errorf("Sync = %s, want %s", flushed, want)
	}
	must(t, w.Close())
	got := strings.Join(names(t, disk), " ")
	want := "000000010000000000000003 000000010000000000000004 000000010000000000000005.partial walrecv.json"
	if got != want {
		t.Fatalf("spool holds %s, want %s", got, want)
	}
	for i, base := range []string{"000000010000000000000003", "000000010000000000000004"} {
		if string(readFile(t, disk, base)) != string(all[i*int(testSize):(i+1)*int(testSize)]) {
			t.Errorf("%s differs from what was received", base)
		}
	}
	partial := readFile(t, disk, "000000010000000000000005.partial")
	if len(partial) != int(testSize) || string(partial[:1000]) != string(all[2*int(testSize):]) {
		t.Error("the partial does not hold what was received, in full size")
	}
}

func TestWriterRefusesHolesAndOverlaps(t *testing.T) {
	s := mustOpenSpool(t, newDisk(t))
	w, err := s.NewWriter(pos(1, testSize.Start(1)))
	must(t, err)
	must(t, w.Append(testSize.Start(1), []byte("abc")))
	for _, at := range []segment.LSN{testSize.Start(1), testSize.Start(1) + 4} {
		if err := w.Append(at, []byte("x")); !errors.Is(err, segment.ErrNotContiguous) {
			t.Errorf("Append at %s: %v", at, err)
		}
	}
	if _, err := s.NewWriter(pos(1, testSize.Start(1)+8)); !errors.Is(err, segment.ErrNotContiguous) {
		t.Errorf("a writer may start inside a segment: %v", err)
	}
}

// A partial of any size is taken over with every byte it holds.
func TestResumeExtendsOddPartials(t *testing.T) {
	var wal testWAL
	start := testSize.Start(1)
	for _, size := range []int{0, 1, 4096, 70001, int(testSize) - 1, int(testSize)} {
		disk := newDisk(t)
		writeFile(t, disk, "000000010000000000000001.partial", wal.bytes(1, start, size))
		s := mustOpenSpool(t, disk)
		held, err := s.Held()
		must(t, err)
		at, ok := segment.Resume(segment.History{Timeline: 1}, testSize, held)
		if !ok || at != pos(1, start) {
			t.Fatalf("size %d: resume at %v, %v", size, at, ok)
		}
		w, err := s.NewWriter(at)
		must(t, err)
		must(t, w.Append(start, wal.bytes(1, start, 10)))
		_, err = w.Sync()
		must(t, err)
		got := readFile(t, disk, "000000010000000000000001.partial")
		if len(got) != int(testSize) {
			t.Errorf("size %d: the partial now has %d bytes", size, len(got))
		}
		if keep := max(size, 10); string(got[:keep]) != string(wal.bytes(1, start, keep)) {
			t.Errorf("size %d: bytes were lost", size)
		}
	}
}

func TestOversizedPartialIsSetAside(t *testing.T) {
	disk := newDisk(t)
	old := make([]byte, int(testSize)+1)
	old[0] = 1
	writeFile(t, disk, "000000010000000000000001.partial", old)
	s := mustOpenSpool(t, disk)
	w, err := s.NewWriter(pos(1, testSize.Start(1)))
	must(t, err)
	must(t, w.Append(testSize.Start(1), []byte{2}))
	if got := readFile(t, disk, "000000010000000000000001.partial.damaged-1"); len(got) != len(old) {
		t.Errorf("set aside with %d bytes", len(got))
	}
	if got := readFile(t, disk, "000000010000000000000001.partial"); len(got) != int(testSize) || got[0] != 2 {
		t.Error("the new partial is not the stream's")
	}
}

// Where the server sends something else than what is there, the old bytes are
// kept under another name.
func TestDivergingPartialIsSetAside(t *testing.T) {
	var wal testWAL
	start := testSize.Start(1)
	disk := newDisk(t)
	old := wal.bytes(1, start, int(testSize))
	for i := 300_000; i < len(old); i++ {
		old[i] = 'x'
	}
	writeFile(t, disk, "000000010000000000000001.partial", old)
	s := mustOpenSpool(t, disk)
	w, err := s.NewWriter(pos(1, start))
	must(t, err)
	stream := wal.bytes(1, start, int(testSize)+5)
	for at := 0; at < len(stream); at += 100_000 {
		must(t, w.Append(start+segment.LSN(at), stream[at:min(at+100_000, len(stream))]))
	}
	_, err = w.Sync()
	must(t, err)
	if string(readFile(t, disk, "000000010000000000000001.partial.diverged-1")) != string(old) {
		t.Error("the old partial was not kept as it was")
	}
	if string(readFile(t, disk, "000000010000000000000001")) != string(stream[:testSize]) {
		t.Error("the sealed segment is not the stream's")
	}
}

// A partial that agrees with the stream as far as it goes stays where it is.
func TestZerosInAPartialDoNotDiverge(t *testing.T) {
	var wal testWAL
	start := testSize.Start(1)
	disk := newDisk(t)
	old := wal.bytes(1, start, 200_000)
	clear(old[50_000:60_000]) // sectors that a power cut lost
	writeFile(t, disk, "000000010000000000000001.partial", old)
	s := mustOpenSpool(t, disk)
	w, err := s.NewWriter(pos(1, start))
	must(t, err)
	must(t, w.Append(start, wal.bytes(1, start, 250_000)))
	if got := strings.Join(names(t, disk), " "); strings.Contains(got, "diverged") {
		t.Errorf("spool holds %s", got)
	}
}

// A complete file of the wrong size is not complete: streaming begins there.
func TestBadSizedSegmentIsStreamedAgain(t *testing.T) {
	var wal testWAL
	for _, tc := range []struct {
		size    int
		partial bool
		kept    string
	}{
		{1000, false, "000000010000000000000002.partial"},
		{0, false, "000000010000000000000002.partial"},
		{1000, true, "000000010000000000000002.damaged-1"},
		{int(testSize) + 1, false, "000000010000000000000002.damaged-1"},
	} {
		disk := newDisk(t)
		for n := uint64(1); n <= 3; n++ {
			name := segment.Name{Timeline: 1, Number: n}
			size := int(testSize)
			if n == 2 {
				size = tc.size
			}
			writeFile(t, disk, name.Format(testSize), wal.bytes(1, testSize.Start(n), size))
		}
		if tc.partial {
			writeFile(t, disk, "000000010000000000000002.partial", nil)
		}
		s := mustOpenSpool(t, disk)
		held, err := s.Held()
		must(t, err)
		at, _ := segment.Resume(segment.History{Timeline: 1}, testSize, held)
		if want := pos(1, testSize.Start(2)); at != want {
			t.Errorf("%+v: resume at %v, want %v", tc, at, want)
		}
		if got := readFile(t, disk, tc.kept); len(got) != tc.size {
			t.Errorf("%+v: kept %d bytes", tc, len(got))
		}
	}
}

// Streaming over a complete segment, to fill a hole below it, leaves it alone
// if it is the same, and keeps it if it is not.
func TestSealOverACompleteSegment(t *testing.T) {
	var wal testWAL
	for _, same := range []bool{true, false} {
		disk := newDisk(t)
		old := wal.bytes(1, testSize.Start(1), int(testSize))
		if !same {
			old[77_777] ^= 0xff
		}
		writeFile(t, disk, "000000010000000000000001", old)
		s := mustOpenSpool(t, disk)
		w, err := s.NewWriter(pos(1, testSize.Start(1)))
		must(t, err)
		must(t, w.Append(testSize.Start(1), wal.bytes(1, testSize.Start(1), int(testSize))))
		_, err = w.Sync()
		must(t, err)
		kept := "000000010000000000000001.diverged-1"
		there, err := vfs.Exists(disk, spoolDir+"/"+kept)
		must(t, err)
		if there == same {
			t.Errorf("same content %v: set aside %v", same, there)
		}
		if there && string(readFile(t, disk, kept)) != string(old) {
			t.Error("set aside with other content")
		}
	}
}

// TestWritebackIsAWish: on a system that refuses it, WAL is received all the same.
func TestWritebackIsAWish(t *testing.T) {
	refused := 0
	disk := vfs.NewFault(newDisk(t), func(op vfs.Op) error {
		if op.Kind == vfs.OpWriteback {
			refused++
			return errors.New("operation not permitted")
		}
		return nil
	})
	s := mustOpenSpool(t, disk)
	w, err := s.NewWriter(pos(1, testSize.Start(1)))
	must(t, err)
	must(t, w.Append(testSize.Start(1), make([]byte, testSize)))
	if to, err := w.Sync(); err != nil || to != testSize.Start(2) || refused == 0 {
		t.Errorf("Sync = %s, %v; refused %d times", to, err, refused)
	}
}

// After a failed sync nothing is acknowledged any more, also if the disk says
// that all is well again.
func TestFailedSyncIsFinal(t *testing.T) {
	for _, kind := range []vfs.OpKind{vfs.OpSync, vfs.OpSyncDir, vfs.OpRename} {
		broken := false
		failures := 0
		disk := vfs.NewFault(newDisk(t), func(op vfs.Op) error {
			if broken && op.Kind == kind {
				broken = false
				failures++
				return errors.New("I/O error")
			}
			return nil
		})
		s := mustOpenSpool(t, disk)
		w, err := s.NewWriter(pos(1, testSize.Start(1)))
		must(t, err)
		must(t, w.Append(testSize.Start(1), make([]byte, testSize)))
		broken = true
		if _, err := w.Sync(); !errors.Is(err, segment.ErrPoisoned) {
			t.Errorf("%s: Sync = %v", kind, err)
		}
		if _, err := w.Sync(); !errors.Is(err, segment.ErrPoisoned) {
			t.Errorf("%s: the second Sync = %v", kind, err)
		}
		if err := w.Append(testSize.Start(2), []byte{1}); !errors.Is(err, segment.ErrPoisoned) {
			t.Errorf("%s: Append = %v", kind, err)
		}
		if failures != 1 {
			t.Errorf("%s: %d failures were injected", kind, failures)
		}
	}
}

func TestSpoolOfAnotherCluster(t *testing.T) {
	disk := newDisk(t)
	s := mustOpenSpool(t, disk)
	other := testCluster
	other.SystemID++
	if err := s.Identify(other); !errors.Is(err, segment.ErrWrongCluster) {
		t.Errorf("another system identifier: %v", err)
	}
	other = testCluster
	other.Size *= 2
	if err := s.Identify(other); !errors.Is(err, segment.ErrWrongCluster) {
		t.Errorf("another segment size: %v", err)
	}
	must(t, s.Identify(testCluster))
}

// A directory that pg_receivewal filled has no record of its cluster, but its
// pages have.
func TestSpoolOfAnotherClusterWithoutARecord(t *testing.T) {
	page := make([]byte, testSize)
	le := binary.LittleEndian
	le.PutUint16(page, 0xD110)
	le.PutUint16(page[2:], 2) // long header
	le.PutUint32(page[4:], 1)
	le.PutUint64(page[8:], uint64(testSize.Start(1)))
	le.PutUint64(page[24:], testCluster.SystemID)
	le.PutUint32(page[32:], uint32(testSize))
	le.PutUint32(page[36:], 8192)
	for _, base := range []string{"000000010000000000000001", "000000010000000000000001.partial"} {
		disk := newDisk(t)
		writeFile(t, disk, base, page)
		s := mustOpenSpool(t, disk)
		must(t, s.Close())

		disk = newDisk(t)
		other := slices.Clone(page)
		le.PutUint64(other[24:], testCluster.SystemID+1)
		writeFile(t, disk, base, other)
		if _, err := openSpool(disk); !errors.Is(err, segment.ErrWrongCluster) {
			t.Errorf("%s of another cluster: %v", base, err)
		}
	}
}

func TestSpoolIsLocked(t *testing.T) {
	disk := newDisk(t)
	s := mustOpenSpool(t, disk)
	if _, err := openSpool(disk); !errors.Is(err, vfs.ErrLocked) {
		t.Errorf("a second spool on the directory: %v", err)
	}
	must(t, s.Close())
	mustOpenSpool(t, disk)
}

// Whoever archives hears of everything there is to archive.
func TestOnSeal(t *testing.T) {
	calls := 0
	s, err := segment.OpenSpool(newDisk(t), spoolDir, slog.New(slog.DiscardHandler), segment.SpoolOptions{OnSeal: func() { calls++ }})
	must(t, err)
	must(t, s.Identify(testCluster))
	must(t, s.PutHistory(2, []byte("1\t0/1\tx\n")))
	if calls != 1 {
		t.Errorf("%d calls after a history", calls)
	}
	must(t, s.PutHistory(2, []byte("1\t0/1\tx\n"))) // nothing new
	w, err := s.NewWriter(pos(2, testSize.Start(1)))
	must(t, err)
	must(t, w.Append(testSize.Start(1), make([]byte, testSize)))
	_, err = w.Sync()
	must(t, err)
	if calls != 2 {
		t.Errorf("%d calls after a segment", calls)
	}
}

func TestListingKnowsTheLiveTimeline(t *testing.T) {
	s := mustOpenSpool(t, newDisk(t))
	w, err := s.NewWriter(pos(1, testSize.Start(1)))
	must(t, err)
	must(t, w.Append(testSize.Start(1), []byte{1, 2, 3}))
	for next, want := range []segment.TimelineID{1, 2} {
		if next > 0 {
			must(t, w.Switch(2, testSize.Start(1)+2, []byte("1\t0/100002\tx\n")))
		}
		l, err := s.Scan()
		must(t, err)
		if l.Live != want {
			t.Errorf("timeline %d is live, want %d", l.Live, want)
		}
	}
}

func TestHistoryIsNeverReplaced(t *testing.T) {
	s := mustOpenSpool(t, newDisk(t))
	must(t, s.PutHistory(2, []byte("1\t0/1\tx\n")))
	must(t, s.PutHistory(2, []byte("1\t0/1\tx\n")))
	if err := s.PutHistory(2, []byte("1\t0/2\tx\n")); !errors.Is(err, segment.ErrHistoryConflict) {
		t.Errorf("another history: %v", err)
	}
	got, err := s.History(2)
	must(t, err)
	if string(got) != "1\t0/1\tx\n" {
		t.Errorf("history is now %q", got)
	}
	if _, err := s.History(3); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a history that was never stored: %v", err)
	}
}

func TestContentEnd(t *testing.T) {
	for _, size := range []int{0, 1, 128 << 10, 128<<10 + 1, 300_000} {
		for _, end := range []int{0, 1, 127, 128 << 10, 128<<10 + 1, size} {
			if end > size {
				continue
			}
			p := make([]byte, size)
			if end > 0 {
				p[end-1] = 1
			}
			got, err := segment.ContentEnd(readerAt(p), int64(size))
			if err != nil || got != int64(end) {
				t.Errorf("ContentEnd of %d bytes = %d, %v, want %d", size, got, err, end)
			}
		}
	}
}

type readerAt []byte

func (r readerAt) ReadAt(p []byte, off int64) (int, error) {
	n := copy(p, r[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}
