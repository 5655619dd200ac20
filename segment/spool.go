package segment

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"path"
	"sync"
	"sync/atomic"

	"github.com/walrecv/walrecv/internal/vfs"
)

const (
	spoolIdentityName   = "walrecv.json"
	spoolIdentityFormat = 1
	scratchSuffix       = ".tmp"
	damagedSuffix       = ".damaged"
	divergedSuffix      = ".diverged"
)

// Errors of a spool that steer what happens next.
var (
	// ErrWrongCluster: the directory holds the WAL of another cluster.
	ErrWrongCluster = errors.New("WAL of another cluster, which needs a directory of its own")

	// ErrHistoryConflict: two branches took the same timeline ID.
	ErrHistoryConflict = errors.New("another history of the same timeline is there: two servers were promoted to it, and each needs a directory and an archive of its own")
)

// Cluster is what a spool must know of the server it is fed from.
type Cluster struct {
	Identity
	Major    int         // major version of the server
	FileMode fs.FileMode // of new files, after the server's data_directory_mode
}

// Spool is a directory of WAL segments, as pg_receivewal keeps one, locked for
// this process. One goroutine at a time opens and prepares it; afterwards its
// methods are safe for concurrent use.
type Spool struct {
	fsys        vfs.FS
	dir         string
	log         *slog.Logger
	lock        io.Closer
	cluster     Cluster
	noSync      bool
	synchronous bool
	onSeal      func()
	budget      budget

	names  sync.Mutex    // see Exchange
	live   atomic.Uint32 // timeline being written
	sealed atomic.Pointer[Position]
}

// SpoolOptions are the choices of whoever opens a spool.
type SpoolOptions struct {
	// NoSync leaves out every sync of segments: a crash of the machine then
	// loses what was acknowledged.
	NoSync bool

	// Synchronous says that commits wait for Sync, so that its time matters more than
	// what is written.
	Synchronous bool

	// OnSeal is called after segments were sealed or a history file was
	// stored, by the goroutine that did it. It must not block.
	OnSeal func()

	// Max is how many bytes the segments may take that wait here, 0 for no limit:
	// see [Writer.Room]. What is too little for a few segments is raised.
	Max int64
}

// OpenSpool locks a directory that exists. A directory that is in use fails
// with vfs.ErrLocked.
func OpenSpool(fsys vfs.FS, dir string, log *slog.Logger, o SpoolOptions) (*Spool, error) {
	lock, err := fsys.Lock(dir)
	if err != nil {
		return nil, fmt.Errorf("lock spool %s: %w", dir, err)
	}
	if o.OnSeal == nil {
		o.OnSeal = func() {}
	}
	return &Spool{
		fsys: fsys, dir: dir, log: log, lock: lock, noSync: o.NoSync, synchronous: o.Synchronous, onSeal: o.OnSeal,
		budget: budget{log: log, max: o.Max},
	}, nil
}

// Close gives the directory free.
func (s *Spool) Close() error { return s.lock.Close() }

// Dir is the directory's path.
func (s *Spool) Dir() string { return s.dir }

// FS is the file system that the directory is on.
func (s *Spool) FS() vfs.FS { return s.fsys }

// Cluster is what the directory is of, once Identify has returned nil.
func (s *Spool) Cluster() Cluster { return s.cluster }

// Size is the segment size of the cluster, once Identify has returned nil.
func (s *Spool) Size() Size { return s.cluster.Size }

// spoolIdentity is the content of walrecv.json in a spool.
type spoolIdentity struct {
	Format      int    `json:"format"`
	SystemID    uint64 `json:"system_identifier,string"`
	SegmentSize int64  `json:"wal_segment_size"`
	Major       int    `json:"postgresql_major"`
	Archive     bool   `json:"archive,omitempty"`
}

// Identify compares the directory with the cluster that is about to be streamed
// into it, and records the cluster in a directory that has none. It fails with
// ErrWrongCluster where the two differ. It has to come before everything else,
// and is repeated for every connection.
func (s *Spool) Identify(c Cluster) error {
	known, err := s.readIdentity()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := s.checkForeignSegments(c.Identity); err != nil {
			return err
		}
		known = spoolIdentity{Format: spoolIdentityFormat, SystemID: c.SystemID, SegmentSize: int64(c.Size), Major: c.Major}
		if err := s.writeIdentity(known, c.FileMode); err != nil {
			return err
		}
	case err != nil:
		return err
	case known.SystemID != c.SystemID:
		return fmt.Errorf("spool %s belongs to the cluster with system identifier %d, the server has %d: %w",
			s.dir, known.SystemID, c.SystemID, ErrWrongCluster)
	case known.SegmentSize != int64(c.Size):
		return fmt.Errorf("spool %s has segments of %s, the server of %s: %w",
			s.dir, Size(known.SegmentSize), c.Size, ErrWrongCluster)
	}
	if !s.identified() {
		s.cluster = c // once: others read it while connections come and go
		s.budget.limit(c.Size)
	}
	return nil
}

func (s *Spool) identified() bool { return s.cluster.SystemID != 0 }

// UsedArchive says whether this spool has ever handed segments to an archive,
// and so may have deleted them here.
func (s *Spool) UsedArchive() (bool, error) {
	id, err := s.readIdentity()
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return id.Archive, err
}

// MarkArchive records durably that segments of this spool go to an archive.
func (s *Spool) MarkArchive() error {
	id, err := s.readIdentity()
	if err != nil || id.Archive {
		return err
	}
	id.Archive = true
	return s.writeIdentity(id, s.cluster.FileMode)
}

func (s *Spool) readIdentity() (spoolIdentity, error) {
	data, err := vfs.ReadFile(s.fsys, s.path(spoolIdentityName))
	if err != nil {
		return spoolIdentity{}, err
	}
	var id spoolIdentity
	if err := json.Unmarshal(data, &id); err != nil {
		return spoolIdentity{}, fmt.Errorf("%s is damaged: %w", s.path(spoolIdentityName), err)
	}
	if id.Format != spoolIdentityFormat {
		return spoolIdentity{}, fmt.Errorf("%s has format %d, this version knows %d",
			s.path(spoolIdentityName), id.Format, spoolIdentityFormat)
	}
	return id, nil
}

func (s *Spool) writeIdentity(id spoolIdentity, mode fs.FileMode) error {
	data, err := json.Marshal(id)
	if err != nil {
		return err
	}
	return vfs.WriteFile(s.fsys, s.path(spoolIdentityName), mode, append(data, '\n'))
}

// checkForeignSegments looks into the segments of a directory that another
// program filled, and that so has no record of its cluster. A first page that is
// not sound proves nothing and is left to whoever reads it.
func (s *Spool) checkForeignSegments(id Identity) error {
	l, err := scanDir(s.fsys, s.dir, id.Size)
	if err != nil {
		return err
	}
	for _, f := range append(l.Sealed, l.Partials...) {
		if f.Suffix != "" || f.Size < longHeaderLen {
			continue
		}
		h, err := s.readFirstPage(f)
		if err != nil {
			return err
		}
		if h.Addr != f.Name.Start(id.Size) || !h.Long {
			continue
		}
		if h.SystemID != id.SystemID || Size(h.SegmentSize) != id.Size {
			return fmt.Errorf("%s is of the cluster with system identifier %d and segments of %s, the server has %d and %s: %w",
				s.path(f.Base), h.SystemID, Size(h.SegmentSize), id.SystemID, id.Size, ErrWrongCluster)
		}
	}
	return nil
}

// readFirstPage returns a zero header for what is none.
func (s *Spool) readFirstPage(f File) (PageHeader, error) {
	file, err := s.fsys.OpenRead(s.path(f.Base))
	if err != nil {
		return PageHeader{}, err
	}
	defer file.Close()
	page := make([]byte, longHeaderLen)
	if _, err := file.ReadAt(page, 0); err != nil && !errors.Is(err, io.EOF) {
		return PageHeader{}, err
	}
	h, err := ParsePageHeader(page)
	if err != nil {
		return PageHeader{}, nil // not a page: see checkForeignSegments
	}
	return h, nil
}

// Prepare puts the directory in order after whatever ended the last run. A file
// of the wrong size under a complete segment's name is not one: it becomes the
// segment's partial, or is set aside where there is a partial, so that streaming
// starts there again instead of leaving a hole. Nothing that may hold
// acknowledged WAL is deleted.
func (s *Spool) Prepare() error {
	l, err := s.Scan()
	if err != nil {
		return err
	}
	for _, f := range l.BadSize {
		if err := s.demote(f); err != nil {
			return err
		}
	}
	for _, base := range l.Scratch {
		if err := s.fsys.Remove(s.path(base)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove scratch file: %w", err)
		}
	}
	// What is there is about to be built upon, but whoever named it may have
	// been killed before it synced the directory.
	if err := s.fsys.SyncDir(s.dir); err != nil {
		return fmt.Errorf("sync spool directory: %w", err)
	}
	return nil
}

func (s *Spool) demote(f File) error {
	to := f.Base + PartialSuffix
	taken, err := vfs.Exists(s.fsys, s.path(to))
	if err != nil {
		return err
	}
	if taken || f.Size > int64(s.cluster.Size) {
		if to, err = s.freeName(f.Base + damagedSuffix); err != nil {
			return err
		}
	}
	s.log.Warn("complete segment has the wrong size and will be streamed again",
		"file", f.Base, "size", f.Size, "want", int64(s.cluster.Size), "kept_as", to)
	return vfs.Rename(s.fsys, nil, s.path(f.Base), s.path(to))
}

// freeName is prefix-N with the lowest N that is not taken.
func (s *Spool) freeName(prefix string) (string, error) {
	for n := 1; ; n++ {
		name := fmt.Sprintf("%s-%d", prefix, n)
		taken, err := vfs.Exists(s.fsys, s.path(name))
		if err != nil {
			return "", err
		}
		if !taken {
			return name, nil
		}
	}
}

// Scan lists what the directory holds now.
func (s *Spool) Scan() (l Listing, err error) {
	err = s.View(func(now Listing) { l = now })
	return l, err
}

// View calls see with what the directory holds. Until see returns, no segment gets
// its final name: what see removes is what was listed. see must not list it again.
func (s *Spool) View(see func(Listing)) error {
	s.names.Lock()
	defer s.names.Unlock()
	l, err := scanDir(s.fsys, s.dir, s.cluster.Size)
	if err != nil {
		return err
	}
	s.budget.measured(l.Sealed)
	l.Live = TimelineID(s.live.Load())
	see(l)
	return nil
}

// Exchange runs what gives a segment another name while nobody looks into the
// directory: a listing in between could have it under neither, or have another
// file under the name.
func (s *Spool) Exchange(change func() error) error {
	s.names.Lock()
	defer s.names.Unlock()
	return change()
}

// Held is the WAL in the directory.
func (s *Spool) Held() (Held, error) {
	l, err := s.Scan()
	if err != nil {
		return Held{}, err
	}
	h := NewHeld()
	for _, f := range l.Sealed {
		h.AddSealed(f.Name)
	}
	for _, f := range l.Partials {
		end, err := s.contentEnd(f)
		if err != nil {
			return Held{}, err
		}
		h.AddPartial(Partial{Name: f.Name, End: f.Name.Start(s.cluster.Size) + LSN(end)})
	}
	for _, t := range l.Histories {
		h.AddHistory(t)
	}
	h.Gaps, err = s.gaps(l)
	return h, err
}

func (s *Spool) contentEnd(f File) (int64, error) {
	file, err := s.fsys.OpenRead(s.path(f.Base))
	if err != nil {
		return 0, err
	}
	defer file.Close()
	return ContentEnd(file, f.Size)
}

// History returns the stored history file of a timeline as it was received;
// fs.ErrNotExist without one.
func (s *Spool) History(t TimelineID) ([]byte, error) {
	return vfs.ReadFile(s.fsys, s.path(HistoryName(t)))
}

// PutHistory stores a history file durably, byte for byte. It fails with
// ErrHistoryConflict if another content is there already: it is never replaced.
func (s *Spool) PutHistory(t TimelineID, content []byte) error {
	old, err := s.History(t)
	switch {
	case err == nil && bytes.Equal(old, content):
		return nil
	case err == nil:
		return fmt.Errorf("%s in %s: %w", HistoryName(t), s.dir, ErrHistoryConflict)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := vfs.WriteFile(s.fsys, s.path(HistoryName(t)), s.cluster.FileMode, content); err != nil {
		return err
	}
	s.onSeal()
	return nil
}

func (s *Spool) path(base string) string { return path.Join(s.dir, base) }

// contentChunk is how much of a segment is looked at in one piece.
const contentChunk = 128 << 10

// ContentEnd is the offset behind the last byte of the first size bytes of r
// that is not zero: where the WAL of a partial ends, but for zeros. It looks
// from the end backwards. A file that is appended to meanwhile has everything
// below the result written, because a receiver writes in order.
func ContentEnd(r io.ReaderAt, size int64) (int64, error) {
	buf := make([]byte, min(contentChunk, size))
	for end := size; end > 0; {
		begin := max(0, end-contentChunk)
		chunk := buf[:end-begin]
		n, err := r.ReadAt(chunk, begin)
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		if i := lastNonZero(chunk[:n]); i >= 0 {
			return begin + int64(i) + 1, nil
		}
		end = begin
	}
	return 0, nil
}

var zeros [contentChunk]byte

func isZero(p []byte) bool { return bytes.Equal(p, zeros[:len(p)]) }

func lastNonZero(p []byte) int {
	if isZero(p) {
		return -1
	}
	for i := len(p) - 1; ; i-- {
		if p[i] != 0 {
			return i
		}
	}
}
