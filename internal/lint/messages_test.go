package lint

import (
	"go/ast"
	"go/token"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"github.com/walrecv/walrecv/internal/docs"
)

// messagePage is where every message stands that wants something from an operator.
const messagePage = "docs/errors.md"

// refusals are what errors with an exit code of their own are made with, or wrap.
var refusals = []string{
	"ErrBranch", "ErrWrongCluster", "ErrHistoryConflict", "exitWrong", "exitGap", "exitUnsound",
	"misconfigured", "damaged", "hole", "noIdentity", "locked", "unknown", "withheld",
}

// refusalTypes are errors with an exit code of their own that word themselves.
var refusalTypes = []string{"GapError", "ConflictError", "FormatError", "WrongClusterError", "lostError"}

// tellers are the functions that log at WARN and ERROR, or hand it on to those.
var tellers = []string{"Warn", "Error", "tell", "log", "warnOnce"}

// messages are what a file tells an operator at WARN and ERROR, and with what it
// refuses: with exit codes 3, 4, 5, 200, 201 and 202. What differs from case to case
// is "...". An error with 1 or 2 is one of hundreds, and says itself what to do.
func messages(s *source) (found []string) {
	if s.isTest() || slices.Contains(support, s.pkg()) {
		return nil
	}
	note := func(e ast.Expr) {
		// What only puts together what others say can have no row.
		if text := literal(e); len(strings.FieldsFunc(text, func(r rune) bool { return !unicode.IsLetter(r) })) > 1 {
			found = append(found, text)
		}
	}
	for _, decl := range s.file.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			if d.Body == nil {
				continue
			}
			wordsItself := d.Name.Name == "Error" && d.Recv != nil && slices.Contains(refusalTypes, typeName(d.Recv.List[0].Type))
			ast.Inspect(d.Body, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.CallExpr:
					if slices.Contains(tellers, callee(n)) && !s.answers(n) {
						if i := slices.IndexFunc(n.Args, func(e ast.Expr) bool { return literal(e) != "" }); i >= 0 {
							note(n.Args[i])
						}
					}
					if (callee(n) == "Errorf" || callee(n) == "problemf") && slices.ContainsFunc(n.Args, refuses) {
						note(n.Args[slices.IndexFunc(n.Args, func(e ast.Expr) bool { return literal(e) != "" })])
					}
					if wordsItself && callee(n) == "Sprintf" {
						note(n.Args[0])
					}
				case *ast.AssignStmt: // log, what := r.log.Warn, "..."
					if logger, ok := n.Rhs[0].(*ast.SelectorExpr); ok && len(n.Rhs) == 2 && slices.Contains(tellers, logger.Sel.Name) {
						note(n.Rhs[1])
					}
				case *ast.ReturnStmt:
					if wordsItself {
						note(n.Results[0])
					}
				case *ast.CompositeLit:
					if len(n.Elts) == 2 && refuses(n.Elts[0]) {
						if call, ok := n.Elts[1].(*ast.CallExpr); ok {
							note(call.Args[0])
						}
					}
				}
				return true
			})
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				if v, ok := spec.(*ast.ValueSpec); ok && len(v.Values) == 1 && refuses(v.Names[0]) {
					if call, ok := v.Values[0].(*ast.CallExpr); ok {
						note(call.Args[0])
					}
				}
			}
		}
	}
	return found
}

// answers tells whether a call is http.Error, which speaks to a client.
func (s *source) answers(call *ast.CallExpr) bool {
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	x, ok := sel.X.(*ast.Ident)
	return ok && s.imports[x.Name] == "net/http"
}

func refuses(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.Ident:
		return slices.Contains(refusals, e.Name)
	case *ast.SelectorExpr:
		return slices.Contains(refusals, e.Sel.Name)
	}
	return false
}

func callee(call *ast.CallExpr) string {
	switch f := call.Fun.(type) {
	case *ast.Ident:
		return f.Name
	case *ast.SelectorExpr:
		return f.Sel.Name
	}
	return ""
}

func typeName(e ast.Expr) string {
	if star, ok := e.(*ast.StarExpr); ok {
		e = star.X
	}
	if id, ok := e.(*ast.Ident); ok {
		return id.Name
	}
	return ""
}

var verb = regexp.MustCompile(`%[+#.\d]*[a-zA-Z]`)

// literal is a text of the source, pieces that are put together included.
func literal(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		if e.Kind == token.STRING {
			text, err := strconv.Unquote(e.Value)
			if err == nil {
				return verb.ReplaceAllString(text, "...")
			}
		}
	case *ast.BinaryExpr:
		if left := literal(e.X); left != "" && e.Op == token.ADD {
			right := literal(e.Y)
			if right == "" {
				right = "..."
			}
			return left + right
		}
	}
	return ""
}

// TestEveryMessageHasARemedy compares what the program can tell an operator with the
// page about it, in both directions. A row of the page names a message by its
// beginning.
func TestEveryMessageHasARemedy(t *testing.T) {
	pages, err := docs.Pages(moduleRoot(t))
	if err != nil {
		t.Fatal(err)
	}
	var rows []string
	for _, p := range pages {
		if p.Path == messagePage {
			for _, cell := range p.FirstCells {
				rows = append(rows, strings.TrimSuffix(cell, "..."))
			}
		}
	}
	said := map[string]bool{}
	for _, s := range tree(t) {
		for _, message := range messages(s) {
			best := ""
			for _, row := range rows {
				if strings.HasPrefix(message, row) && len(row) > len(best) {
					best = row
				}
			}
			if best == "" {
				t.Errorf("%s: %s has no row that begins as this message does, with what to do: %s", s.path, messagePage, message)
				continue
			}
			said[best] = true
		}
	}
	for _, row := range rows {
		if !said[row] {
			t.Errorf("%s: nothing says this any more: %s", messagePage, row)
		}
	}
}

func TestMessagesAreFound(t *testing.T) {
	for code, want := range map[string]string{
		`func f() { x.log.Warn("the disk "+"is full", "a", 1) }`:                           "the disk is full",
		`func f() { x.log.Warn("the disk; "+advice) }`:                                     "the disk; ...",
		`func f() { k.tell(&k.told, "the disk is full", err) }`:                            "the disk is full",
		"import \"net/http\"\nfunc f() { http.Error(w, \"not for you\", 403) }":            "",
		`func f() { log, what := x.log.Warn, "the disk is full"; log(what) }`:              "the disk is full",
		`func f() { x.log.Info("the disk is empty") }`:                                     "",
		`func f() error { return fmt.Errorf("%s is gone: %w", a, segment.ErrBranch) }`:     "... is gone: ...",
		`func f() error { return fmt.Errorf("%s is gone: %w", a, err) }`:                   "",
		`func f() error { return problemf(damaged, "%s is broken", a) }`:                   "... is broken",
		`func f() error { return &codedError{exitWrong, errors.New("not in here")} }`:      "not in here",
		`func f() error { return &codedError{exitFailed, errors.New("not here")} }`:        "",
		`func (e *GapError) Error() string { return fmt.Sprintf("it lacks %s", e.What) }`:  "it lacks ...",
		`func (e *pageError) Error() string { return fmt.Sprintf("it lacks %s", e.What) }`: "",
		`var ErrBranch = errors.New("is another one")`:                                     "is another one",
	} {
		if got := strings.Join(messages(parse(t, "segment/a.go", "package p\n\n"+code)), "|"); got != want {
			t.Errorf("%s: %q, want %q", code, got, want)
		}
	}
}
