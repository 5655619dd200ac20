package backup

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
)

// tarEntry is a file of a tar, without its content.
type tarEntry struct {
	name string
	size int64
	kind byte
}

// makeTar makes a tar of files whose content are their names, over and over.
func makeTar(t testing.TB, format tar.Format, entries ...tarEntry) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Size: e.size, Mode: 0o600, Typeflag: e.kind, Format: format}
		if e.kind == tar.TypeSymlink {
			h.Linkname = "/elsewhere"
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.CopyN(w, &repeat{text: e.name}, e.size); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// repeat yields a text over and over.
type repeat struct {
	text string
	at   int
}

func (r *repeat) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = r.text[r.at%len(r.text)]
		r.at++
	}
	return len(p), nil
}

// borders reads a tar in pieces that sizes gives, and gives the offsets of the borders.
func borders(content []byte, size func() int) (at []int64, err error) {
	var r tarReader
	var out []byte
	for rest := content; len(rest) > 0; {
		piece := rest[:min(len(rest), size())]
		rest = rest[len(piece):]
		for len(piece) > 0 {
			var got []byte
			var border bool
			if got, piece, border, err = r.next(piece); err != nil {
				return at, err
			}
			if border {
				at = append(at, int64(len(out)))
			}
			out = append(out, got...)
		}
	}
	if err := r.end(); err != nil {
		return at, err
	}
	if !bytes.Equal(out, content) {
		return at, errors.New("what came out is not what went in")
	}
	return at, nil
}

// names lists the files of a tar that need not have an end.
func names(t testing.TB, content []byte) (names []string) {
	t.Helper()
	r := tar.NewReader(bytes.NewReader(content))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, r); err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
	}
}

var sampleEntries = []tarEntry{
	{"backup_label", 200, tar.TypeReg},
	{"base/", 0, tar.TypeDir},
	{"base/1/112", 512, tar.TypeReg},
	{"base/1/113", 513, tar.TypeReg},
	{"pg_tblspc/16384", 0, tar.TypeSymlink},
	{"empty", 0, tar.TypeReg},
	{"global/pg_control", 8192, tar.TypeReg},
}

// TestTarBorders: wherever a tar is cut, both parts can be read, and have its files.
func TestTarBorders(t *testing.T) {
	long := strings.Repeat("directory/", 30)
	rng := rand.New(rand.NewPCG(1, 2))
	for _, c := range []struct {
		format  tar.Format
		entries []tarEntry
	}{
		{tar.FormatUSTAR, sampleEntries},
		{tar.FormatUSTAR, nil},
		{tar.FormatPAX, append([]tarEntry{{long + "a", 700, tar.TypeReg}, {"ä", 3, tar.TypeReg}}, sampleEntries...)},
		{tar.FormatGNU, append([]tarEntry{{long + "b", 700, tar.TypeReg}, {long, 0, tar.TypeDir}}, sampleEntries...)},
	} {
		content := makeTar(t, c.format, c.entries...)
		all := names(t, content)
		for name, size := range map[string]func() int{
			"whole": func() int { return len(content) }, "bytes": func() int { return 1 }, "blocks": func() int { return tarBlock },
			"random": func() int { return 1 + rng.IntN(1500) },
		} {
			at, err := borders(content, size)
			if err != nil || len(at) != len(c.entries) {
				t.Errorf("%s, %s: %d borders of %d files, %v", c.format, name, len(at), len(c.entries), err)
			}
			for _, cut := range at {
				if got := append(names(t, content[:cut]), names(t, content[cut:])...); fmt.Sprint(got) != fmt.Sprint(all) {
					t.Errorf("%s, %s, cut at %d: %v", c.format, name, cut, got)
				}
			}
		}
	}
}

// TestLargeFile: a size of 8 GiB and more is not written in octal digits.
func TestLargeFile(t *testing.T) {
	const size = 9<<30 + 5
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	if err := w.WriteHeader(&tar.Header{Name: "large", Size: size, Typeflag: tar.TypeReg, Format: tar.FormatGNU}); err != nil {
		t.Fatal(err)
	}
	var r tarReader
	if _, rest, border, err := r.next(out.Bytes()); err != nil || !border || len(rest) > 0 || r.left != 9<<30+tarBlock {
		t.Errorf("%d bytes follow, %v, %v", r.left, border, err)
	}
	if err := r.end(); err == nil {
		t.Error("it may end here")
	}
}

func TestBadTars(t *testing.T) {
	good := makeTar(t, tar.FormatUSTAR, sampleEntries...)
	change := func(at int, to string) []byte {
		bad := bytes.Clone(good)
		copy(bad[at:], to)
		return bad
	}
	// resum gives a changed header the right checksum.
	resum := func(bad []byte) []byte {
		sum := 0
		for i, c := range bad[:tarBlock] {
			if i >= 148 && i < 156 {
				c = ' '
			}
			sum += int(c)
		}
		copy(bad[148:], fmt.Sprintf("%06o\x00 ", sum))
		return bad
	}
	for what, content := range map[string][]byte{
		"cannot be read at byte 0: its header has another checksum":    change(0, "x"),
		"cannot be read at byte 1024: its header has another checksum": change(1024+124, "1"),
		"its header has another checksum ":                             change(148, "zzzzzzzz"),
		"cannot be read at byte 0: its header has no size":             resum(change(124, "9")),
		"its header has no size":                                       resum(change(124, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")),
		"its header has no size ":                                      resum(change(124, "\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")),
		" its header has no size":                                      resum(change(124, "\x80\x00\x00\x00\x7f\xff\xff\xff\xff\xff\xff\xff")),
		"its header has no size  ":                                     resum(change(124, "            ")),
		"ends after 100 bytes":                                         good[:100],
		"ends after 700 bytes":                                         good[:700],
	} {
		if _, err := borders(content, func() int { return 100 }); err == nil || !strings.Contains(err.Error(), strings.TrimSpace(what)) {
			t.Errorf("%v, want %q", err, what)
		}
	}
}

func FuzzTar(f *testing.F) {
	f.Add(makeTar(f, tar.FormatUSTAR, sampleEntries...))
	f.Add(makeTar(f, tar.FormatGNU, tarEntry{strings.Repeat("x", 200), 3, tar.TypeReg}))
	f.Add(makeTar(f, tar.FormatPAX, tarEntry{strings.Repeat("ä", 200), 3, tar.TypeReg}))
	f.Fuzz(func(t *testing.T, content []byte) {
		at, err := borders(content, func() int { return 1 << 20 })
		again, err2 := borders(content, func() int { return 333 })
		if fmt.Sprint(at) != fmt.Sprint(again) || (err == nil) != (err2 == nil) {
			t.Errorf("%v, %v and in pieces %v, %v", at, err, again, err2)
		}
		if err != nil {
			return
		}
		for _, cut := range at {
			if _, err := borders(content[cut:], func() int { return 1 << 20 }); err != nil {
				t.Errorf("cut at %d: %v", cut, err)
			}
		}
	})
}
