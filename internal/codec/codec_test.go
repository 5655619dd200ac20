package codec

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/walrecv/walrecv/internal/pgtest"
)

var compressing = []Method{Gzip, LZ4, Zstd}

// sample looks a little like WAL: repetitive, with noise between. It depends on
// size only.
func sample(size int) []byte {
	rng := rand.New(rand.NewPCG(1, uint64(size)))
	out := make([]byte, 0, size+64)
	for i := 0; len(out) < size; i++ {
		out = fmt.Appendf(out, "record %08d of relation %d ", i, i%7)
		for range rng.IntN(40) {
			out = append(out, byte(rng.Uint32()))
		}
	}
	return out[:size]
}

func compress(t *testing.T, m Method, level int, plain []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := NewWriter(&out, m, level, int64(len(plain)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(w, iotest.HalfReader(bytes.NewReader(plain))); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func decompress(m Method, file []byte, limit int) ([]byte, error) {
	r, err := NewReader(bytes.NewReader(file), m, int64(limit))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// tool runs a command-line tool over input and returns what it printed.
func tool(t *testing.T, input []byte, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Stdin = bytes.NewReader(input)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %v: %v: %s", name, args, err, stderr.Bytes())
	}
	return out
}

func TestRoundTripAtEveryLevel(t *testing.T) {
	plain := sample(70_000)
	for _, m := range compressing {
		for level := 0; level <= methods[m].max; level++ {
			file := compress(t, m, level, plain)
			if len(file) >= len(plain) {
				t.Errorf("%s:%d: %d bytes became %d", m, level, len(plain), len(file))
			}
			got, err := decompress(m, file, len(plain))
			if err != nil || !bytes.Equal(got, plain) {
				t.Errorf("%s:%d: read back %d bytes, %v", m, level, len(got), err)
			}
		}
	}
}

func TestRoundTripOfOddSizes(t *testing.T) {
	for _, m := range append([]Method{None}, compressing...) {
		for _, size := range []int{0, 1, 255, 256, 65535, 65536, 1<<17 - 1, 1 << 17, 1<<17 + 1, 1<<20 + 7} {
			plain := sample(size)
			got, err := decompress(m, compress(t, m, 0, plain), size)
			if err != nil || !bytes.Equal(got, plain) {
				t.Errorf("%s: %d bytes: read back %d, %v", m, size, len(got), err)
			}
		}
	}
}

// More than the largest window must pass, since the window is not a limit of
// the content.
func TestContentLongerThanTheWindow(t *testing.T) {
	const size = maxWindow + 1<<20
	pr, pw := io.Pipe()
	go func() {
		w, err := NewWriter(pw, Zstd, 0, size)
		if err == nil {
			_, err = io.CopyN(w, zeros{}, size)
		}
		if err == nil {
			err = w.Close()
		}
		pw.CloseWithError(err)
	}()
	r, err := NewReader(pr, Zstd, size)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if n, err := io.Copy(io.Discard, r); n != size || err != nil {
		t.Fatalf("read %d bytes of %d: %v", n, size, err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestToolsReadOurFiles(t *testing.T) {
	plain := sample(1 << 20)
	for _, level := range []int{0, 1, 3, 7, 19} {
		file := compress(t, Zstd, level, plain)
		if got := tool(t, file, "zstd", "-dc"); !bytes.Equal(got, plain) {
			t.Errorf("zstd:%d: zstd -d gave %d other bytes", level, len(got))
		}
	}
	for _, level := range []int{0, 1, 9} {
		file := compress(t, Gzip, level, plain)
		tool(t, file, "gzip", "-t")
		if got := tool(t, file, "gzip", "-dc"); !bytes.Equal(got, plain) {
			t.Errorf("gzip:%d: gzip -d gave %d other bytes", level, len(got))
		}
	}
}

func TestZstdFrameTellsSizeAndChecksum(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.zst")
	if err := os.WriteFile(file, compress(t, Zstd, 0, sample(1<<20)), 0o600); err != nil {
		t.Fatal(err)
	}
	got := string(tool(t, nil, "zstd", "-lv", file))
	for _, want := range []string{"# Zstandard Frames: 1", "Window Size: 1.000 MiB", "(1048576 B)\nRatio", "Check: XXH64"} {
		if !strings.Contains(got, want) {
			t.Errorf("zstd -lv does not say %q:\n%s", want, got)
		}
	}
}

func TestGzipIsOneMemberWithItsLengthAtTheEnd(t *testing.T) {
	const size = 300_001
	file := compress(t, Gzip, 0, sample(size))
	if isize := uint32(file[len(file)-4]) | uint32(file[len(file)-3])<<8 | uint32(file[len(file)-2])<<16 | uint32(file[len(file)-1])<<24; isize != size {
		t.Errorf("last four bytes say %d, content is %d", isize, size)
	}
	if n := bytes.Count(file, []byte{0x1f, 0x8b, 0x08, 0x00}); n != 1 {
		t.Errorf("%d gzip headers", n)
	}
}

func TestWeReadTheToolsFiles(t *testing.T) {
	plain := sample(1 << 20)
	file := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(file, plain, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"gzip", "-c", file},
		{"gzip", "-1c"},
		{"gzip", "-9c"},
		{"zstd", "-c", file},
		{"zstd", "-1c"},
		{"zstd", "-19c", file},
		{"zstd", "--ultra", "-22c", file},
		{"zstd", "--no-check", "-c"},
		{"zstd", "--ultra", "-22c"},
	} {
		m := Gzip
		if args[0] == "zstd" {
			m = Zstd
		}
		got, err := decompress(m, tool(t, plain, args[0], args[1:]...), len(plain))
		if err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%v: read %d bytes, %v", args, len(got), err)
		}
	}
}

// The files were written by the lz4 command-line tool, 1.9.4: with linked
// blocks and the content's size, as it is written into a file; and to a pipe.
func TestWeReadTheLZ4ToolsFiles(t *testing.T) {
	var plain []byte
	for i := range 12_000 {
		plain = append(fmt.Appendf(plain, "wal record %06d ", i/16), byte(i%7))
	}
	for _, name := range []string{"linked.lz4", "stream.lz4"} {
		file, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		got, err := decompress(LZ4, file, len(plain))
		if err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%s: read %d bytes, %v", name, len(got), err)
		}
	}
}

// What the reading takes stands at the beginning of a file, if anything does.
func TestMemoryIsKnown(t *testing.T) {
	plain := sample(3 << 20)
	for title, c := range map[string]struct {
		object []byte
		method Method
		want   int64
	}{
		"zstd":               {compress(t, Zstd, 0, plain), Zstd, windowSize + zstdBlocks},
		"zstd, small":        {tool(t, plain[:100<<10], "zstd", "-c", "--stream-size=102400"), Zstd, 100<<10 + zstdBlocks},
		"zstd, 8 MiB":        {tool(t, plain, "zstd", "-c", "--zstd=windowLog=23"), Zstd, 8<<20 + zstdBlocks},
		"zstd, out of reach": {[]byte("\x28\xb5\x2f\xfd\x00\xff"), Zstd, maxWindow + zstdBlocks},
		"zstd, damaged":      {[]byte("no zstd"), Zstd, 0},
		"lz4":                {compress(t, LZ4, 0, plain), LZ4, 512 << 10},
		"lz4, 4 MiB":         {tool(t, plain, "lz4", "-c", "-B7"), LZ4, 8 << 20},
		"lz4, cut short":     {[]byte("\x04"), LZ4, 0},
		"gzip":               {compress(t, Gzip, 0, plain), Gzip, 0},
		"none":               {plain, None, 0},
		"empty":              {nil, Zstd, 0},
	} {
		r, err := NewReader(bytes.NewReader(c.object), c.method, int64(len(plain)))
		if err != nil {
			t.Fatal(err)
		}
		if got := r.Memory(); got != c.want {
			t.Errorf("%s: %d, want %d", title, got, c.want)
		}
		if data, err := io.ReadAll(r); c.want > 0 && c.want < maxWindow && (err != nil || !bytes.HasPrefix(plain, data)) {
			t.Errorf("%s: afterwards %d bytes, %v", title, len(data), err)
		}
		r.Close()
	}
}

func TestTruncationAtEveryLengthIsNoticed(t *testing.T) {
	plain := sample(5_000)
	for _, m := range compressing {
		file := compress(t, m, 0, plain)
		for n := range file {
			if !pgtest.Long() && n%7 != 0 && n > 64 && n < len(file)-64 {
				continue
			}
			_, err := decompress(m, file[:n], len(plain))
			var corrupt *CorruptError
			if !errors.As(err, &corrupt) || !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatalf("%s: %d of %d bytes: %v", m, n, len(file), err)
			}
		}
	}
}

func TestBitFlipsNeverAlterTheContent(t *testing.T) {
	plain := sample(1_000)
	for _, m := range compressing {
		file := compress(t, m, 0, plain)
		noticed, tried := 0, 0
		for i := range file {
			for bit := range 8 {
				if !pgtest.Long() && bit != i%8 && i > 32 && i < len(file)-32 {
					continue
				}
				tried++
				bad := bytes.Clone(file)
				bad[i] ^= 1 << bit
				got, err := decompress(m, bad, len(plain))
				var corrupt *CorruptError
				switch {
				case err == nil && !bytes.Equal(got, plain):
					t.Fatalf("%s: bit %d of byte %d of %d: other content, no error", m, bit, i, len(file))
				case err != nil && !errors.As(err, &corrupt):
					t.Fatalf("%s: bit %d of byte %d of %d: %v", m, bit, i, len(file), err)
				case err != nil:
					noticed++
				}
			}
		}
		// What is left are bits without a meaning: times and flags in a header.
		if min := tried - 150; noticed < min {
			t.Errorf("%s: only %d of %d flips were noticed", m, noticed, tried)
		}
	}
}

func TestNeverMoreThanTheLimit(t *testing.T) {
	plain := sample(100_000)
	for _, m := range append([]Method{None}, compressing...) {
		file := compress(t, m, 0, plain)
		for _, limit := range []int{0, 1, 65536, len(plain) - 1} {
			got, err := decompress(m, file, limit)
			var corrupt *CorruptError
			if !errors.Is(err, ErrTooLong) || !errors.As(err, &corrupt) || !bytes.Equal(got, plain[:limit]) {
				t.Errorf("%s: limit %d: %d bytes, %v", m, limit, len(got), err)
			}
		}
	}
}

func TestTrailingGarbageIsNoticed(t *testing.T) {
	plain := sample(10_000)
	for _, m := range compressing {
		file := append(compress(t, m, 0, plain), "garbage behind the end"...)
		var corrupt *CorruptError
		if _, err := decompress(m, file, len(plain)); !errors.As(err, &corrupt) {
			t.Errorf("%s: %v", m, err)
		}
	}
}

func TestSeveralFramesAreOneContent(t *testing.T) {
	plain := sample(30_000)
	for _, m := range compressing {
		file := append(compress(t, m, 0, plain[:10_000]), compress(t, m, 0, plain[10_000:])...)
		got, err := decompress(m, file, len(plain))
		if err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%s: %d bytes, %v", m, len(got), err)
		}
	}
}

// An error of the file below is never taken for a damaged file, nor for its end.
func TestErrorsOfTheFileBelowComeThrough(t *testing.T) {
	plain := sample(20_000)
	broken := errors.New("connection reset")
	for _, below := range []error{broken, io.ErrUnexpectedEOF} {
		for _, m := range append([]Method{None}, compressing...) {
			file := compress(t, m, 0, plain)
			for _, n := range []int{0, 1, 5, len(file) / 2, len(file) - 1, len(file)} {
				r, err := NewReader(io.MultiReader(bytes.NewReader(file[:n]), iotest.ErrReader(below)), m, int64(len(plain)))
				if err != nil {
					t.Fatal(err)
				}
				_, err = io.Copy(io.Discard, r)
				var corrupt *CorruptError
				if !errors.Is(err, below) || errors.As(err, &corrupt) {
					t.Errorf("%s: %v after %d of %d bytes came out as %v", m, below, n, len(file), err)
				}
				r.Close()
			}
		}
	}
}

func TestWriterHoldsToTheAnnouncedSize(t *testing.T) {
	for _, m := range append([]Method{None}, compressing...) {
		w, err := NewWriter(io.Discard, m, 0, 10)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(make([]byte, 9)); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err == nil {
			t.Errorf("%s: 9 bytes of 10 were accepted", m)
		}
		if w, err = NewWriter(io.Discard, m, 0, 10); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(make([]byte, 11)); err == nil {
			t.Errorf("%s: 11 bytes of 10 were accepted", m)
		}
		if err := w.Close(); err == nil {
			t.Errorf("%s: closed well after too much", m)
		}
	}
}

func TestWriterOfUnknownSize(t *testing.T) {
	plain := sample(200_000)
	for _, m := range compressing {
		var file bytes.Buffer
		w, err := NewWriter(&file, m, 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(plain); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Errorf("%s: second Close: %v", m, err)
		}
		if _, err := w.Write(plain); err == nil {
			t.Errorf("%s: Write after Close", m)
		}
		if got, err := decompress(m, file.Bytes(), len(plain)); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%s: %d bytes, %v", m, len(got), err)
		}
	}
}

// failingWriter takes n bytes and then fails.
type failingWriter struct{ n int }

var errDisk = errors.New("no space left on device")

func (f *failingWriter) Write(p []byte) (int, error) {
	if f.n -= len(p); f.n < 0 {
		return 0, errDisk
	}
	return len(p), nil
}

func TestWriterReportsTheErrorsBelow(t *testing.T) {
	plain := sample(1 << 20)
	for _, m := range append([]Method{None}, compressing...) {
		whole := len(compress(t, m, 0, plain))
		for _, n := range []int{0, 3, whole / 2, whole - 1} {
			w, err := NewWriter(&failingWriter{n: n}, m, 0, int64(len(plain)))
			if err != nil {
				t.Fatal(err)
			}
			_, err = w.Write(plain)
			if err == nil {
				err = w.Close()
			}
			if !errors.Is(err, errDisk) {
				t.Errorf("%s: %d of %d bytes written: %v", m, n, whole, err)
			}
			if err := w.Close(); err == nil {
				t.Errorf("%s: Close after a failed write says nothing", m)
			}
		}
		// A broken stream leaves nothing in the pool that spoils the next one.
		if got, err := decompress(m, compress(t, m, 0, plain), len(plain)); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%s: next stream: %d bytes, %v", m, len(got), err)
		}
	}
}

func TestParseSpec(t *testing.T) {
	for _, c := range []struct {
		text   string
		method Method
		level  int
	}{
		{"none", None, 0},
		{"gzip", Gzip, 0},
		{"lz4", LZ4, 0},
		{"zstd", Zstd, 0},
		{"gzip:1", Gzip, 1},
		{"gzip:9", Gzip, 9},
		{"lz4:0", LZ4, 0},
		{"lz4:12", LZ4, 12},
		{"zstd:1", Zstd, 1},
		{"zstd:22", Zstd, 22},
		{"zstd:level=3", Zstd, 3},
		{"0", None, 0},
		{"5", Gzip, 5},
	} {
		m, level, err := ParseSpec(c.text)
		if m != c.method || level != c.level || err != nil {
			t.Errorf("%q: %s:%d, %v", c.text, m, level, err)
		}
	}
	for _, c := range []struct{ text, want string }{
		{"none:1", `compression method "none" does not accept a compression level`},
		{"none:0", `compression method "none" does not accept a compression level`},
		{"gzip:0", "between 1 and 9, not 0"},
		{"gzip:10", "between 1 and 9, not 10"},
		{"10", "between 1 and 9, not 10"},
		{"-1", "between 1 and 9, not -1"},
		{"lz4:13", "between 1 and 12, not 13"},
		{"lz4:-1", "between 1 and 12, not -1"},
		{"zstd:0", "between 1 and 22, not 0"},
		{"zstd:23", "between 1 and 22, not 23"},
		{"", `unrecognized compression method ""`},
		{"GZIP", `unrecognized compression method "GZIP"`},
		{"brotli:1", `"brotli"`},
		{"gzip:", `whole number, not ""`},
		{"gzip:abc", `not "abc"`},
		{"gzip:level=", `not ""`},
		{"zstd: 3", `not " 3"`},
	} {
		m, level, err := ParseSpec(c.text)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %s:%d, %v; want an error with %q", c.text, m, level, err, c.want)
		}
	}
}

func TestUnknownMethodsAndLevelsAreRefused(t *testing.T) {
	if _, err := NewReader(bytes.NewReader(nil), "brotli", 0); err == nil {
		t.Error("reader of an unknown method")
	}
	if _, err := NewWriter(io.Discard, "brotli", 0, 0); err == nil {
		t.Error("writer of an unknown method")
	}
	if _, err := NewWriter(io.Discard, Gzip, 10, 0); err == nil {
		t.Error("writer of an unknown level")
	}
}

func TestDetectSuffix(t *testing.T) {
	const name = "00000001000000000000000A"
	for _, m := range append([]Method{None}, compressing...) {
		if base, got := DetectSuffix(name + m.Suffix()); base != name || got != m {
			t.Errorf("%s: %q, %s", m, base, got)
		}
	}
	if base, m := DetectSuffix("x.gz.partial"); base != "x.gz.partial" || m != None {
		t.Errorf("%q, %s", base, m)
	}
}

func FuzzReader(f *testing.F) {
	for _, m := range compressing {
		var file bytes.Buffer
		w, err := NewWriter(&file, m, 0, 1000)
		if err != nil {
			f.Fatal(err)
		}
		if _, err := w.Write(sample(1000)); err != nil {
			f.Fatal(err)
		}
		if err := w.Close(); err != nil {
			f.Fatal(err)
		}
		f.Add(string(m), file.Bytes())
	}
	f.Fuzz(func(t *testing.T, m string, file []byte) {
		const limit = 4096
		r, err := NewReader(bytes.NewReader(file), Method(m), limit)
		if err != nil {
			return
		}
		defer r.Close()
		got, err := io.ReadAll(r)
		var corrupt *CorruptError
		if len(got) > limit || err != nil && !errors.As(err, &corrupt) {
			t.Errorf("%s: %d bytes, %v", m, len(got), err)
		}
	})
}
