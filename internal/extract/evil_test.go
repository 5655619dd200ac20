package extract

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/walrecv/walrecv/internal/manifest"
)

// TestEvilTars: nothing is made of a tar that no server sends.
func TestEvilTars(t *testing.T) {
	link := func(name, to string) entry { return entry{name: name, typ: tar.TypeSymlink, link: to} }
	file := func(name string) entry { return entry{name: name, content: "evil", hidden: true} }
	tests := []struct {
		name    string
		entries []entry
		want    string
	}{
		{"up", []entry{file("../evil")}, "not the name"},
		{"up within", []entry{file("base/../../evil")}, "not the name"},
		{"up and down again", []entry{file("base/../evil")}, "not the name"},
		{"up at the end", []entry{{name: "base/../"}}, "not the name"},
		{"dot", []entry{{name: "./"}}, "not the name"},
		{"dot before", []entry{file("./evil")}, "not in the backup manifest"},
		{"dots before", []entry{file("././evil")}, "not the name"},
		{"dot before an absolute one", []entry{file(".//evil")}, "not the name"},
		{"dot before a link", []entry{link("./pg_tblspc/16384", "/etc")}, "in the place of a tablespace"},
		{"absolute", []entry{file("/tmp/evil")}, "not the name"},
		{"two slashes", []entry{file("base//evil")}, "not the name"},
		{"no name", []entry{{name: "/"}}, "not the name"},
		{"not listed", []entry{file("evil")}, "not in the backup manifest"},
		{"link outside", []entry{link("base/link", "/etc")}, "neither a file nor a directory"},
		{"link up", []entry{link("link", "../..")}, "neither a file nor a directory"},
		{"link to a tablespace that is not there", []entry{link("pg_tblspc/4711/", "/etc")}, "neither a file nor a directory"},
		{"link of a tablespace to elsewhere", []entry{link("pg_tblspc/16384/", "/etc")}, "in the place of a tablespace"},
		{"link below a tablespace", []entry{link("pg_tblspc/16384/x", "/etc")}, "in the place of a tablespace"},
		{"directory in the place of a tablespace", []entry{{name: "pg_tblspc/16384/"}}, "in the place of a tablespace"},
		{"file in the place of a tablespace", []entry{file("pg_tblspc/16384")}, "in the place of a tablespace"},
		{"file through a link", []entry{file("pg_tblspc/16384/PG_15_202209061/5/evil")}, "in the place of a tablespace"},
		{"listed file through a link", []entry{{name: "pg_tblspc/16384/PG_15_202209061/5/16386", content: "in a"}}, "in the place of a tablespace"},
		{"hard link", []entry{{name: "base/1/999", typ: tar.TypeLink, link: "PG_VERSION"}}, "neither a file nor a directory"},
		{"device", []entry{{name: "base/1/999", typ: tar.TypeChar}}, "neither a file nor a directory"},
		{"block device", []entry{{name: "base/1/999", typ: tar.TypeBlock}}, "neither a file nor a directory"},
		{"fifo", []entry{{name: "base/1/999", typ: tar.TypeFifo}}, "neither a file nor a directory"},
		{"twice", []entry{{name: "PG_VERSION", content: "15\n", hidden: true}}, "comes twice"},
		{"another size", []entry{{name: "PG_VERSION", content: "150\n", hidden: true}}, "4 bytes, and 3"},
		{"file for a directory", []entry{{name: "base/1/112/999", content: "x"}}, ""},
		{"directory for a file", []entry{{name: "PG_VERSION/"}}, ""},
		{"file for a directory of the data directory", []entry{{name: "base", content: "x"}}, ""},
		{"up in a long name", []entry{file(strings.Repeat("long/", 40) + "../../evil")}, "not the name"},
		{"a long name", []entry{file(strings.Repeat("long/", 40) + "evil")}, "not in the backup manifest"},
		{"large map", []entry{{name: "large"}}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.tars[0] = append(tt.entries, w.tars[0]...)
			if tt.name == "large map" {
				w.tars[0][0].name = "huge/"
				w.tars[0][2].content = strings.Repeat("1 x\n", maxSmall/4+1)
			}
			_, err := w.run(Options{})
			var damaged *DamagedError
			if err == nil || !strings.Contains(err.Error(), tt.want) || tt.want != "" && !errors.As(err, &damaged) {
				t.Errorf("%v, want %q", err, tt.want)
			}
			w.expect(w.outer, map[string]string{".": mode(t, w.outer)})
		})
	}
}

// TestBehindTheEnd: a tar in a tar that nobody would see.
func TestBehindTheEnd(t *testing.T) {
	w := newWorld(t)
	w.pack()
	w.shelf.files["base.000003.tar.zst"] = append(w.shelf.files["base.000003.tar.zst"], w.shelf.files["base.000001.tar.zst"]...)
	if _, err := w.run(Options{}); err == nil || !strings.Contains(err.Error(), "stands behind its end") {
		t.Error(err)
	}
}

// FuzzUnpack extracts anything, with a manifest that lists it. Nothing may be made
// outside, and no link.
func FuzzUnpack(f *testing.F) {
	w := newWorld(f)
	w.tars[0][7].content, w.tars[0][len(w.tars[0])-1].content = "short", "control"
	w.pack()
	for _, data := range w.shelf.files {
		f.Add(data)
	}
	var evil bytes.Buffer
	for _, e := range []entry{{name: "../x"}, {name: "a/", typ: tar.TypeSymlink, link: ".."}, {name: "a/x", content: "x"}, {name: "/x"}} {
		w.append(&evil, e)
	}
	f.Add(evil.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		w := newWorld(t)
		lines := map[string]string{}
		for r := tar.NewReader(bytes.NewReader(data)); ; {
			h, err := r.Next()
			if err != nil {
				break
			}
			content, err := io.ReadAll(io.LimitReader(r, 1<<20))
			if err == nil && manifest.ValidPath(h.Name) && !strings.ContainsAny(h.Name, "\"\\") {
				lines[h.Name] = w.line(h.Name, string(content))
			}
		}
		w.backup.Tablespaces = w.backup.Tablespaces[2:]
		w.pack()
		w.shelf.files["base.000001.tar.zst"] = data
		delete(w.shelf.files, "base.000002.tar.zst")
		w.shelf.files["backup_manifest.zst"] = w.manifest(lines)
		x := w.extraction(Options{Dir: w.dir})
		if err := errors.Join(x.plan(), x.claim()); err != nil {
			t.Fatal(err)
		}
		if err := x.readManifest(t.Context()); err != nil {
			_ = x.undo(nil)
			return
		}
		_ = x.unpackAll(t.Context())
		for name, what := range tree(t, w.outer) {
			if strings.HasPrefix(what, "->") || name != "." && name != "data" && !strings.HasPrefix(name, "data/") {
				t.Errorf("%s is %.100s", name, what)
			}
		}
		x.release()
	})
}

// TestLinksOfTheTar: a server that was not asked for tablespace_map sends the links,
// which are made, to where the tablespaces are now.
func TestLinksOfTheTar(t *testing.T) {
	w := newWorld(t)
	w.tars[0] = append(w.tars[0][2:], entry{name: "pg_tblspc/16384/", typ: tar.TypeSymlink, link: w.backup.Tablespaces[0].Location})
	moved := filepath.Join(w.outer, "moved")
	if _, err := w.run(Options{Mapping: map[string]string{w.backup.Tablespaces[0].Location: moved}}); err != nil {
		t.Fatal(err)
	}
	if to, err := os.Readlink(filepath.Join(w.dir, "pg_tblspc/16384")); err != nil || to != moved {
		t.Error(to, err)
	}
}
