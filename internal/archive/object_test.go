package archive

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/walrecv/walrecv/internal/pgtest"
	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage/storagetest"
)

// Everybody must be able to read the archive without this program.
func TestZstdToolReadsAnObject(t *testing.T) {
	store := storagetest.NewMem()
	a, scratch, _ := newArchive(t, store)
	n := name(1, 7)
	data := wal(n, 100, 0)
	mustPut(t, a, scratch, n, data)

	object, ok := store.Get("7411122233344455566/wal/00000001/000000010000000000000007.zst")
	if !ok {
		t.Fatalf("the object is not where it should be: %v", store.Keys())
	}
	file := filepath.Join(t.TempDir(), "000000010000000000000007.zst")
	if err := os.WriteFile(file, object, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := exec.Command("zstd", "-dc", file).Output(); err != nil || !bytes.Equal(got, data) {
		t.Errorf("zstd -d: %d bytes, %v", len(got), err)
	}
	about, err := exec.Command("zstd", "-lv", file).Output()
	for _, want := range []string{"# Zstandard Frames: 1", "# Skippable Frames: 1", "(1048576 B)\nRatio", "Check: XXH64"} {
		if err != nil || !strings.Contains(string(about), want) {
			t.Errorf("zstd -lv does not say %q: %v\n%s", want, err, about)
		}
	}
	if end := object[len(object)-1000:]; !bytes.Contains(end, []byte(`{"sha256":"`)) || !bytes.Contains(end, []byte(`","size":1048576,"summary":{`)) {
		t.Errorf("the object ends with %q", end)
	}
}

// damageSegment puts altered bytes in the place of a segment's object, and reads
// the segment.
func damageSegment(t *testing.T, store *storagetest.Mem, a *Archive, n segment.Name, object []byte) ([]byte, error) {
	t.Helper()
	store.Set(a.segmentKey(n), object)
	return readSegment(t.Context(), a, n)
}

func TestEveryBitFlipIsNoticed(t *testing.T) {
	store := storagetest.NewMem()
	a, scratch, _ := newArchive(t, store)
	n := name(1, 7)
	data := small(n)
	mustPut(t, a, scratch, n, data)
	object, _ := store.Get(a.segmentKey(n))
	object = bytes.Clone(object)

	frameEnd := bytes.LastIndex(object, []byte("\x5e\x2a\x4d\x18"))
	sound, err := a.SegmentInfo(t.Context(), n)
	if err != nil || !sound.Known {
		t.Fatal(sound, err)
	}
	harmless := 0
	tried := sampled(t, len(object), frameEnd)
	for i := range object {
		if !tried(i) {
			continue
		}
		for _, flip := range []byte{1 << (i % 8), 0xff} {
			bad := bytes.Clone(object)
			bad[i] ^= flip
			got, err := damageSegment(t, store, a, n, bad)
			var damaged *DamagedError
			info, infoErr := a.SegmentInfo(t.Context(), n)
			if !errors.As(infoErr, &damaged) && !reflect.DeepEqual(info.Summary, sound.Summary) {
				t.Fatalf("byte %d of %d ^ %#x: %+v, %v", i, len(object), flip, info, infoErr)
			}
			if in := i - frameEnd; in >= 0 && (in < trailerFrame || i >= len(object)-trailerLength) && infoErr == nil {
				t.Fatalf("byte %d of %d ^ %#x: %+v", i, len(object), flip, info)
			}
			switch {
			case err == nil && bytes.Equal(got, data) && i > frameEnd:
				// The content is sound, and what is said of it was looked at.
			case err == nil && bytes.Equal(got, data):
				harmless++ // the digest proves that nothing happened
			case !errors.As(err, &damaged) || damaged.Key != a.segmentKey(n):
				t.Fatalf("byte %d of %d ^ %#x: %d bytes, %v", i, len(object), flip, len(got), err)
			}
		}
	}
	// The window that the frame asks for, padding, from which of many equal
	// bytes a copy is taken.
	if harmless > len(object)/4 {
		t.Errorf("%d of %d flips changed nothing", harmless, 2*len(object))
	}
}

// sampled chooses places in an object: all in the long form of the tests, otherwise
// the head of the frame, what is around its end and that of the object, and by chance
// a twelfth of the rest.
func sampled(t *testing.T, length, frameEnd int) func(i int) bool {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d, %d bytes", seed, length)
	random := rand.New(rand.NewPCG(seed, 0))
	return func(i int) bool {
		return pgtest.Long() || i < 32 || i >= frameEnd-8 && i < frameEnd+trailerFrame || i >= length-trailerLength || random.IntN(12) == 0
	}
}

func TestEveryTruncationIsNoticed(t *testing.T) {
	store := storagetest.NewMem()
	a, scratch, _ := newArchive(t, store)
	n := name(1, 7)
	mustPut(t, a, scratch, n, small(n))
	object, _ := store.Get(a.segmentKey(n))
	object = bytes.Clone(object)
	tried := sampled(t, len(object), bytes.LastIndex(object, []byte("\x5e\x2a\x4d\x18")))
	for size := range object {
		if !tried(size) {
			continue
		}
		_, err := damageSegment(t, store, a, n, object[:size])
		var damaged *DamagedError
		if !errors.As(err, &damaged) {
			t.Fatalf("%d of %d bytes: %v", size, len(object), err)
		}
		if _, err := a.SegmentInfo(t.Context(), n); !errors.As(err, &damaged) {
			t.Fatalf("info of %d of %d bytes: %v", size, len(object), err)
		}
	}
}

// A sound object in a wrong place, or a made-up one, is damage too.
func TestObjectsThatAreNotWhatTheyShouldBe(t *testing.T) {
	store := storagetest.NewMem()
	a, _, _ := newArchive(t, store)
	n := name(1, 7)
	object := func(data []byte) []byte {
		bytes, _ := encoded(t, data)
		return bytes
	}
	whole := object(small(n))
	// A frame that is sound in itself, and a digest that is not its own.
	forged := func(data []byte, d Digest) []byte {
		frame := object(data)
		end, err := trailer{Digest: d, Size: int64(testSize)}.encode()
		if err != nil {
			t.Fatal(err)
		}
		return append(frame[:bytes.LastIndex(frame, []byte("\x5e\x2a\x4d\x18"))], end...)
	}
	short := small(n)[:testSize-1]
	for what, bad := range map[string][]byte{
		"other content":           forged(wal(n, 1, 0), sha256.Sum256(small(n))),
		"short, but says not":     forged(short, sha256.Sum256(short)),
		"shorter than a segment":  object(short),
		"longer than a segment":   object(append(small(n), 0)),
		"without a trailer":       whole[:bytes.LastIndex(whole, []byte("\x5e\x2a\x4d\x18"))],
		"twice":                   append(bytes.Clone(whole), whole...),
		"with garbage":            append(bytes.Clone(whole), "garbage"...),
		"empty":                   {},
		"gigantic trailer":        append(bytes.Clone(whole), 0xff, 0xff, 0xff, 0xff),
		"of a page of zero bytes": make([]byte, 8192),
	} {
		_, err := damageSegment(t, store, a, n, bad)
		var damaged *DamagedError
		if !errors.As(err, &damaged) {
			t.Errorf("%s: %v", what, err)
		}
	}
	p := Partial{Name: n, Digest: "00000000"}
	store.Set(a.partialKey(p), whole)
	r, err := a.OpenPartial(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var damaged *DamagedError
	if _, err := io.Copy(io.Discard, r); !errors.As(err, &damaged) {
		t.Errorf("a partial under the digest of another one: %v", err)
	}
}

// A connection that breaks is not a damaged object: another try may go well.
func TestBrokenReadsAreNoDamage(t *testing.T) {
	mem := storagetest.NewMem()
	a, scratch, _ := newArchive(t, mem)
	n := name(1, 7)
	data := small(n)
	mustPut(t, a, scratch, n, data)
	object, _ := mem.Get(a.segmentKey(n))
	for _, sequential := range []bool{false, true} {
		mem.Sequential = sequential
		for _, end := range []error{io.EOF, io.ErrUnexpectedEOF, storagetest.ErrInjected, fs.ErrNotExist} {
			for at := int64(0); at < int64(len(object)); at += 7 {
				cut := storagetest.Fault{Cut: &storagetest.Cut{At: at, Err: end}}
				store := storagetest.NewFaulty(mem, func(storagetest.Request) storagetest.Fault { return cut })
				broken := &Archive{store: store, id: testIdentity}
				_, err := readSegment(t.Context(), broken, n)
				expectUnknown(t, "read", at, end, err)
				_, err = broken.SegmentInfo(t.Context(), n)
				expectUnknown(t, "info", at, end, err)
			}
		}
	}
}

func expectUnknown(t *testing.T, what string, at int64, end, err error) {
	t.Helper()
	var damaged *DamagedError
	if err == nil || errors.As(err, &damaged) || errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("%s cut after %d bytes with %v: %v", what, at, end, err)
	}
}
