package lint

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// module is the path of this module.
const module = "github.com/walrecv/walrecv"

// source is one Go file of the tree.
type source struct {
	path    string // from the root of the module, with slashes
	text    string
	tokens  *token.FileSet
	file    *ast.File
	imports map[string]string // name in the file -> import path

	// virtual: the tests of this package run with synctest, where time passes
	// without anybody waiting for it.
	virtual bool
}

// pkg returns the directory of the file, from the root of the module.
func (s *source) pkg() string { return path.Dir(s.path) }

func (s *source) isTest() bool { return strings.HasSuffix(s.path, "_test.go") }

// at names a place in the file as compilers do.
func (s *source) at(pos token.Pos) string {
	return s.path + ":" + strconv.Itoa(s.tokens.Position(pos).Line)
}

// parse reads a file. Its packages are called by the last element of their
// path, unless the import says otherwise.
func parse(t *testing.T, name, text string) *source {
	t.Helper()
	s := &source{path: name, text: text, tokens: token.NewFileSet(), imports: map[string]string{}}
	var err error
	s.file, err = parser.ParseFile(s.tokens, name, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	for _, spec := range s.file.Imports {
		from, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		local := path.Base(from)
		if spec.Name != nil {
			local = spec.Name.Name
		}
		s.imports[local] = from
	}
	_, s.virtual = s.imports["synctest"]
	return s
}

// tree reads all Go files of the module.
func tree(t *testing.T) []*source {
	t.Helper()
	root := moduleRoot(t)
	var all []*source
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		switch {
		case entry.IsDir() && (rel == "build" || rel != "." && strings.HasPrefix(entry.Name(), ".")):
			return fs.SkipDir
		case entry.IsDir() || filepath.Ext(rel) != ".go":
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		all = append(all, parse(t, filepath.ToSlash(rel), string(text)))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 10 {
		t.Fatalf("only %d files found below %s", len(all), root)
	}
	virtual := map[string]bool{}
	for _, s := range all {
		virtual[s.pkg()] = virtual[s.pkg()] || s.virtual
	}
	for _, s := range all {
		s.virtual = virtual[s.pkg()] && s.isTest()
	}
	return all
}

func moduleRoot(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(root, "go.mod")); err != nil {
		t.Fatal(err)
	}
	return root
}

// rule looks at one file and returns what is wrong with it, each with its place.
type rule func(*source) []string

// checkTree applies a rule to every file of the module.
func checkTree(t *testing.T, r rule) {
	t.Helper()
	for _, s := range tree(t) {
		for _, fault := range r(s) {
			t.Error(fault)
		}
	}
}

// sample is a file made up to show what a rule finds.
type sample struct {
	path  string
	body  string // what follows the package clause
	fault string // part of the fault it must give; "" for none
}

func checkSamples(t *testing.T, r rule, samples []sample) {
	t.Helper()
	for _, sample := range samples {
		faults := r(parse(t, sample.path, "package p\n\n"+sample.body))
		found := strings.Join(faults, "; ")
		switch {
		case sample.fault == "" && found != "":
			t.Errorf("%s: %s\nfound: %s, want nothing", sample.path, sample.body, found)
		case !strings.Contains(found, sample.fault):
			t.Errorf("%s: %s\nfound: %q, want %q", sample.path, sample.body, found, sample.fault)
		}
	}
}
