package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"reflect"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2"

	"github.com/walrecv/walrecv/receiver"
	"github.com/walrecv/walrecv/storage"
)

// document is a configuration file.
type document struct {
	path    string
	data    []byte
	info    fs.FileInfo
	content map[string]any
}

// entry is one key of a configuration file.
type entry struct {
	key   string
	value any // string, int64, float64, bool, a date or time, []any, map[string]any
	at    position
}

// position is a place in a file, counted from 1; the zero value is unknown.
type position struct{ line, column int }

// configError is what is wrong at one place of a configuration file. The
// message is one line; Detail shows the place.
type configError struct {
	path string
	at   position
	line string
	err  error
}

func (e *configError) Error() string {
	if e.at.line == 0 {
		return fmt.Sprintf("%s: %v", e.path, e.err)
	}
	return fmt.Sprintf("%s:%d:%d: %v", e.path, e.at.line, e.at.column, e.err)
}

func (e *configError) Unwrap() error { return e.err }

// Detail shows the line with carets below what is wrong, or nothing. What may be a
// secret is not shown.
func (e *configError) Detail() string {
	if e.at.line == 0 || len(e.line) > maxDetail {
		return ""
	}
	text := e.line
	column := min(e.at.column-1, len(text))
	if key, _, ok := strings.Cut(text, "="); ok && maySecret(text) {
		if column > len(key) {
			return ""
		}
		text = key + "= " + receiver.Masked
	}
	word := strings.IndexAny(text[column:], " \t=.,]}#")
	if word < 0 {
		word = len(text) - column
	}
	number := fmt.Sprint(e.at.line)
	pad := strings.Map(func(r rune) rune {
		if r == '\t' {
			return r
		}
		return ' '
	}, text[:column])
	return fmt.Sprintf("%s | %s\n%*s | %s%s", number, printable(text), len(number), "", pad, strings.Repeat("^", max(utf8.RuneCountInString(text[column:column+word]), 1)))
}

// maxDetail is the longest line that anybody wants to see, in bytes.
const maxDetail = 200

// maySecret tells whether there may be a secret in a line: it says so, or it has a URL
// with a user's name.
func maySecret(line string) bool {
	_, rest, isURL := strings.Cut(line, "://")
	return isURL && strings.Contains(rest, "@") || storage.NamesSecret(line)
}

// printable replaces what could play tricks on a terminal.
func printable(line string) string {
	return strings.Map(func(r rune) rune {
		if r == '\t' || unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, line)
}

// maxDocument is larger than any configuration: what is longer is another file.
const maxDocument = 1 << 20

// readDocument reads a configuration file. Syntax errors come with their
// place.
func readDocument(path string) (*document, error) {
	doc := &document{path: path}
	var err error
	if doc.data, doc.info, err = readLimited(path); err != nil {
		return nil, usageError("cannot read the configuration file: %w", err)
	}
	if bytes.IndexByte(doc.data, 0) >= 0 {
		return nil, usageError("the configuration file %s is no text: it has a zero byte", path)
	}
	doc.data = bytes.TrimPrefix(doc.data, []byte("\ufeff")) // as some editors begin a file
	if err := toml.Unmarshal(doc.data, &doc.content); err != nil {
		var syntax *toml.DecodeError
		if errors.As(err, &syntax) {
			line, column := syntax.Position()
			return nil, doc.faultAt(position{line, column}, "%s", strings.TrimPrefix(err.Error(), "toml: "))
		}
		return nil, doc.faultAt(position{}, "%w", err)
	}
	return doc, nil
}

// readLimited reads a file, which may be a pipe, and what its mode is.
func readLimited(path string) (data []byte, info fs.FileInfo, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	if info, err = f.Stat(); err != nil {
		return nil, nil, err
	}
	if data, err = io.ReadAll(io.LimitReader(f, maxDocument+1)); err != nil {
		return nil, nil, err
	}
	if len(data) > maxDocument {
		return nil, nil, fmt.Errorf("%s is larger than 1MB: is it another file?", path)
	}
	return data, info, nil
}

// entries lists the keys of a table, or those on top for an empty name, in the order
// of the file.
func (d *document) entries(table string) (list []entry) {
	content := d.content
	if table != "" {
		content, _ = d.content[table].(map[string]any)
	}
	if len(content) == 0 {
		return nil
	}
	places := keyPositions(d.data, table)
	for key, value := range content {
		list = append(list, entry{key, value, places[key]})
	}
	slices.SortFunc(list, func(a, b entry) int {
		return cmp.Or(a.at.line-b.at.line, a.at.column-b.at.column, strings.Compare(a.key, b.key))
	})
	return list
}

// keyPositions finds where the keys of a table stand, or those on top. The decoder
// tells this only about keys that it does not expect; so it is made to expect none, or
// none but the table.
func keyPositions(data []byte, table string) map[string]position {
	var shape any = new(struct{})
	depth := 0 // of the keys that are looked for
	if table != "" {
		depth = 1
		shape = reflect.New(reflect.StructOf([]reflect.StructField{{
			Name: "Table",
			Type: reflect.TypeFor[struct{}](),
			Tag:  reflect.StructTag(fmt.Sprintf("toml:%q", table)),
		}})).Interface()
	}
	places := map[string]position{}
	var unexpected *toml.StrictMissingError
	if err := toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields().Decode(shape); !errors.As(err, &unexpected) {
		return places
	}
	for i := range unexpected.Errors {
		line, column := unexpected.Errors[i].Position()
		// A key is reported with each of its dotted ends: keep the first.
		key := unexpected.Errors[i].Key()
		if len(key) <= depth || depth == 1 && key[0] != table {
			continue
		}
		if _, ok := places[key[depth]]; !ok {
			places[key[depth]] = position{line, column}
		}
	}
	return places
}

// place is where an entry stands, for people.
func (d *document) place(e entry) string {
	if e.at.line == 0 {
		return d.path
	}
	return fmt.Sprintf("%s:%d", d.path, e.at.line)
}

// fault is an error at an entry.
func (d *document) fault(e entry, format string, args ...any) error {
	return d.faultAt(e.at, format, args...)
}

func (d *document) faultAt(at position, format string, args ...any) error {
	e := &configError{path: d.path, at: at, err: fmt.Errorf(format, args...)}
	if lines := strings.Split(string(d.data), "\n"); at.line > 0 && at.line <= len(lines) {
		e.line = strings.TrimSuffix(lines[at.line-1], "\r")
	}
	return &codedError{exitUsage, e}
}
