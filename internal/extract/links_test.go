package extract

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/walrecv/walrecv/internal/backup"
	"github.com/walrecv/walrecv/internal/manifest"
)

func TestMapping(t *testing.T) {
	w := newWorld(t)
	from, stays := w.backup.Tablespaces[0].Location, w.backup.Tablespaces[1].Location
	to := filepath.Join(w.outer, "néw", "back\\slash\nand line")
	result, err := w.run(Options{Mapping: map[string]string{from: to}, Reread: true})
	if err != nil {
		t.Fatal(err)
	}
	w.expect(to, spaceTree("16386", "in a"))
	w.expect(stays, spaceTree("16387", "in b"))
	if want := map[uint32]string{16384: to, 16385: stays}; !reflect.DeepEqual(result.Tablespaces, want) {
		t.Errorf("%v", result.Tablespaces)
	}
	want := w.wanted(false)
	want["pg_tblspc/16384"] = "-> " + to
	want["tablespace_map"] = fmt.Sprintf("-rw------- 16384 %s\n16385 %s\n", strings.NewReplacer("\\", "\\\\", "\n", "\\\n").Replace(to), stays)
	content := strings.TrimPrefix(want["tablespace_map"], "-rw------- ")
	var edited strings.Builder
	_, err = manifest.Read(strings.NewReader(string(w.shelf.files["backup_manifest.zst"])),
		&manifest.Copy{W: &edited, Path: "tablespace_map", Content: []byte(content)})
	if err != nil {
		t.Fatal(err)
	}
	want["backup_manifest"] = "-rw------- " + edited.String()
	w.expect(w.dir, want)
}

func TestMappingRefused(t *testing.T) {
	w := newWorld(t)
	a, b := w.backup.Tablespaces[0].Location, w.backup.Tablespaces[1].Location
	var mapping *MappingError
	for old, want := range map[string]string{"/elsewhere": a + ", " + b, a + "/": a} {
		if _, err := w.run(Options{Mapping: map[string]string{old: "/x"}}); !errors.As(err, &mapping) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", old, err)
		}
	}
	for name, m := range map[string]map[string]string{
		"two in one":              {a: b},
		"in the data directory's": {a: w.dir},
	} {
		if _, err := w.run(Options{Mapping: m}); err == nil || !strings.Contains(err.Error(), "one directory") {
			t.Errorf("%s: %v", name, err)
		}
		w.expect(w.outer, map[string]string{".": mode(t, w.outer)})
	}
	// By another name, that is.
	if err := os.Symlink(w.outer, filepath.Join(w.outer, "same")); err != nil {
		t.Fatal(err)
	}
	if _, err := w.run(Options{Mapping: map[string]string{a: filepath.Join(w.outer, "same", filepath.Base(b))}}); err == nil || !strings.Contains(err.Error(), "one directory") {
		t.Error(err)
	}
	w.backup.Tablespaces = w.backup.Tablespaces[2:]
	if _, err := w.run(Options{Mapping: map[string]string{a: "/x"}}); !errors.As(err, &mapping) || !strings.Contains(err.Error(), "has none") {
		t.Error(err)
	}
}

// TestApart: no directory may lie in another one, nor in the archive's.
func TestApart(t *testing.T) {
	w := newWorld(t)
	a, b := w.backup.Tablespaces[0].Location, w.backup.Tablespaces[1].Location
	link := filepath.Join(w.outer, "link")
	if err := errors.Join(os.Symlink(w.outer, link), os.Mkdir(filepath.Join(w.outer, "archive"), 0o700)); err != nil {
		t.Fatal(err)
	}
	before := tree(t, w.outer)
	for name, c := range map[string]struct {
		options Options
		want    string
	}{
		"in the data directory":             {Options{Mapping: map[string]string{a: filepath.Join(w.dir, "my", "space")}}, "one lies in the other"},
		"in the data directory, by a link":  {Options{Mapping: map[string]string{a: filepath.Join(link, "data", "x")}}, "one lies in the other"},
		"in another tablespace":             {Options{Mapping: map[string]string{a: filepath.Join(b, "sub")}}, "one lies in the other"},
		"around another tablespace":         {Options{Mapping: map[string]string{a: filepath.Dir(b)}}, "one lies in the other"},
		"the data directory in the archive": {Options{Apart: []string{w.outer}}, "lies in the archive"},
		"the archive":                       {Options{Apart: []string{w.dir}}, "lies in the archive"},
		"a tablespace in the archive":       {Options{Apart: []string{filepath.Join(link, "archive")}, Mapping: map[string]string{a: filepath.Join(w.outer, "archive", "x")}}, "lies in the archive"},
	} {
		c.options.Dir = w.dir
		var place *PlaceError
		if err := Check(w.backup, c.options); !errors.As(err, &place) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: checked: %v", name, err)
		}
		if _, err := w.run(c.options); !errors.As(err, &place) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	w.expect(w.outer, before)
	beside := Options{Dir: w.dir, Apart: []string{w.dir + "2", filepath.Join(w.outer, "archive")}, Mapping: map[string]string{a: w.dir + "3"}}
	if err := Check(w.backup, beside); err != nil {
		t.Error(err)
	}
	w.expect(w.outer, before)
}

// TestInPlace: tablespaces of allow_in_place_tablespaces are directories.
func TestInPlace(t *testing.T) {
	w := newWorld(t)
	w.backup.Tablespaces[0].Location = "pg_tblspc/16384"
	w.tars[0][1].content = fmt.Sprintf("16385 %s\n", w.backup.Tablespaces[1].Location)
	if _, err := w.run(Options{Reread: true, Mapping: map[string]string{"pg_tblspc/16384": "/x"}}); err != nil {
		t.Fatal(err)
	}
	want := w.wanted(false)
	for name, what := range spaceTree("16386", "in a") {
		want[filepath.Join("pg_tblspc/16384", name)] = what
	}
	w.expect(w.dir, want)

	w = newWorld(t)
	w.backup.Tablespaces[0].Location = "pg_tblspc/../.."
	if _, err := w.run(Options{}); err == nil || !strings.Contains(err.Error(), "is at") {
		t.Error(err)
	}
}

func TestMapMustAgree(t *testing.T) {
	for _, content := range []string{"", "16384 /x\n", "16384 /x", "x y\n", "16384\n", "16384 \n", "16384 /x\n16384 /x\n", "16384 /x\\"} {
		w := newWorld(t)
		w.tars[0][1].content = content
		_, err := w.run(Options{})
		var damaged *DamagedError
		if !errors.As(err, &damaged) || !strings.Contains(err.Error(), "tablespace_map") {
			t.Errorf("%q: %v", content, err)
		}
	}
}

func FuzzParseMap(f *testing.F) {
	f.Add("/a b\\c\nd\re", uint32(16384))
	f.Add(" ", uint32(1))
	f.Fuzz(func(t *testing.T, place string, oid uint32) {
		_, _ = parseMap([]byte(place))
		if place == "" {
			return
		}
		s := &space{oid: oid, path: place, tablespace: backup.Tablespace{OID: oid, Location: place}}
		x := &extraction{spaces: []*space{{}, s}}
		got, err := parseMap(x.mapContent())
		if err != nil || len(got) != 1 || got[oid] != place {
			t.Errorf("%q is read as %v, %v", place, got, err)
		}
	})
}
