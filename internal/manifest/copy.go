package manifest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
)

// maxLine is how long a line may be, in bytes: a file's is as long as its name
// and a few hundred bytes.
const maxLine = 64 << 10

// Copy takes a manifest along while it is read.
type Copy struct {
	W io.Writer // gets the manifest

	// Path is a file whose content is another one where the backup is restored;
	// empty: there is none. If the manifest lists it, the line of that file and the
	// last line, which is the checksum of all others, are not the server's.
	Path    string
	Content []byte
}

// lineSum takes a manifest apart into lines, for the sum of all but the last one.
type lineSum struct {
	copy    *Copy // nil: none
	pending []byte
	last    []byte // the last complete line, not in the sums yet; it ends with a line feed
	read    hash.Hash
	written hash.Hash
}

// add takes some bytes. damage is about the manifest, failure about the copy.
func (l *lineSum) add(p []byte) (damage, failure error) {
	for {
		line, rest, complete := bytes.Cut(p, []byte("\n"))
		if len(l.pending)+len(line) > maxLine {
			return fmt.Errorf("it has a line of more than %d bytes", maxLine), nil
		}
		l.pending = append(l.pending, line...)
		if !complete {
			return nil, nil
		}
		if err := l.flush(); err != nil {
			return nil, err
		}
		l.last, l.pending = append(append(l.last, l.pending...), '\n'), l.pending[:0]
		p = rest
	}
}

// flush counts the last line as one that is not the last.
func (l *lineSum) flush() error {
	if l.read == nil {
		l.read, l.written = sha256.New(), sha256.New()
	}
	l.read.Write(l.last)
	line := l.last
	if l.copy != nil {
		line = l.copy.edit(line)
		if _, err := l.copy.W.Write(line); err != nil {
			return err
		}
	}
	l.written.Write(line)
	l.last = l.last[:0]
	return nil
}

// check compares the sum with what the last line says.
func (l *lineSum) check(checksum string) error {
	switch {
	case len(l.pending) > 0:
		return errors.New("its last line has no end")
	case !bytes.Contains(l.last, []byte(keyChecksum)):
		return fmt.Errorf("%s is not in its last line", keyChecksum)
	}
	if sum := hex.EncodeToString(l.read.Sum(nil)); sum != checksum {
		return fmt.Errorf("it has the SHA-256 %s, and says %.64q", sum, checksum)
	}
	return nil
}

// finish completes the copy of what was found right.
func (l *lineSum) finish() error {
	if l.copy == nil {
		return nil
	}
	read, written := l.read.Sum(nil), l.written.Sum(nil)
	_, err := l.copy.W.Write(bytes.Replace(l.last, hex.AppendEncode(nil, read), hex.AppendEncode(nil, written), 1))
	return err
}

// edit gives the line of the manifest that takes the place of one: the same, but
// for that of the file with other content.
func (c *Copy) edit(line []byte) []byte {
	if c.Path == "" || !bytes.Contains(line, []byte(c.Path)) {
		return line
	}
	object, comma := bytes.CutSuffix(bytes.TrimSpace(line), []byte(","))
	var j fileJSON
	if json.Unmarshal(object, &j) != nil || j.Path == nil || *j.Path != c.Path {
		return line
	}
	edited := fmt.Appendf(nil, `{ "Path": %q, "Size": %d, "Last-Modified": %q`, c.Path, len(c.Content), j.LastModified)
	if f, err := j.file(); err == nil && f.Algorithm != None {
		edited = fmt.Appendf(edited, `, "Checksum-Algorithm": "%s", "Checksum": "%x"`, f.Algorithm, f.Algorithm.of(c.Content))
	}
	edited = append(edited, " }"...)
	if comma {
		edited = append(edited, ',')
	}
	return append(edited, '\n')
}
