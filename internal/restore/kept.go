package restore

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/segment"
)

// A standby that follows from the archive alone asks for the same segment again and
// again, while it grows. What was read of its chunks is kept in a file of the
// directory for that, one for a data directory, so that the next call needs to read
// only what is new.
//
// The file has the bytes of the segment at their offsets, and behind a segment's
// length, in JSON, which chunks they are from and what the digests of these were.
// Nothing of it is synced or renamed: what it holds of a chunk is used only if the
// archive lists that chunk now and the bytes have its digest. So a file that is
// damaged, torn by a crash, or of an archive that has changed, is of no use and does
// no harm.

const (
	keptFormat = 1
	keptSuffix = ".tail"

	// maxKeptIndex bounds what stands behind the bytes.
	maxKeptIndex = 64 << 10
)

// keptIndex says what a file has.
type keptIndex struct {
	Format  int         `json:"format"`
	Segment string      `json:"segment"`
	Place   string      `json:"place"` // the archive
	Pieces  []keptPiece `json:"pieces"`
}

type keptPiece struct {
	From   int64  `json:"from"`
	To     int64  `json:"to"`
	SHA256 string `json:"sha256"` // of its plain bytes
}

// keeper is where a call keeps what it read. nil keeps nothing.
type keeper struct {
	fsys  vfs.FS
	dir   string
	whose string // what the names of its files begin with
	place string // the archive
	size  segment.Size
}

// keeper finds out where to keep what is read from a place. A recovery to a target or
// to the end asks for the last segment only a few times.
func (c *call) keeper(place string) *keeper {
	if c.note == nil || c.o.PrefetchDir == nil {
		return nil
	}
	dir, err := c.o.PrefetchDir(c.dir.WAL(""))
	if err != nil {
		c.log.Debug("nothing is kept for the next call", "error", err)
		return nil
	}
	key := fnv.New64a()
	_, _ = io.WriteString(key, c.dir.Path) // never fails
	return &keeper{fsys: c.o.FS, dir: dir, whose: fmt.Sprintf("%d.%016x.", c.system, key.Sum64()), place: place, size: c.size}
}

func (k *keeper) path(n segment.Name) string {
	return filepath.Join(k.dir, k.whose+n.Format(k.size)+keptSuffix)
}

// drop removes what is kept of the segments that over holds for. What cannot be
// removed is in nobody's way.
func (k *keeper) drop(over func(segment.Name) bool) {
	if k == nil {
		return
	}
	entries, err := k.fsys.ReadDir(k.dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		rest, ours := strings.CutPrefix(e.Name, k.whose)
		base, is := strings.CutSuffix(rest, keptSuffix)
		n, err := segment.ParseName(base, k.size)
		if ours && is && err == nil && over(n) {
			_ = k.fsys.Remove(filepath.Join(k.dir, e.Name))
		}
	}
}

// passed drops what a segment that was delivered whole leaves behind.
func (k *keeper) passed(at segment.Name) {
	k.drop(func(n segment.Name) bool { return n.Timeline <= at.Timeline && n.Number <= at.Number })
}

// read opens what is kept of a segment. There may be none: any error is as good.
func (k *keeper) read(n segment.Name) (f vfs.File, pieces []keptPiece, err error) {
	if k == nil {
		return nil, nil, fs.ErrNotExist
	}
	f, err = k.fsys.OpenRead(k.path(n))
	if err != nil {
		return nil, nil, err
	}
	var index keptIndex
	err = json.NewDecoder(io.NewSectionReader(f, int64(k.size), maxKeptIndex)).Decode(&index)
	if err == nil && (index.Format != keptFormat || index.Segment != n.Format(k.size) || index.Place != k.place) {
		err = errors.New("it is of something else")
	}
	if err != nil {
		f.Close() // it was only read
		return nil, nil, err
	}
	return f, index.Pieces, nil
}

// write keeps the bytes of s from an offset on, up to where it ends.
func (k *keeper) write(n segment.Name, s io.ReaderAt, from, end int64, pieces []piece) error {
	f, err := k.fsys.OpenWrite(k.path(n))
	if errors.Is(err, fs.ErrNotExist) {
		from = 0
		f, err = k.fsys.Create(k.path(n), 0o600)
	}
	if err != nil {
		return err
	}
	defer f.Close() // nothing relies on it
	buf := make([]byte, min(chunkLen, max(end-from, 0)))
	for from < end {
		p := buf[:min(chunkLen, end-from)]
		if _, err := s.ReadAt(p, from); err != nil {
			return err
		}
		if _, err := f.WriteAt(p, from); err != nil {
			return err
		}
		from += int64(len(p))
	}
	index := keptIndex{Format: keptFormat, Segment: n.Format(k.size), Place: k.place}
	for _, p := range pieces {
		index.Pieces = append(index.Pieces, keptPiece{p.from, p.to, p.digest.String()})
	}
	text, err := json.Marshal(index)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(text, int64(k.size)) // what a longer one leaves behind it is not read
	return err
}

// recall takes what was kept of the chunks that are there now.
func (m *assembly) recall() {
	f, pieces, err := m.keeper.read(m.name)
	if err != nil {
		return
	}
	defer f.Close()
	digests := map[archive.Chunk]string{}
	var kept []archive.Chunk
	for _, p := range pieces {
		i := slices.IndexFunc(m.there, func(c archive.Chunk) bool { return c.From == p.From && c.To == p.To })
		if i >= 0 {
			kept = append(kept, m.there[i])
			digests[m.there[i]] = p.SHA256
		}
	}
	needed, _ := archive.Cover(kept, 0)
	for _, c := range needed {
		p, err := m.take(&stream{where: m.keeper.path(m.name), body: io.NopCloser(io.NewSectionReader(f, c.From, c.To-c.From))}, c)
		if err != nil || p.digest.String() != digests[c] {
			break
		}
		m.pieces, m.end = append(m.pieces, p), c.To
	}
	m.kept = m.end
}

// forget begins anew, without what was kept.
func (m *assembly) forget() {
	m.keeper.drop(func(segment.Name) bool { return true })
	m.pieces, m.end, m.kept = nil, 0, 0
}

// remember keeps what was read, for the next call.
func (m *assembly) remember() {
	if m.keeper == nil || m.end == m.kept {
		return
	}
	m.keeper.drop(func(n segment.Name) bool { return n != m.name })
	var chunks []archive.Chunk
	for _, p := range m.pieces {
		chunks = append(chunks, archive.Chunk{From: p.from, To: p.to})
	}
	needed, _ := archive.Cover(chunks, 0)
	pieces := slices.DeleteFunc(slices.Clone(m.pieces), func(p piece) bool {
		return !slices.Contains(needed, archive.Chunk{From: p.from, To: p.to})
	})
	if err := m.keeper.write(m.name, m.s.file, m.kept, m.end, pieces); err != nil {
		m.call.log.Debug("nothing is kept for the next call", "error", err)
		m.keeper.drop(func(segment.Name) bool { return true })
	}
}
