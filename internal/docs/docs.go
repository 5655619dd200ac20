// Package docs reads the documentation for its tests: what stands in fences, in
// code spans and in links, and where. A fence says in its first word what it is,
// and in a second one where it belongs if a test cannot run it:
//
//	```sh            commands, run by the test
//	```sh systemd    commands for a place that a test does not have
//	```console       commands behind "$ ", and what they say
//
// Readers see neither word.
package docs

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unicode"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	table "github.com/yuin/goldmark/extension/ast"
	"github.com/yuin/goldmark/text"
)

// Page is a file of the documentation.
type Page struct {
	Path    string // from the root of the module
	Blocks  []Block
	Spans   []Span
	Links   []Span          // where they lead
	Anchors map[string]bool // of the headings

	FirstCells []string // of the rows of tables that begin with code
}

// Span is a piece of a line.
type Span struct {
	Where string // file and line
	Text  string
}

// Block is a fence.
type Block struct {
	Span
	Kind  string // the first word behind the fence; "" if there is none
	Place string // the second one
}

// Pages reads README.md and what stands in docs.
func Pages(root string) ([]Page, error) {
	paths, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil {
		return nil, err
	}
	var pages []Page
	for _, path := range append([]string{filepath.Join(root, "README.md")}, paths...) {
		source, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return nil, err
		}
		pages = append(pages, parse(name, source))
	}
	return pages, nil
}

func parse(path string, source []byte) Page {
	p := Page{Path: path, Anchors: map[string]bool{}}
	markdown := goldmark.New(goldmark.WithExtensions(extension.GFM))
	at := 0 // where the block begins that is looked at
	span := func(content string) Span {
		return Span{fmt.Sprintf("%s:%d", path, 1+bytes.Count(source[:at], []byte("\n"))), content}
	}
	// The walker returns no error of its own.
	_ = ast.Walk(markdown.Parser().Parse(text.NewReader(source)), func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			return ast.WalkContinue, nil
		}
		if n.Type() == ast.TypeBlock && n.Lines().Len() > 0 {
			at = n.Lines().At(0).Start
		}
		switch n := n.(type) {
		case *ast.Heading:
			p.Anchors[anchor(string(n.Lines().Value(source)))] = true
		case *ast.FencedCodeBlock:
			b := Block{Span: span(string(n.Lines().Value(source)))}
			if n.Info != nil {
				b.Kind, b.Place, _ = strings.Cut(string(n.Info.Segment.Value(source)), " ")
			}
			p.Blocks = append(p.Blocks, b)
		case *ast.CodeBlock:
			p.Blocks = append(p.Blocks, Block{Span: span(string(n.Lines().Value(source)))})
		case *ast.CodeSpan:
			p.Spans = append(p.Spans, span(code(n, source)))
		case *table.TableRow:
			if c, ok := n.FirstChild().FirstChild().(*ast.CodeSpan); ok {
				p.FirstCells = append(p.FirstCells, code(c, source))
			}
		case *ast.Link:
			p.Links = append(p.Links, span(string(n.Destination)))
		case *ast.Image:
			p.Links = append(p.Links, span(string(n.Destination)))
		}
		return ast.WalkContinue, nil
	})
	return p
}

// code is what stands in a code span, in one line.
func code(n *ast.CodeSpan, source []byte) string {
	var content []byte
	for c := n.FirstChild(); c != nil; c = c.NextSibling() {
		if piece, ok := c.(*ast.Text); ok {
			content = append(content, piece.Segment.Value(source)...)
		}
	}
	return strings.ReplaceAll(string(content), "\n", " ")
}

// anchor is what GitHub calls a heading.
func anchor(heading string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
			return unicode.ToLower(r)
		}
		return -1
	}, strings.TrimSpace(heading))
}
