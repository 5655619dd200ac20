package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2"
)

// document is a configuration file as far as one command needs it.
type document struct {
	path string
	data []byte
	top  []entry // the keys and tables on top, in the order of the file
	own  []entry // the keys of the command's own table, in the order of the file
	s3   []entry // those of [s3]
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

// Detail shows the line with carets below what is wrong, or nothing.
func (e *configError) Detail() string {
	if e.at.line == 0 {
		return ""
	}
	column := min(e.at.column-1, len(e.line))
	word := strings.IndexAny(e.line[column:], " \t=.,]}#")
	if word < 0 {
		word = len(e.line) - column
	}
	number := fmt.Sprint(e.at.line)
	pad := strings.Map(func(r rune) rune {
		if r == '\t' {
			return r
		}
		return ' '
	}, e.line[:column])
	return fmt.Sprintf("%s | %s\n%*s | %s%s", number, printable(e.line), len(number), "", pad, strings.Repeat("^", max(utf8.RuneCountInString(e.line[column:column+word]), 1)))
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

// readDocument reads a configuration file. Syntax errors come with their
// place.
func readDocument(path, table string) (*document, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, usageError("cannot read the configuration file: %w", err)
	}
	doc := &document{path: path, data: data}
	var content map[string]any
	if err := toml.Unmarshal(data, &content); err != nil {
		var syntax *toml.DecodeError
		if errors.As(err, &syntax) {
			line, column := syntax.Position()
			return nil, doc.faultAt(position{line, column}, "%s", strings.TrimPrefix(err.Error(), "toml: "))
		}
		return nil, doc.faultAt(position{}, "%w", err)
	}
	places := keyPositions(data, table)
	doc.top = entries(content, nil, places)
	own, _ := content[table].(map[string]any)
	doc.own = entries(own, []string{table}, places)
	if s3, ok := content[s3Table].(map[string]any); ok {
		doc.s3 = entries(s3, []string{s3Table}, keyPositions(data, s3Table))
	}
	return doc, nil
}

// entries lists a table in the order of the file.
func entries(content map[string]any, path []string, places map[string]position) []entry {
	var list []entry
	for key, value := range content {
		list = append(list, entry{key, value, places[joined(append(slices.Clone(path), key))]})
	}
	slices.SortFunc(list, func(a, b entry) int {
		if c := a.at.line - b.at.line; c != 0 {
			return c
		}
		if c := a.at.column - b.at.column; c != 0 {
			return c
		}
		return strings.Compare(a.key, b.key)
	})
	return list
}

// keyPositions finds where the keys on top and those of one table stand. The
// decoder tells this only about keys that it does not expect; so it is made to
// expect none, and then none but the table.
func keyPositions(data []byte, table string) map[string]position {
	places := map[string]position{}
	one := reflect.StructOf([]reflect.StructField{{
		Name: "Table",
		Type: reflect.TypeFor[struct{}](),
		Tag:  reflect.StructTag(fmt.Sprintf("toml:%q", table)),
	}})
	for _, shape := range []any{new(struct{}), reflect.New(one).Interface()} {
		var unexpected *toml.StrictMissingError
		err := toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields().Decode(shape)
		if !errors.As(err, &unexpected) {
			continue
		}
		for i := range unexpected.Errors {
			line, column := unexpected.Errors[i].Position()
			// A key is reported with each of its dotted ends: keep the first.
			key := unexpected.Errors[i].Key()
			for n := range key {
				name := joined(key[:n+1])
				if _, ok := places[name]; !ok {
					places[name] = position{line, column}
				}
			}
		}
	}
	return places
}

func joined(key []string) string { return strings.Join(key, "\x00") }

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
