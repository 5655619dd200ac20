package main

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
)

// mappingValue is pg_basebackup's OLDDIR=NEWDIR. It adds to what is there.
type mappingValue struct{ target map[string]string }

// Set implements pflag.Value.
func (m mappingValue) Set(text string) error {
	from, to, err := parseMapping(text)
	if err != nil {
		return err
	}
	if _, twice := m.target[from]; twice {
		return fmt.Errorf("the tablespace at %q is mapped twice", from)
	}
	m.target[from] = to
	return nil
}

// String implements pflag.Value.
func (m mappingValue) String() string {
	var all []string
	for _, from := range slices.Sorted(maps.Keys(m.target)) {
		all = append(all, mappingEscape.Replace(from)+"="+mappingEscape.Replace(m.target[from]))
	}
	return strings.Join(all, " ")
}

// Type implements pflag.Value.
func (mappingValue) Type() string { return "mapping" }

var mappingEscape = strings.NewReplacer("=", `\=`)

// parseMapping reads two absolute paths with a = between them. A backslash before a =
// makes that a part of a path; before anything else it is one itself.
func parseMapping(text string) (from, to string, err error) {
	var parts [2][]byte
	side := 0
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == '\\' && i+1 < len(text) && text[i+1] == '=':
			i++
		case text[i] == '=' && side == 1:
			return "", "", errors.New(`several = in a tablespace mapping: write \= for those of a path`)
		case text[i] == '=':
			side = 1
			continue
		}
		parts[side] = append(parts[side], text[i])
	}
	if len(parts[0]) == 0 || len(parts[1]) == 0 {
		return "", "", fmt.Errorf("invalid tablespace mapping %q: must be OLDDIR=NEWDIR", text)
	}
	for _, path := range parts {
		if !filepath.IsAbs(string(path)) {
			return "", "", fmt.Errorf("%q in a tablespace mapping is not an absolute path", path)
		}
	}
	return filepath.Clean(string(parts[0])), filepath.Clean(string(parts[1])), nil
}
