package segment

import "github.com/walrecv/walrecv/internal/vfs"

// aheadName is what the file of the next segment is called before it is needed. It is
// a scratch file: nobody takes it for WAL, and what a crash leaves of it is removed at
// the next start.
const aheadName = "ahead" + scratchSuffix

// prepare makes and preallocates the file of the next segment, while the current one
// fills: once for each segment, by who syncs, when all it came for is durable. Nothing
// is read from the server while a file is made, which on a file system that cannot
// reserve blocks takes as long as to write a segment of zeros. It is a wish: what fails
// is left to when the file is needed, and it must not be what goes past the limit of
// the spool.
//
// Durability has the order of a file that is made when it is needed: it gets its name
// when the first bytes are about to be written to it, and the sync that first covers
// them syncs the directory, too. A crash before that leaves the name of a scratch file,
// or of a partial without acknowledged WAL.
func (w *Writer) prepare(current *target) {
	if current == nil || current.followed || !w.spool.budget.spare() {
		return
	}
	current.followed = true
	w.mu.Lock()
	there := w.ahead
	w.mu.Unlock()
	if !there && w.makeAhead() {
		w.mu.Lock()
		w.ahead = true
		w.mu.Unlock()
	}
}

func (w *Writer) makeAhead() bool {
	file, err := w.spool.fsys.Create(w.spool.path(aheadName), w.spool.cluster.FileMode)
	if err != nil {
		return false // or Append is about to rename the last one
	}
	err = file.Preallocate(int64(w.size))
	file.Close() // nothing that counts was written through it
	if err != nil {
		w.dropAhead()
	}
	return err == nil
}

// create makes the file of a segment, from the one that was prepared if there is one.
// That is opened anew: the errors of a file name it as it was opened.
func (w *Writer) create(path string) (vfs.File, error) {
	if w.takeAhead() {
		if err := vfs.Move(w.spool.fsys, nil, w.spool.path(aheadName), path); err == nil {
			return w.spool.fsys.OpenWrite(path)
		}
		w.dropAhead()
	}
	return w.spool.fsys.Create(path, w.spool.cluster.FileMode)
}

// takeAhead tells whether there is a file, which is the caller's then.
func (w *Writer) takeAhead() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	there := w.ahead
	w.ahead = false
	return there
}

// dropAhead removes a file that was prepared. One that stays is in nobody's way but
// that of the next, which then is made when it is needed.
func (w *Writer) dropAhead() { _ = w.spool.fsys.Remove(w.spool.path(aheadName)) }
