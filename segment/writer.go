package segment

import (
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"github.com/walrecv/walrecv/internal/vfs"
)

var (
	// ErrPoisoned is returned by every call after a sync has failed. What is on
	// disk is unknown from then on, so nothing may be acknowledged any more.
	ErrPoisoned = errors.New("spool gave up after a failed sync")

	// ErrNotContiguous: WAL that does not begin where the last ended.
	ErrNotContiguous = errors.New("WAL is not contiguous")
)

// maxUnsealed is how many full segments may wait for their sync before Append
// does it itself: a disk that is slower than the network then slows the stream
// down instead of filling the page cache.
const maxUnsealed = 4

// Writer writes the WAL of one connection into the segment files of a spool.
//
// The order of durability, segment by segment: the partial is created with its
// full size; bytes are written at their offsets; Sync syncs the file and, once
// after creation, the directory; only then does the position that Sync returns
// cover them, and may be acknowledged. A full segment is synced, renamed to its
// final name, and the directory synced, before Sync returns a position at or
// behind its end.
//
// Append and Switch belong to one goroutine, Sync to one other (or the same),
// so that syncing runs beside receiving. A segment that was begun in an earlier
// run is written again from its first byte, over what is there and without
// truncating: it holds acknowledged WAL. Also bytes that are the same already
// are written, because an earlier run may have failed to sync them, and a page
// that the kernel takes for clean would never reach the disk.
type Writer struct {
	spool *Spool
	size  Size

	syncMu sync.Mutex // held while files are synced, renamed or exchanged

	mu       sync.Mutex // guards what follows
	timeline TimelineID
	pos      LSN     // end of what was written
	current  *target // being filled; nil at the start of a segment
	full     []*target
	err      error // set once, by the first failed sync

	ahead bool // the next segment's file is prepared

	compare []byte // owned by Append
}

// writebackPiece is how much is written before the system is told to begin to
// write it to the disk. Left to Sync, a segment would wait there until it is full,
// and the disk would wait for it.
const writebackPiece = 1 << 20

// target is one open partial.
type target struct {
	name     Name
	file     vfs.File
	begun    int64 // offset below which writing to the disk was begun; owned by Append
	zeroed   int64 // offset below which the disk has WAL or zeros; owned by Append
	named    bool  // its directory entry is durable
	followed bool  // the file behind it was prepared, or could not be; owned by Sync
	oldUntil int64 // offset below which an earlier run left bytes to compare
}

// NewWriter starts to write at a position that is the start of a segment.
func (s *Spool) NewWriter(at Position) (*Writer, error) {
	if s.cluster.Size.Offset(at.LSN) != 0 {
		return nil, fmt.Errorf("start writing at %s: %w", at, ErrNotContiguous)
	}
	s.live.Store(uint32(at.Timeline))
	if sealed := s.sealed.Load(); sealed == nil || sealed.LSN < at.LSN { // lower it is to fill a hole
		s.sealed.CompareAndSwap(sealed, &at)
	}
	return &Writer{spool: s, size: s.cluster.Size, timeline: at.Timeline, pos: at.LSN}, nil
}

// Room returns nil if there is room in the spool to begin a segment, else what is
// closed when it is worth asking again: see [SpoolOptions]. Nothing enforces it.
func (w *Writer) Room() <-chan struct{} { return w.spool.budget.room() }

// Append writes p, which begins at the given position. It returns once the
// bytes are in the page cache. A full disk is an error that wraps ENOSPC, after
// which the same WAL can be sent again through a new Writer.
func (w *Writer) Append(at LSN, p []byte) error {
	w.mu.Lock()
	pos, err := w.pos, w.err
	w.mu.Unlock()
	if err != nil {
		return err
	}
	if at != pos {
		return fmt.Errorf("received WAL at %s, expected %s: %w", at, pos, ErrNotContiguous)
	}
	for len(p) > 0 {
		n := min(int64(len(p)), int64(w.size)-w.size.Offset(at))
		if err := w.appendToSegment(at, p[:n]); err != nil {
			return err
		}
		at, p = at+LSN(n), p[n:]
	}
	return nil
}

// appendToSegment writes bytes that do not cross the end of their segment.
func (w *Writer) appendToSegment(at LSN, p []byte) error {
	t, err := w.target(at)
	if err != nil {
		return err
	}
	off := w.size.Offset(at)
	if off < t.oldUntil {
		if err := w.compareOld(t, off, p); err != nil {
			return err
		}
	}
	if _, err := t.file.WriteAt(p, off); err != nil {
		return fmt.Errorf("write %s: %w", w.partialName(t.name), err)
	}
	w.zeroAhead(t, off, off+int64(len(p)))
	w.writeback(t, off+int64(len(p)))
	w.mu.Lock()
	w.pos = at + LSN(len(p))
	filled := w.size.Offset(w.pos) == 0
	if filled {
		w.full = append(w.full, t)
		w.current = nil
	}
	tooMany := len(w.full) > maxUnsealed
	w.mu.Unlock()
	if tooMany {
		_, err := w.Sync()
		return err
	}
	return nil
}

// writeback makes the disk busy with what was written of a segment up to end. If it
// cannot be had, Sync does it all.
func (w *Writer) writeback(t *target, end int64) {
	end -= end % writebackPiece
	if end <= t.begun || w.spool.noSync {
		return
	}
	_ = t.file.Writeback(t.begun, end-t.begun)
	t.begun = end
}

// zeroAhead writes zeros behind little WAL, from off to end, where commits wait for its
// sync. To write the first time into what was only preallocated changes what the file
// system knows of the file, so each sync would wait for its journal, too. Now one in
// many does. Behind much WAL that is not worth writing twice. If zeros cannot be
// written, nothing is lost.
func (w *Writer) zeroAhead(t *target, off, end int64) {
	if !w.spool.synchronous || end <= t.zeroed || end-off > int64(len(zeros))/2 {
		return
	}
	from := max(end, t.oldUntil)
	t.zeroed = min(from+int64(len(zeros)), int64(w.size))
	_, _ = t.file.WriteAt(zeros[:t.zeroed-from], from)
}

// poison makes every call fail from now on.
func (w *Writer) poison(err error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = fmt.Errorf("%w: %w", ErrPoisoned, err)
	}
	return w.err
}

// target is the open partial for a position, opened if the segment is new.
func (w *Writer) target(at LSN) (*target, error) {
	w.mu.Lock()
	t := w.current
	w.mu.Unlock()
	if t != nil {
		return t, nil
	}
	t, err := w.open(Name{Timeline: w.timeline, Number: w.size.Number(at)})
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	w.current = t
	w.mu.Unlock()
	return t, nil
}

// open creates the partial of a segment, or opens the one that an earlier run
// left, and gives it its full size.
func (w *Writer) open(n Name) (*target, error) {
	path := w.spool.path(w.partialName(n))
	t := &target{name: n}
	file, err := w.spool.fsys.OpenWrite(path)
	if errors.Is(err, fs.ErrNotExist) {
		file, err = w.create(path)
	} else if err == nil {
		file, t.oldUntil, err = w.adopt(n, file)
	}
	if err != nil {
		return nil, fmt.Errorf("open segment: %w", err)
	}
	t.file = file
	if err := file.Preallocate(int64(w.size)); err != nil {
		file.Close()
		return nil, fmt.Errorf("preallocate %s: %w", w.partialName(n), err)
	}
	w.spool.budget.add(int64(w.size), 0)
	return t, nil
}

// adopt takes over a partial of an earlier run. A longer one than a segment can
// be is set aside whole; a shorter one, left by a crash while it was being
// preallocated or by a full disk, is extended by the caller.
func (w *Writer) adopt(n Name, file vfs.File) (vfs.File, int64, error) {
	size, err := file.Size()
	if err == nil && size > int64(w.size) {
		file.Close()
		return w.replaceOversized(n, size)
	}
	var end int64
	if err == nil {
		end, err = ContentEnd(file, size)
	}
	if err != nil {
		file.Close()
		return nil, 0, err
	}
	return file, end, nil
}

func (w *Writer) replaceOversized(n Name, size int64) (vfs.File, int64, error) {
	base := w.partialName(n)
	aside, err := w.spool.freeName(base + damagedSuffix)
	if err != nil {
		return nil, 0, err
	}
	w.spool.log.Warn("partial segment is too long and was set aside",
		"file", base, "size", size, "want", int64(w.size), "kept_as", aside)
	if err := vfs.Rename(w.spool.fsys, nil, w.spool.path(base), w.spool.path(aside)); err != nil {
		return nil, 0, err
	}
	file, err := w.spool.fsys.Create(w.spool.path(base), w.spool.cluster.FileMode)
	return file, 0, err
}

// compareOld compares what is about to be written with what an earlier run left
// there. Zeros were never written. Anything else that differs is another WAL
// under the same name: a server that was rolled back, or a split brain.
func (w *Writer) compareOld(t *target, off int64, p []byte) error {
	n := min(int64(len(p)), t.oldUntil-off)
	if int64(len(w.compare)) < n {
		w.compare = make([]byte, max(n, contentChunk))
	}
	old := w.compare[:n]
	if _, err := t.file.ReadAt(old, off); err != nil {
		return fmt.Errorf("compare %s with the stream: %w", w.partialName(t.name), err)
	}
	for i, b := range old {
		if b != p[i] && b != 0 {
			return w.setAside(t, off, off+int64(i))
		}
	}
	return nil
}

// setAside keeps the partial as it was found under another name, and goes on
// with a copy of what was confirmed below off. At every moment the segment's
// partial is there under its own name, the old or the new one.
func (w *Writer) setAside(t *target, off, differs int64) error {
	w.syncMu.Lock()
	defer w.syncMu.Unlock()
	base := w.partialName(t.name)
	aside, err := w.spool.freeName(base + divergedSuffix)
	if err != nil {
		return err
	}
	w.spool.log.Error("the server sends other WAL than it sent before: was it restored from a snapshot, or is it another server? The old WAL was set aside",
		"file", base, "first_difference", (t.name.Start(w.size) + LSN(differs)).String(), "kept_as", aside)
	file, err := w.copyOf(t, off)
	if err != nil {
		return fmt.Errorf("set %s aside: %w", base, err)
	}
	err = vfs.LinkKeep(w.spool.fsys, t.file, w.spool.path(base), w.spool.path(aside))
	if err == nil {
		err = vfs.Rename(w.spool.fsys, file, w.spool.path(base+scratchSuffix), w.spool.path(base))
	}
	if err != nil {
		file.Close()
		// There was a sync in it, and a failed sync is final.
		return w.poison(fmt.Errorf("set %s aside: %w", base, err))
	}
	t.file.Close()
	t.file, t.named, t.oldUntil = file, true, 0
	return nil
}

// copyOf makes a new, full-sized file with the first n bytes of a target.
func (w *Writer) copyOf(t *target, n int64) (vfs.File, error) {
	path := w.spool.path(w.partialName(t.name) + scratchSuffix)
	if err := w.spool.fsys.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	file, err := w.spool.fsys.Create(path, w.spool.cluster.FileMode)
	if err != nil {
		return nil, err
	}
	err = file.Preallocate(int64(w.size))
	for done := int64(0); err == nil && done < n; {
		chunk := w.compare[:min(int64(len(w.compare)), n-done)]
		if _, err = t.file.ReadAt(chunk, done); err == nil {
			_, err = file.WriteAt(chunk, done)
		}
		done += int64(len(chunk))
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// Sync makes everything durable that was written before the call, seals the
// segments that are full, and returns the position up to which WAL is durable.
// It runs beside Append. The first error is final: this Writer and, because
// the state of the disk is unknown, this process must acknowledge nothing more.
func (w *Writer) Sync() (LSN, error) {
	w.syncMu.Lock()
	defer w.syncMu.Unlock()
	w.mu.Lock()
	full, current, pos, err := w.full, w.current, w.pos, w.err
	w.mu.Unlock()
	if err == nil {
		err = w.syncTargets(full, current)
	}
	if err != nil {
		return 0, w.poison(err)
	}
	w.prepare(current)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.full = w.full[len(full):]
	return pos, nil
}

func (w *Writer) syncTargets(full []*target, current *target) error {
	for _, t := range full {
		if err := w.seal(t); err != nil {
			return fmt.Errorf("seal %s: %w", t.name.Format(w.size), err)
		}
	}
	if len(full) > 0 {
		w.spool.onSeal()
	}
	if current == nil || w.spool.noSync {
		return nil
	}
	if err := current.file.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", w.partialName(current.name), err)
	}
	if !current.named {
		if err := w.spool.fsys.SyncDir(w.spool.dir); err != nil {
			return fmt.Errorf("sync spool directory: %w", err)
		}
		current.named = true
	}
	return nil
}

// seal syncs a full segment and gives it its final name, durably.
func (w *Writer) seal(t *target) error {
	from := w.spool.path(w.partialName(t.name))
	to := w.spool.path(t.name.Format(w.size))
	file := t.file
	if w.spool.noSync {
		file = nil
	}
	err := w.spool.Exchange(func() error {
		replaced, err := w.keepOther(t)
		if err != nil {
			return err
		}
		if err := vfs.Rename(w.spool.fsys, file, from, to); err != nil {
			return err
		}
		w.spool.budget.add(-int64(w.size), int64(w.size)-replaced)
		return nil
	})
	if err != nil {
		return err
	}
	w.spool.sealed.Store(&Position{Timeline: t.name.Timeline, LSN: t.name.End(w.size)})
	return t.file.Close()
}

// keepOther sets aside a complete segment that stands under the name already
// and differs. That happens where streaming had to start below it, to fill a
// hole; mostly the two are equal. replaced is how many bytes will not stand under
// the name any more.
func (w *Writer) keepOther(t *target) (replaced int64, err error) {
	base := t.name.Format(w.size)
	other, err := w.spool.fsys.OpenRead(w.spool.path(base))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer other.Close()
	if replaced, err = other.Size(); err != nil {
		return 0, err
	}
	equal, err := equalContent(t.file, other, int64(w.size))
	if err != nil || equal {
		return replaced, err
	}
	aside, err := w.spool.freeName(base + divergedSuffix)
	if err != nil {
		return 0, err
	}
	w.spool.log.Error("the server sends other WAL than a complete segment holds; the old segment was set aside",
		"file", base, "kept_as", aside)
	return replaced, vfs.LinkKeep(w.spool.fsys, other, w.spool.path(base), w.spool.path(aside))
}

func equalContent(a, b vfs.File, size int64) (bool, error) {
	bufA, bufB := make([]byte, contentChunk), make([]byte, contentChunk)
	for off := int64(0); off < size; off += contentChunk {
		n := min(contentChunk, size-off)
		if _, err := a.ReadAt(bufA[:n], off); err != nil {
			return false, err
		}
		if _, err := b.ReadAt(bufB[:n], off); err != nil {
			return false, err
		}
		if string(bufA[:n]) != string(bufB[:n]) {
			return false, nil
		}
	}
	return true, nil
}

// Switch ends the timeline that was written and goes on with the next, which
// left it at the given position. In this order: what was written is synced, the
// old partial stays under its name, the next timeline's history is durable, and
// only then does its first segment begin, at its start: it holds the bytes
// before the fork as well. No Sync may run meanwhile.
func (w *Writer) Switch(next TimelineID, fork LSN, history []byte) error {
	pos, err := w.Sync()
	if err != nil {
		return err
	}
	if next <= w.timeline || fork > pos {
		return fmt.Errorf("switch from timeline %d at %s to timeline %d at %s: %w",
			uint32(w.timeline), pos, uint32(next), fork, ErrNotContiguous)
	}
	if err := w.closeCurrent(); err != nil {
		return err
	}
	if err := w.spool.PutHistory(next, history); err != nil {
		return err
	}
	w.spool.live.Store(uint32(next))
	w.spool.onSeal() // the partial that was left is final now
	w.mu.Lock()
	w.timeline, w.pos = next, w.size.Floor(fork)
	w.mu.Unlock()
	return nil
}

// Position is the end of what was written.
func (w *Writer) Position() Position {
	w.mu.Lock()
	defer w.mu.Unlock()
	return Position{Timeline: w.timeline, LSN: w.pos}
}

// Close gives up the open files without syncing them. The partial stays.
func (w *Writer) Close() error {
	w.syncMu.Lock()
	defer w.syncMu.Unlock()
	if w.takeAhead() {
		w.dropAhead()
	}
	err := w.closeCurrent()
	for _, t := range w.full {
		err = errors.Join(err, w.close(t))
	}
	w.full = nil
	return err
}

func (w *Writer) closeCurrent() error {
	w.mu.Lock()
	t := w.current
	w.current = nil
	w.mu.Unlock()
	if t == nil {
		return nil
	}
	return w.close(t)
}

// close gives up a partial, which stays.
func (w *Writer) close(t *target) error {
	w.spool.budget.add(-int64(w.size), 0)
	return t.file.Close()
}

func (w *Writer) partialName(n Name) string { return n.Format(w.size) + PartialSuffix }
