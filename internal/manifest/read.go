package manifest

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/walrecv/walrecv/segment"
)

// The keys of a manifest.
const (
	keyVersion  = "PostgreSQL-Backup-Manifest-Version"
	keySystem   = "System-Identifier"
	keyFiles    = "Files"
	keyRanges   = "WAL-Ranges"
	keyChecksum = "Manifest-Checksum"
)

// DamagedError says that what was read is not a manifest as a server wrote it.
// Errors of the reader are never of this kind.
type DamagedError struct{ Reason string }

func (e *DamagedError) Error() string { return "the backup manifest is damaged: " + e.Reason }

// Read reads a manifest to the end of r. nil says that it proves itself: its own
// checksum is right. c, which may be nil, gets what is read, and is of use only
// if the error is nil.
func Read(r io.Reader, c *Copy) (*Manifest, error) {
	lines := &lineSum{copy: c}
	in := &source{r: r, lines: lines}
	p := &parser{dec: json.NewDecoder(in), m: &Manifest{}}
	err := p.document()
	if err == nil {
		err = in.drain(p.dec.Buffered())
	}
	if err == nil {
		err = lines.check(p.checksum)
	}
	if err == nil {
		err = p.m.order()
	}
	if err == nil && in.damage == nil && in.err == nil {
		in.err = lines.finish()
	}
	switch {
	case in.err != nil:
		return nil, in.err
	case in.damage != nil:
		return nil, &DamagedError{in.damage.Error()}
	case err != nil:
		return nil, &DamagedError{err.Error()}
	}
	return p.m, nil
}

// source reads from r, shows every byte to lines, and keeps what each of them failed
// with: the parser hides an error that comes with enough bytes.
type source struct {
	r      io.Reader
	lines  *lineSum
	err    error // other than io.EOF
	damage error // what lines found
}

// Read implements io.Reader.
func (s *source) Read(p []byte) (int, error) {
	if failed := errors.Join(s.damage, s.err); failed != nil {
		return 0, failed
	}
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
		return n, err
	}
	s.damage, s.err = s.lines.add(p[:n])
	if failed := errors.Join(s.damage, s.err); failed != nil {
		return n, failed
	}
	return n, err
}

// drain reads what stands behind the document, beginning with what is buffered.
func (s *source) drain(buffered io.Reader) error {
	rest := io.MultiReader(buffered, s)
	buf := make([]byte, 4096)
	for {
		n, err := rest.Read(buf)
		if len(bytes.TrimSpace(buf[:n])) > 0 {
			return errors.New("something stands behind its end")
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// parser reads one document. Its errors are about the document.
type parser struct {
	dec      *json.Decoder
	m        *Manifest
	checksum string // SHA-256, as the last line has it
}

// document reads the outermost object. The version comes first, since it says
// what else there is.
func (p *parser) document() error {
	if err := p.delim('{'); err != nil {
		return err
	}
	seen := map[string]bool{}
	for p.dec.More() {
		key, err := p.key()
		if err != nil {
			return err
		}
		if seen[key] || seen[keyVersion] == (key == keyVersion) || seen[keyChecksum] {
			return fmt.Errorf("key %q is not where it belongs", key)
		}
		seen[key] = true
		if err := p.value(key); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
	}
	if err := p.delim('}'); err != nil {
		return err
	}
	for _, key := range []string{keyVersion, keyFiles, keyRanges, keyChecksum} {
		if !seen[key] {
			return fmt.Errorf("there is no %s", key)
		}
	}
	if p.m.Version == version2 && !seen[keySystem] {
		return fmt.Errorf("there is no %s", keySystem)
	}
	return nil
}

func (p *parser) value(key string) error {
	switch key {
	case keyVersion:
		if err := p.dec.Decode(&p.m.Version); err != nil {
			return err
		}
		if p.m.Version != version1 && p.m.Version != version2 {
			return fmt.Errorf("version %d is unknown", p.m.Version)
		}
		return nil
	case keySystem:
		return p.dec.Decode(&p.m.SystemID)
	case keyFiles:
		return p.list(p.file)
	case keyRanges:
		return p.list(p.walRange)
	case keyChecksum:
		return p.dec.Decode(&p.checksum)
	}
	return errors.New("the key is unknown")
}

// list reads the elements of a list, one at a time.
func (p *parser) list(element func() error) error {
	if err := p.delim('['); err != nil {
		return err
	}
	for p.dec.More() {
		if err := element(); err != nil {
			return err
		}
	}
	return p.delim(']')
}

// fileJSON is a file as it stands in a manifest.
type fileJSON struct {
	Path         *string `json:"Path,omitempty"`
	EncodedPath  *string `json:"Encoded-Path,omitempty"` // hexadecimal, for names that are not UTF-8
	Size         *int64  `json:"Size"`
	LastModified string  `json:"Last-Modified"`
	Algorithm    *string `json:"Checksum-Algorithm,omitempty"`
	Checksum     *string `json:"Checksum,omitempty"` // hexadecimal
}

func (p *parser) file() error {
	var j fileJSON
	if err := p.dec.Decode(&j); err != nil {
		return err
	}
	f, err := j.file()
	if err != nil {
		return err
	}
	return p.m.add(f)
}

func (j *fileJSON) file() (File, error) {
	var f File
	switch {
	case (j.Path == nil) == (j.EncodedPath == nil):
		return f, errors.New("a file has no path, or two")
	case j.Path != nil:
		f.Path = *j.Path
	default:
		name, err := hex.DecodeString(*j.EncodedPath)
		if err != nil {
			return f, err
		}
		f.Path = string(name)
	}
	if !ValidPath(f.Path) {
		return f, fmt.Errorf("%q is not the path of a file in a data directory", f.Path)
	}
	if j.Size == nil || *j.Size < 0 {
		return f, fmt.Errorf("%q has no size", f.Path)
	}
	f.Size = *j.Size
	if j.Algorithm == nil && j.Checksum == nil {
		return f, nil
	}
	if j.Algorithm == nil || j.Checksum == nil {
		return f, fmt.Errorf("%q has half a checksum", f.Path)
	}
	var known bool
	if f.Algorithm, known = parseAlgorithm(*j.Algorithm); !known {
		return f, fmt.Errorf("%q has a checksum of the unknown kind %q", f.Path, *j.Algorithm)
	}
	var err error
	if f.Sum, err = hex.DecodeString(*j.Checksum); err != nil || len(f.Sum) != f.Algorithm.Size() {
		return f, fmt.Errorf("%q has the checksum %q, which is no %s", f.Path, *j.Checksum, f.Algorithm)
	}
	return f, nil
}

// ValidPath tells whether a path names something below a directory, whatever is
// there: it has slashes, no "." or ".." and nothing empty between them, and no
// NUL. It need not be UTF-8.
func ValidPath(path string) bool {
	if path == "." || len(path) == 0 {
		return false
	}
	clean := make([]byte, 0, len(path)) // fs.ValidPath wants UTF-8, which is not our concern
	for i := range len(path) {
		switch b := path[i]; {
		case b == 0:
			return false
		case b >= 0x80:
			clean = append(clean, 'x')
		default:
			clean = append(clean, b)
		}
	}
	return fs.ValidPath(string(clean))
}

func (p *parser) walRange() error {
	var j struct {
		Timeline segment.TimelineID
		Start    string `json:"Start-LSN"`
		End      string `json:"End-LSN"`
	}
	if err := p.dec.Decode(&j); err != nil {
		return err
	}
	start, err := segment.ParseLSN(j.Start)
	if err != nil {
		return err
	}
	end, err := segment.ParseLSN(j.End)
	if err != nil {
		return err
	}
	p.m.Ranges = append(p.m.Ranges, Range{Timeline: j.Timeline, Start: start, End: end})
	return nil
}

// delim reads a bracket or a brace.
func (p *parser) delim(want json.Delim) error {
	token, err := p.dec.Token()
	if err != nil {
		return err
	}
	if token != want {
		return fmt.Errorf("%v where a %v belongs", token, want)
	}
	return nil
}

// key reads the key of an object's value.
func (p *parser) key() (string, error) {
	token, err := p.dec.Token()
	if err != nil {
		return "", err
	}
	key, ok := token.(string)
	if !ok {
		return "", fmt.Errorf("%v where a key belongs", token)
	}
	return key, nil
}
