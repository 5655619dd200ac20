package extract

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"strconv"
	"strings"

	"github.com/walrecv/walrecv/internal/manifest"
)

// link makes the links to the tablespaces. The server makes them again from
// tablespace_map when it starts to recover; until then pg_verifybackup wants them.
func (x *extraction) link(context.Context) error {
	for _, s := range x.spaces[1:] {
		if s.inPlace {
			continue
		}
		if err := x.spaces[0].symlink(s.path, fmt.Sprintf("%s/%d", linkDir, s.oid)); err != nil {
			return err
		}
	}
	return nil
}

// writeMap makes tablespace_map: the server's, or one that says where the tablespaces
// are now. What it said must be what the backup says of itself.
func (x *extraction) writeMap(data *space, f manifest.File, mode fs.FileMode, content []byte) error {
	was, err := parseMap(content)
	if err != nil {
		return x.damaged("%s: %w", mapFile, err)
	}
	if said := x.places(func(s *space) string { return s.tablespace.Location }); !maps.Equal(was, said) {
		return x.damaged("%s and %s say differently where the tablespaces are: %v and %v", mapFile, "backup.json", was, said)
	}
	if x.moved() {
		content = x.mapContent()
		x.manifest.Replace(f, content)
	}
	return disk(data.write(mapFile, mode, content))
}

// places are the directories of the tablespaces that have links.
func (x *extraction) places(of func(*space) string) map[uint32]string {
	all := map[uint32]string{}
	for _, s := range x.spaces[1:] {
		if !s.inPlace {
			all[s.oid] = of(s)
		}
	}
	return all
}

// mapContent is tablespace_map for where the tablespaces are now.
func (x *extraction) mapContent() []byte {
	var text []byte
	for _, s := range x.spaces[1:] {
		if !s.inPlace {
			text = fmt.Appendf(text, "%d %s\n", s.oid, escapes.Replace(s.path))
		}
	}
	return text
}

// escapes are what the server writes into tablespace_map for the characters that end
// a line there.
var escapes = strings.NewReplacer("\\", "\\\\", "\n", "\\\n", "\r", "\\\r")

// parseMap reads tablespace_map as the server does: a line is an OID, one space and a
// path, in which a backslash stands before each character that would end the line.
func parseMap(content []byte) (map[uint32]string, error) {
	places := map[uint32]string{}
	var line []byte
	escaped := false
	for _, b := range content {
		switch {
		case !escaped && b == '\\':
			escaped = true
			continue
		case !escaped && (b == '\n' || b == '\r'):
			if len(line) == 0 {
				continue
			}
			number, place, ok := strings.Cut(string(line), " ")
			oid, err := strconv.ParseUint(number, 10, 32)
			if !ok || err != nil || place == "" {
				return nil, fmt.Errorf("what is %q?", line)
			}
			if _, twice := places[uint32(oid)]; twice {
				return nil, fmt.Errorf("tablespace %d is there twice", oid)
			}
			places[uint32(oid)], line = place, line[:0]
		default:
			line = append(line, b)
		}
		escaped = false
	}
	if len(line) > 0 || escaped {
		return nil, fmt.Errorf("its last line has no end")
	}
	return places, nil
}
