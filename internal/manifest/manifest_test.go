package manifest

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// head and ranges are what stands around the files in a manifest of PostgreSQL 17.
const (
	head = `{ "PostgreSQL-Backup-Manifest-Version": 2,
"System-Identifier": 7411122233344455566,
"Files": [
`
	ranges = `
],
"WAL-Ranges": [
{ "Timeline": 2, "Start-LSN": "0/3000060", "End-LSN": "0/3000158" },
{ "Timeline": 1, "Start-LSN": "0/2000028", "End-LSN": "0/3000060" }
],
`
)

// file is the line of a file as a server writes it.
func file(path, content string, a Algorithm) string {
	line := fmt.Sprintf(`{ "Path": "%s", "Size": %d, "Last-Modified": "2026-11-22 07:30:00 GMT"`, path, len(content))
	if a != None {
		line += fmt.Sprintf(`, "Checksum-Algorithm": "%s", "Checksum": "%x"`, a, a.of([]byte(content)))
	}
	return line + " }"
}

// signed puts the last line behind a manifest.
func signed(text string) string {
	return text + fmt.Sprintf("\"Manifest-Checksum\": \"%x\"}\n", sha256.Sum256([]byte(text)))
}

func made(files ...string) string {
	return signed(head + strings.Join(files, ",\n") + ranges)
}

func read(text string) (*Manifest, error) { return Read(strings.NewReader(text), nil) }

func TestRead(t *testing.T) {
	text := made(
		file("base/1/112", "hello", CRC32C),
		file("PG_VERSION", "15\n", SHA256),
		`{ "Encoded-Path": "61ff62", "Size": 0, "Last-Modified": "2026-11-22 07:30:00 GMT" }`,
		file("pg_tblspc/16384/PG_15_202209061/5/a b\\u00e4", "x", SHA512),
	)
	m, err := Read(iotest.OneByteReader(strings.NewReader(text)), nil)
	if err != nil {
		t.Fatal(err)
	}
	if m.Version != 2 || m.SystemID != 7411122233344455566 || m.Len() != 4 || m.Size() != 9 {
		t.Errorf("%+v", m)
	}
	want := []Range{{2, 0x3000060, 0x3000158}, {1, 0x2000028, 0x3000060}}
	if !slices.Equal(m.Ranges, want) {
		t.Errorf("ranges %+v, want %+v", m.Ranges, want)
	}
	var paths []string
	for i := range m.Len() {
		f := m.At(i)
		paths = append(paths, f.Path)
		if again, ok := m.Find(f.Path); !ok || again.Index != f.Index || again.Size != f.Size {
			t.Errorf("%q is listed and not found: %+v", f.Path, again)
		}
	}
	if want := []string{"PG_VERSION", "a\xffb", "base/1/112", "pg_tblspc/16384/PG_15_202209061/5/a bä"}; !slices.Equal(paths, want) {
		t.Errorf("%q, want %q", paths, want)
	}
	for _, strange := range []string{"", "base/1/11", "base/1/1123", "zzz", "a\xfeb"} {
		if f, ok := m.Find(strange); ok {
			t.Errorf("%q: %+v", strange, f)
		}
	}
	if f, _ := m.Find("base/1/112"); fmt.Sprintf("%x", f.Sum) != "4cbb719a" {
		t.Errorf("the CRC-32C of hello is %x; everywhere else it is written 9a71bb4c", f.Sum)
	}
}

func TestChecker(t *testing.T) {
	for _, a := range []Algorithm{None, CRC32C, SHA224, SHA256, SHA384, SHA512} {
		m, err := read(made(file("f", "some content", a)))
		if err != nil {
			t.Fatal(a, err)
		}
		check := func(content string) string {
			c := m.At(0).NewChecker()
			for _, b := range []byte(content) {
				_, _ = c.Write([]byte{b})
			}
			return c.Mismatch()
		}
		if wrong := check("some content"); wrong != "" {
			t.Errorf("%s: %s", a, wrong)
		}
		if wrong := check("some kontent"); (wrong == "") != (a == None) {
			t.Errorf("%s: a byte is another one: %q", a, wrong)
		}
		if check("some conten") == "" || check("some content.") == "" {
			t.Errorf("%s: another size goes unnoticed", a)
		}
		m.Replace(m.At(0), []byte("other"))
		if wrong := check("other"); wrong != "" {
			t.Errorf("%s: replaced: %s", a, wrong)
		}
	}
}

func TestVersion1(t *testing.T) {
	text := signed("{ \"PostgreSQL-Backup-Manifest-Version\": 1,\n\"Files\": [" + ranges)
	if m, err := read(text); err != nil || m.Version != 1 || m.SystemID != 0 || m.Len() != 0 {
		t.Errorf("%+v, %v", m, err)
	}
}

// TestEveryByteCounts changes each bit of a manifest, and cuts it everywhere.
func TestEveryByteCounts(t *testing.T) {
	sound := []byte(made(file("PG_VERSION", "15\n", CRC32C), file("base/1/112", "hello", SHA224)))
	if _, err := Read(bytes.NewReader(sound), nil); err != nil {
		t.Fatal(err)
	}
	last := bytes.LastIndexByte(sound[:len(sound)-1], '\n') + 1
	var damaged *DamagedError
	for i := range sound {
		for bit := range 8 {
			text := bytes.Clone(sound)
			text[i] ^= 1 << bit
			_, err := Read(bytes.NewReader(text), nil)
			// Of the last line only white space may be other white space.
			if harmless := i >= last && strings.ContainsRune(" \n\t\r", rune(sound[i])); !harmless && !errors.As(err, &damaged) {
				t.Fatalf("bit %d of byte %d changes, and the error is %v", bit, i, err)
			}
		}
		if _, err := Read(bytes.NewReader(sound[:i]), nil); !errors.As(err, &damaged) {
			t.Fatalf("cut at %d, and the error is %v", i, err)
		}
	}
}

func TestReadRefuses(t *testing.T) {
	good := file("f", "x", CRC32C)
	entry := func(fields string) string { return made(`{ ` + fields + `, "Last-Modified": "x" }`) }
	tests := []struct{ text, want string }{
		{"", "EOF"},
		{"[]\n", "where a { belongs"},
		{signed("{\"Files\": [],\n"), "not where it belongs"},
		{signed("{\"PostgreSQL-Backup-Manifest-Version\": 3,\n"), "version 3 is unknown"},
		{signed("{\"PostgreSQL-Backup-Manifest-Version\": 2,\n\"Files\": []" + ranges[2:]), "there is no System-Identifier"},
		{signed("{\"PostgreSQL-Backup-Manifest-Version\": 1,\n\"Files\": [],\n"), "there is no WAL-Ranges"},
		{signed("{\"PostgreSQL-Backup-Manifest-Version\": 1,\n\"Extra\": 1,\n"), "unknown"},
		{made(good, good), "twice"},
		{made(file("/etc/passwd", "", None)), "not the path"},
		{made(file("../x", "", None)), "not the path"},
		{made(file("a//b", "", None)), "not the path"},
		{made(file("a/./b", "", None)), "not the path"},
		{made(file(`a\u0000b`, "", None)), "not the path"},
		{made(file("", "", None)), "not the path"},
		{entry(`"Encoded-Path": "2e2e2f78", "Size": 1`), "not the path"},
		{entry(`"Encoded-Path": "6g", "Size": 1`), "invalid byte"},
		{entry(`"Path": "a", "Encoded-Path": "61", "Size": 1`), "no path, or two"},
		{entry(`"Size": 1`), "no path, or two"},
		{entry(`"Path": "a"`), "no size"},
		{entry(`"Path": "a", "Size": -1`), "no size"},
		{entry(`"Path": "a", "Size": 1, "Checksum": "00000000"`), "half a checksum"},
		{entry(`"Path": "a", "Size": 1, "Checksum-Algorithm": "MD5", "Checksum": "00"`), "unknown kind"},
		{entry(`"Path": "a", "Size": 1, "Checksum-Algorithm": "CRC32C", "Checksum": "0000"`), "is no CRC32C"},
		{made(good) + "x\n", "stands behind"},
		{strings.TrimSuffix(made(good), "\n"), "no end"},
		{made(good) + "\n", "not in its last line"},
		{entry(`"Path": "a", "Size": 1, "Y": "` + strings.Repeat("n", maxLine) + `"`), "a line of more than"},
	}
	for _, tt := range tests {
		_, err := read(tt.text)
		var damaged *DamagedError
		if !errors.As(err, &damaged) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%.200s\n%v, want %q", tt.text, err, tt.want)
		}
	}
}

// TestReaderFails looks that what the store or the disk fails with is not taken
// for damage.
func TestReaderFails(t *testing.T) {
	text := made(file("f", "x", CRC32C))
	broken := errors.New("broken")
	for i := range text {
		_, err := Read(io.MultiReader(strings.NewReader(text[:i]), iotest.ErrReader(broken)), nil)
		if err != broken {
			t.Fatalf("after %d bytes: %v", i, err)
		}
	}
	if _, err := Read(strings.NewReader(text), &Copy{W: failingWriter{broken}}); err != broken {
		t.Errorf("the copy fails: %v", err)
	}
	if _, err := Read(strings.NewReader(text), &Copy{W: &lateWriter{text: text, err: broken}}); err != broken {
		t.Errorf("the last line of the copy fails: %v", err)
	}
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

// lateWriter fails with the last line of a text.
type lateWriter struct {
	text string
	err  error
}

func (w *lateWriter) Write(p []byte) (int, error) {
	if strings.HasPrefix(string(p), `"Manifest-Checksum"`) {
		return 0, w.err
	}
	return len(p), nil
}

func TestCopy(t *testing.T) {
	files := func(mapContent string) []string {
		return []string{
			file("backup_label", "tablespace_map", CRC32C), file("tablespace_map", mapContent, CRC32C), file("base/tablespace_map", "b", None),
		}
	}
	before, after := made(files("16384 /old\n")...), made(files("16384 /a new place\n")...)
	for _, tt := range []struct{ name, path, want string }{
		{"as it is", "", before},
		{"another file", "tablespace_map", after},
		{"one that is not listed", "map", before},
	} {
		var out bytes.Buffer
		_, err := Read(iotest.HalfReader(strings.NewReader(before)), &Copy{W: &out, Path: tt.path, Content: []byte("16384 /a new place\n")})
		if err != nil || out.String() != tt.want {
			t.Errorf("%s: %v\n%s\nwant\n%s", tt.name, err, out.String(), tt.want)
		}
		if _, err := read(out.String()); err != nil {
			t.Errorf("%s: the copy is not sound: %v", tt.name, err)
		}
	}
}

// TestMemory holds the parser to what it says it takes.
func TestMemory(t *testing.T) {
	const files = 20000
	var lines []string
	for i := range files {
		lines = append(lines, file(fmt.Sprintf("base/16384/%07d", i), "", CRC32C))
	}
	m, err := read(made(lines...))
	if err != nil {
		t.Fatal(err)
	}
	bytes := cap(m.names) + cap(m.sums) + 24*cap(m.entries)
	if per := bytes / files; per > 80 {
		t.Errorf("%d bytes a file", per)
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(made(file("PG_VERSION", "15\n", CRC32C), file("a", "", None))), true)
	f.Add([]byte(signed("{ \"PostgreSQL-Backup-Manifest-Version\": 1,\n\"Files\": ["+ranges)), false)
	f.Add([]byte(head+file("a", "x", SHA384)+ranges), true)
	f.Fuzz(func(t *testing.T, data []byte, sign bool) {
		if sign {
			data = []byte(signed(string(data)))
		}
		var out bytes.Buffer
		m, err := Read(bytes.NewReader(data), &Copy{W: &out, Path: "a", Content: []byte("other")})
		if err != nil {
			return
		}
		again, err := Read(&out, nil)
		if err != nil || again.Len() != m.Len() {
			t.Fatalf("the copy of what is sound: %v", err)
		}
		for i := range m.Len() {
			f := m.At(i)
			if !ValidPath(f.Path) || f.Size < 0 || len(f.Sum) != f.Algorithm.Size() {
				t.Errorf("%+v", f)
			}
		}
	})
}
