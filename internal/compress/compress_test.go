package compress_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/walrecv/walrecv/internal/codec"
	"github.com/walrecv/walrecv/internal/compress"
	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/segment"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	size  = segment.Size(1 << 20)
	first = "/spool/000000010000000000000001"
	begun = "/spool/000000010000000000000002.partial"
)

// newDisk has a spool with a complete segment and one that was begun.
func newDisk(t *testing.T) (*vfs.Mem, []byte) {
	t.Helper()
	disk := vfs.NewMem()
	plain := bytes.Repeat([]byte("walrecv "), int(size)/8)
	must(t, disk.Mkdir("/spool", 0o700))
	must(t, disk.SyncDir("/"))
	must(t, vfs.WriteFile(disk, first, 0o600, plain))
	must(t, vfs.WriteFile(disk, begun, 0o600, plain))
	return disk, plain
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func openSpool(fsys vfs.FS) (*segment.Spool, error) {
	s, err := segment.OpenSpool(fsys, "/spool", slog.New(slog.DiscardHandler), segment.SpoolOptions{})
	if err != nil {
		return nil, err
	}
	err = s.Identify(segment.Cluster{Identity: segment.Identity{SystemID: 1, Size: size}, Major: 15, FileMode: 0o640})
	return s, errors.Join(err, s.Prepare())
}

func names(t *testing.T, fsys vfs.FS) string {
	t.Helper()
	entries, err := fsys.ReadDir("/spool")
	must(t, err)
	var all []string
	for _, e := range entries {
		all = append(all, strings.TrimPrefix(e.Name, "0000000100000000000000"))
	}
	return strings.Join(all, " ")
}

// content is what a file says, decompressed.
func content(fsys vfs.FS, name string) ([]byte, error) {
	data, err := vfs.ReadFile(fsys, name)
	if err != nil {
		return nil, err
	}
	_, method := codec.DetectSuffix(name)
	r, err := codec.NewReader(bytes.NewReader(data), method, int64(size))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

func TestReplacesSealedSegmentsOnly(t *testing.T) {
	for _, method := range []codec.Method{codec.Gzip, codec.LZ4, codec.Zstd} {
		disk, plain := newDisk(t)
		s, err := openSpool(disk)
		must(t, err)
		must(t, compress.New(s, method, 0, slog.Default()).Pass(t.Context()))
		if got, want := names(t, disk), "01"+method.Suffix()+" 02.partial walrecv.json"; got != want {
			t.Errorf("%s: spool holds %s, want %s", method, got, want)
		}
		got, err := content(disk, first+method.Suffix())
		if err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%s: %d bytes, %v", method, len(got), err)
		}
		if perm, err := disk.Perm(first + method.Suffix()); err != nil || perm != 0o640 {
			t.Errorf("%s: mode %o, %v", method, perm, err)
		}
	}
}

// At every crash the segment is there whole, plain or compressed, and the next
// start ends with the compressed one alone.
func TestCrashSweep(t *testing.T) {
	seed := rand.Uint64()
	for k := 0; ; k++ {
		disk, plain := newDisk(t)
		crasher := vfs.NewCrasher(disk, k, rand.New(rand.NewPCG(seed, uint64(k))))
		if s, err := openSpool(crasher.FS()); err == nil {
			_ = compress.New(s, codec.Zstd, 0, slog.New(slog.DiscardHandler)).Pass(t.Context()) // or the crash
		}
		left, crashed := crasher.Crashed()
		if !crashed {
			// The removal of the plain file is the last step: it may be on disk or not.
			for i := range 50 {
				holds(t, disk.CrashClone(rand.New(rand.NewPCG(seed, uint64(i)))), plain)
			}
			t.Logf("seed %d: %d crashes", seed, k)
			return
		}
		holds(t, left, plain)
		s, err := openSpool(left)
		must(t, err)
		must(t, compress.New(s, codec.Zstd, 0, slog.Default()).Pass(t.Context()))
		if got := names(t, left); got != "01.zst 02.partial walrecv.json" {
			t.Fatalf("seed %d, k=%d: then the spool holds %s", seed, k, got)
		}
	}
}

// holds looks for the whole segment on a disk, plain or compressed.
func holds(t *testing.T, disk vfs.FS, plain []byte) {
	t.Helper()
	got, err := content(disk, first)
	if err != nil {
		got, err = content(disk, first+".zst")
	}
	if err != nil || !bytes.Equal(got, plain) {
		t.Fatalf("after a crash: %d bytes, %v", len(got), err)
	}
}

// A segment that cannot be compressed stays, and is tried again.
func TestFailureKeepsTheSegment(t *testing.T) {
	disk, plain := newDisk(t)
	fail := true
	s, err := openSpool(vfs.NewFault(disk, func(op vfs.Op) error {
		if fail && op.Kind == vfs.OpSync && strings.HasSuffix(op.Name, ".zst.tmp") {
			return errors.New("I/O error")
		}
		return nil
	}))
	must(t, err)
	c := compress.New(s, codec.Zstd, 0, slog.New(slog.DiscardHandler))
	if err := c.Pass(t.Context()); err == nil {
		t.Error("the failure was not reported")
	}
	if got, err := content(disk, first); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	fail = false
	must(t, c.Pass(t.Context()))
}

func TestRunFollowsNudges(t *testing.T) {
	disk, plain := newDisk(t)
	removed := make(chan struct{}, 8)
	s, err := openSpool(vfs.NewFault(disk, func(op vfs.Op) error {
		if op.Kind == vfs.OpRemove && !strings.HasSuffix(op.Name, ".tmp") {
			removed <- struct{}{}
		}
		return nil
	}))
	must(t, err)
	c := compress.New(s, codec.Gzip, 0, slog.Default())
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.Run(ctx)
	}()
	<-removed
	must(t, vfs.WriteFile(disk, "/spool/000000010000000000000003", 0o600, plain))
	c.Nudge()
	<-removed
	cancel()
	<-done
}

func TestCheck(t *testing.T) {
	disk, _ := newDisk(t)
	s, err := openSpool(disk)
	must(t, err)
	must(t, compress.New(s, codec.Zstd, 0, slog.Default()).Pass(t.Context()))
	check := func() error {
		l, err := s.Scan()
		must(t, err)
		f, _ := l.Newest()
		return compress.Check(s, f)
	}
	must(t, check())
	data, err := vfs.ReadFile(disk, first+".zst")
	must(t, err)
	must(t, vfs.WriteFile(disk, first+".zst", 0o600, data[:len(data)-1]))
	if check() == nil {
		t.Error("a truncated file passed")
	}
	var short bytes.Buffer
	w, err := codec.NewWriter(&short, codec.Zstd, 0, 5)
	must(t, err)
	_, err = w.Write([]byte("short"))
	must(t, errors.Join(err, w.Close()))
	must(t, vfs.WriteFile(disk, first+".zst", 0o600, short.Bytes()))
	if check() == nil {
		t.Error("a file that is no segment passed")
	}
}
