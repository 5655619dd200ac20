package vfs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// durable are the packages whose files must survive a crash: they touch the
// disk through this package only.
var durable = []string{"segment", "storage/local", "internal/archive", "internal/restore"}

// writers are the functions of package os that change a directory or a file.
var writers = []string{
	"Create", "OpenFile", "WriteFile", "Remove", "RemoveAll", "Truncate", "Mkdir", "MkdirAll",
}

// TestDoors reads every Go file of the module that is not a test, to see that
// nothing but this package renames or links a file.
func TestDoors(t *testing.T) {
	root := moduleRoot(t)
	files := 0
	check(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel := filepath.ToSlash(must(filepath.Rel(root, path))(t))
		if d.IsDir() && (rel == "internal/vfs" || d.Name() == "testdata" || rel != "." && d.Name()[0] == '.') {
			return fs.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(rel, ".go") || strings.HasSuffix(rel, "_test.go") {
			return nil
		}
		files++
		for _, found := range doors(t, rel, string(must(os.ReadFile(path))(t))) {
			t.Error(found)
		}
		return nil
	}))
	if files == 0 {
		t.Error("no files were read")
	}
}

// TestDoorsAreFound shows that the search finds what it is for.
func TestDoorsAreFound(t *testing.T) {
	for line, want := range map[string]int{
		`os.Rename("a", "b")`:         1,
		`os.Link("a", "b")`:           1,
		`f := os.Rename; f("", "")`:   1,
		`fsys.Rename("a", "b")`:       1,
		`s.fsys.Link("a", "b")`:       1,
		`vfs.Rename(fsys, f, "", "")`: 0,
		`vfs.LinkKeep(fsys, f, "")`:   0,
		`_ = n.(*ast.Link)`:           0,
		`os.Create("a")`:              1,
		`os.Open("a")`:                0,
	} {
		source := "package p\nfunc f() { " + line + " }"
		if got := doors(t, "segment/a.go", source); len(got) != want {
			t.Errorf("%s: found %q", line, got)
		}
	}
	if got := doors(t, "cmd/walrecv/a.go", `package p; func f() { os.Create("a") }`); len(got) != 0 {
		t.Errorf("found %q in a package that may", got)
	}
}

// doors returns the places of a file that go past this package.
func doors(t *testing.T, rel, source string) (found []string) {
	t.Helper()
	files := token.NewFileSet()
	file := must(parser.ParseFile(files, rel, source, parser.SkipObjectResolution))(t)
	inDurable := slices.ContainsFunc(durable, func(p string) bool { return strings.HasPrefix(rel, p+"/") })
	ast.Inspect(file, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		from := ""
		if x, ok := sel.X.(*ast.Ident); ok {
			from = x.Name
		}
		// A link of a text (ast.Link) is none of a file.
		publishes := from != "vfs" && from != "ast" && (sel.Sel.Name == "Rename" || sel.Sel.Name == "Link")
		if publishes || inDurable && from == "os" && slices.Contains(writers, sel.Sel.Name) {
			found = append(found, files.Position(sel.Pos()).String()+": "+from+"."+sel.Sel.Name+" goes past internal/vfs")
		}
		return true
	})
	return found
}

func moduleRoot(t *testing.T) string {
	t.Helper()
	dir := must(os.Getwd())(t)
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("no go.mod above the package")
		}
		dir = filepath.Dir(dir)
	}
}
