package segment

import "github.com/walrecv/walrecv/internal/vfs"

// aheadName is what the file of the next segment is called before it is needed. It is
// a scratch file: nobody takes it for WAL, and what a crash leaves of it is removed at
// the next start.
const aheadName = "ahead" + scratchSuffix

// ahead is the file of the next segment, made and preallocated while the current one
// fills, since nothing is read from the server meanwhile. That takes a moment, and on a
// file system that cannot reserve blocks as long as to write a segment of zeros.
//
// Durability has the order of a file that is made when it is needed: it gets its name
// when the first bytes are about to be written to it, and the sync that first covers
// them syncs the directory, too. A crash before that leaves the name of a scratch file
// or of a partial without acknowledged WAL.
type ahead struct {
	done chan struct{} // closed when there is nothing to wait for any more
	made bool          // the file is there, of its full size
}

// prepare begins to make the next file, if it has room: it must not be what goes past
// the limit of the spool. It is a wish.
func (w *Writer) prepare() {
	if w.ahead != nil || !w.spool.budget.spare() {
		return
	}
	a := &ahead{done: make(chan struct{})}
	w.ahead = a
	go func() {
		defer close(a.done)
		a.made = w.makeAhead()
	}()
}

func (w *Writer) makeAhead() bool {
	path := w.spool.path(aheadName)
	file, err := w.spool.fsys.Create(path, w.spool.cluster.FileMode)
	if err != nil {
		return false
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

// takeAhead waits for what was begun, and tells whether there is a file.
func (w *Writer) takeAhead() bool {
	a := w.ahead
	if a == nil {
		return false
	}
	w.ahead = nil
	<-a.done
	return a.made
}

// dropAhead removes a file that was prepared. One that stays is in nobody's way but
// that of the next, which then is made when it is needed.
func (w *Writer) dropAhead() { _ = w.spool.fsys.Remove(w.spool.path(aheadName)) }
