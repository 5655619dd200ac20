package lint

import (
	"fmt"
	"go/ast"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// maxLines is how long a file may get before it has to become two.
const maxLines = 700

// lengthRule finds files that nobody reads to their end.
func lengthRule(s *source) []string {
	if n := strings.Count(s.text, "\n"); n > maxLines {
		return []string{fmt.Sprintf("%s: %d lines, more than %d", s.path, n, maxLines)}
	}
	return nil
}

// skips are the methods that turn a test into one that cannot fail.
var skips = []string{"Skip", "Skipf", "SkipNow"}

// waitRule finds tests that do not run, and waits that only hope: a sleep is too
// short on a busy machine and too long on every other. In a loop of a test it is
// the pause between two looks, and under synctest it takes no time: both are fine.
func waitRule(s *source) (faults []string) {
	var loops []ast.Node
	ast.Inspect(s.file, func(n ast.Node) bool {
		if loop, ok := n.(*ast.ForStmt); ok && s.isTest() {
			loops = append(loops, loop)
		}
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		sel, ok := call.Fun.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		from := ""
		if x, ok := sel.X.(*ast.Ident); ok {
			from = s.imports[x.Name]
		}
		if s.isTest() && from == "" && slices.Contains(skips, sel.Sel.Name) {
			faults = append(faults, s.at(n.Pos())+": a test is not skipped; make it able to run or take it away")
		}
		looping := slices.ContainsFunc(loops, func(loop ast.Node) bool { return loop.Pos() < n.Pos() && n.End() <= loop.End() })
		if from == "time" && sel.Sel.Name == "Sleep" && !looping && !s.virtual {
			faults = append(faults, s.at(n.Pos())+": wait for what has to happen, not for some time")
		}
		return true
	})
	return faults
}

// serverRule finds tests of the integration suite that have a server of their own
// choice: they would be the same test whatever majors the suite is run for.
func serverRule(s *source) (faults []string) {
	if !s.isTest() || s.pkg() != "integration" {
		return nil
	}
	ast.Inspect(s.file, func(n ast.Node) bool {
		var major ast.Expr
		switch n := n.(type) {
		case *ast.KeyValueExpr: // pgtest.Options{Major: 15}
			if key, ok := n.Key.(*ast.Ident); ok && key.Name == "Major" {
				major = n.Value
			}
		case *ast.CallExpr: // small(t, 15)
			if len(n.Args) > 1 {
				if t, ok := n.Args[0].(*ast.Ident); ok && t.Name == "t" {
					major = n.Args[1]
				}
			}
		}
		if number, ok := major.(*ast.BasicLit); ok && slices.Contains(majors, number.Value) {
			faults = append(faults, s.at(n.Pos())+": take pgtest.Version, or one of pgtest.Versions")
		}
		return true
	})
	return faults
}

// majors are the PostgreSQL versions that tests are run for.
var majors = []string{"13", "14", "15", "16", "17", "18"}

// startRule finds regular expressions that are compiled at the start. PostgreSQL
// starts the program for every segment that it restores, whatever else it can do.
func startRule(s *source) (faults []string) {
	if s.isTest() || slices.Contains(support, s.pkg()) {
		return nil
	}
	for _, decl := range s.file.Decls {
		vars, ok := decl.(*ast.GenDecl)
		if !ok {
			continue
		}
		ast.Inspect(vars, func(n ast.Node) bool {
			if _, later := n.(*ast.FuncLit); later {
				return false
			}
			if sel, ok := n.(*ast.SelectorExpr); ok && sel.Sel.Name == "MustCompile" {
				faults = append(faults, s.at(n.Pos())+": compile this when it is needed, not at every start")
			}
			return true
		})
	}
	return faults
}

// The words are put together here so that this file does not hold them.
var (
	loose = regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X)\b`)
	terms = regexp.MustCompile(`(?i)(post|_attrs=)?mas` + `ter|sla` + `ve`)
)

// wordRule finds loose ends in comments, and words for which PostgreSQL has
// better ones (primary and standby), anywhere.
func wordRule(s *source) (faults []string) {
	for _, group := range s.file.Comments {
		for _, comment := range group.List {
			if word := loose.FindString(comment.Text); word != "" {
				faults = append(faults, s.at(comment.Pos())+": "+word+": finish it, or write an issue")
			}
		}
	}
	for i, line := range strings.Split(s.text, "\n") {
		if word := terms.FindString(line); word != "" && !theirs(word) {
			faults = append(faults, fmt.Sprintf("%s:%d: %s: PostgreSQL says primary and standby", s.path, i+1, word))
		}
	}
	return faults
}

// theirs tells whether a word is PostgreSQL's own after all: the name of its
// first process, or a value that target_session_attrs does not have.
func theirs(word string) bool {
	word = strings.ToLower(word)
	return strings.HasPrefix(word, "post") || strings.HasPrefix(word, "_attrs=")
}

func TestFilesAreShort(t *testing.T)        { checkTree(t, lengthRule) }
func TestTestsRunAndDoNotHope(t *testing.T) { checkTree(t, waitRule) }
func TestWords(t *testing.T)                { checkTree(t, wordRule) }
func TestServersAreAskedFor(t *testing.T)   { checkTree(t, serverRule) }
func TestStartsAreShort(t *testing.T)       { checkTree(t, startRule) }

func TestHabitRulesFind(t *testing.T) {
	checkSamples(t, lengthRule, []sample{
		{"segment/a.go", strings.Repeat("\n", maxLines-2), ""},
		{"segment/a.go", strings.Repeat("\n", maxLines-1), "701 lines"},
	})
	checkSamples(t, waitRule, []sample{
		{"segment/a_test.go", `func TestX(t *testing.T) { t.Skip("not today") }`, "not skipped"},
		{"segment/a_test.go", `func FuzzX(f *testing.F) { f.Fuzz(func(t *testing.T) { t.SkipNow() }) }`, "not skipped"},
		{"segment/a_test.go", `func f() { scanner.Scan() }`, ""},
		{"segment/a_test.go", "import \"time\"\nfunc f() { time.Sleep(1) }", "not for some time"},
		{"segment/a_test.go", "import \"time\"\nfunc f() { for !done() { time.Sleep(1) } }", ""},
		{"segment/a_test.go", "import \"time\"\nfunc f() { for !done() {}; time.Sleep(1) }", "not for some time"},
		{"segment/a.go", "import \"time\"\nfunc f() { for !done() { time.Sleep(1) } }", "not for some time"},
		{"segment/a_test.go", "import (\"testing/synctest\"; \"time\")\nfunc f() { time.Sleep(1) }", ""},
		{"segment/a_test.go", "import \"x/fake\"\nfunc f() { fake.Skip() }", ""},
		{"segment/a.go", "import clock \"time\"\nfunc f() { clock.Sleep(1) }", "not for some time"},
		{"segment/a.go", "import \"time\"\nfunc f() { time.Now() }", ""},
	})
	checkSamples(t, serverRule, []sample{
		{"integration/a_test.go", "func f() { small(t, 15, nil) }", "take pgtest.Version"},
		{"integration/a_test.go", "var x = pgtest.Options{Major: 18}", "take pgtest.Version"},
		{"integration/a_test.go", "func f() { small(t, pgtest.Version(t), nil); rows(t, 19); fill(c, 15) }", ""},
		{"integration/a_test.go", "var x = []any{pgtest.Options{Major: major}, thing{Size: 15}}", ""},
		{"internal/drill/a_test.go", "var x = pgtest.Options{Major: 15}", ""},
	})
	checkSamples(t, startRule, []sample{
		{"segment/a.go", "var x = regexp.MustCompile(`a`)", "not at every start"},
		{"segment/a.go", "var x = f(func() any { return regexp.MustCompile(`a`) })", ""},
		{"segment/a.go", "func f() { regexp.MustCompile(`a`) }", ""},
		{"internal/pgtest/a.go", "var x = regexp.MustCompile(`a`)", ""},
	})
	checkSamples(t, wordRule, []sample{
		{"segment/a.go", "// TO" + "DO later", "finish it"},
		{"segment/a.go", "/* FIX" + "ME */", "finish it"},
		{"segment/a.go", "// toddler", ""},
		{"segment/a.go", `const s = "the mas` + `ter's voice"`, "primary"},
		{"segment/a.go", `var sla` + `veLag int`, "primary"},
		{"segment/a.go", `var standbyLag int`, ""},
		{"segment/a.go", `const pidFile = "postmas` + `ter.pid"`, ""},
	})
}
