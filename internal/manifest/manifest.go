package manifest

import (
	"bytes"
	"fmt"
	"hash"
	"math"
	"sort"

	"github.com/walrecv/walrecv/segment"
)

// The versions of the format that are known: 2 has the system identifier, and
// comes from PostgreSQL 17 on.
const (
	version1 = 1
	version2 = 2
)

// Manifest says what a backup consists of. It is made by [Read], takes about 80
// bytes of memory a file, and is safe for concurrent use, see Replace.
type Manifest struct {
	Version  int
	SystemID uint64 // of the cluster; 0: the manifest does not say (version 1)
	Ranges   []Range

	// A cluster can have a million files, so each is an entry without pointers:
	// the bytes of all names and all checksums stand one after the other.
	entries []entry
	names   []byte
	sums    []byte
}

// Range is WAL that is needed to make the backup consistent.
type Range struct {
	Timeline   segment.TimelineID
	Start, End segment.LSN
}

// entry is a file. The entries are in order of their names.
type entry struct {
	size      int64
	name, sum uint32 // where they begin
	nameLen   uint16
	algorithm Algorithm
}

// File is what a manifest says of one file. The zero value is none.
type File struct {
	Path      string
	Size      int64 // bytes
	Algorithm Algorithm
	Sum       []byte // as many bytes as the algorithm has; not to be changed
	Index     int    // from 0 to Len-1, in order of the paths
}

// Len is how many files are listed.
func (m *Manifest) Len() int { return len(m.entries) }

// At is a file by its index.
func (m *Manifest) At(i int) File {
	e := &m.entries[i]
	sum := m.sums[e.sum:][:e.algorithm.Size()]
	return File{Path: string(m.name(i)), Size: e.size, Algorithm: e.algorithm, Sum: sum[:len(sum):len(sum)], Index: i}
}

// Find looks up a file.
func (m *Manifest) Find(path string) (File, bool) {
	i := sort.Search(len(m.entries), func(i int) bool { return string(m.name(i)) >= path })
	if i == len(m.entries) || string(m.name(i)) != path {
		return File{}, false
	}
	return m.At(i), true
}

// Size is how many bytes all files have.
func (m *Manifest) Size() (total int64) {
	for i := range m.entries {
		total += m.entries[i].size
	}
	return total
}

// Replace puts other content in the place of a file that is listed. Meanwhile others may
// look at other files, but not at this one, nor ask for the Size of all.
func (m *Manifest) Replace(f File, content []byte) {
	e := &m.entries[f.Index]
	e.size = int64(len(content))
	copy(m.sums[e.sum:], e.algorithm.of(content))
}

func (m *Manifest) name(i int) []byte {
	e := &m.entries[i]
	return m.names[e.name:][:e.nameLen]
}

// add lists a file.
func (m *Manifest) add(f File) error {
	if len(f.Path) > math.MaxUint16 || len(m.names)+len(f.Path) > math.MaxUint32 || len(m.sums)+len(f.Sum) > math.MaxUint32 {
		return fmt.Errorf("too many files, or too long a name")
	}
	m.entries = append(m.entries, entry{
		size: f.Size, name: uint32(len(m.names)), nameLen: uint16(len(f.Path)),
		sum: uint32(len(m.sums)), algorithm: f.Algorithm,
	})
	m.names = append(m.names, f.Path...)
	m.sums = append(m.sums, f.Sum...)
	return nil
}

// order brings the entries into the order of their names, of which none may be
// there twice.
func (m *Manifest) order() error {
	sort.Slice(m.entries, func(i, j int) bool { return bytes.Compare(m.name(i), m.name(j)) < 0 })
	for i := 1; i < len(m.entries); i++ {
		if bytes.Equal(m.name(i), m.name(i-1)) {
			return fmt.Errorf("it lists %q twice", m.name(i))
		}
	}
	return nil
}

// Checker compares the bytes of a file, which are written to it, with what the
// manifest says. It is not safe for concurrent use.
type Checker struct {
	file File
	sum  hash.Hash // nil: no checksum
	size int64
}

// NewChecker begins a comparison with f.
func (f File) NewChecker() *Checker { return &Checker{file: f, sum: f.Algorithm.New()} }

// Write implements io.Writer. It never fails.
func (c *Checker) Write(p []byte) (int, error) {
	c.size += int64(len(p))
	if c.sum != nil {
		c.sum.Write(p)
	}
	return len(p), nil
}

// Mismatch says what is wrong with what was written; empty if it is the file.
func (c *Checker) Mismatch() string {
	switch {
	case c.size != c.file.Size:
		return fmt.Sprintf("it has %d bytes, and %d in the backup manifest", c.size, c.file.Size)
	case c.sum != nil && string(c.sum.Sum(nil)) != string(c.file.Sum):
		return fmt.Sprintf("it has the %s %x, and %x in the backup manifest", c.file.Algorithm, c.sum.Sum(nil), c.file.Sum)
	}
	return ""
}
