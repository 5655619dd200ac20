package vfs

import (
	"errors"
	"io/fs"
	"sync"
)

// OpKind names an operation of an [FS] or a [File].
type OpKind string

// The operations, each named after its method; OpUnlock and OpClose are Close
// of a lock and of a file.
const (
	OpCreate      OpKind = "create"
	OpOpenRead    OpKind = "openread"
	OpOpenWrite   OpKind = "openwrite"
	OpRename      OpKind = "rename"
	OpLink        OpKind = "link"
	OpRemove      OpKind = "remove"
	OpMkdir       OpKind = "mkdir"
	OpReadDir     OpKind = "readdir"
	OpSyncDir     OpKind = "syncdir"
	OpLock        OpKind = "lock"
	OpUnlock      OpKind = "unlock"
	OpReadAt      OpKind = "readat"
	OpWriteAt     OpKind = "writeat"
	OpSize        OpKind = "size"
	OpPreallocate OpKind = "preallocate"
	OpSync        OpKind = "sync"
	OpWriteback   OpKind = "writeback"
	OpClose       OpKind = "close"
)

// Op is one operation that is about to happen.
type Op struct {
	Kind    OpKind
	Name    string // as it was given; of a file, as it was opened
	NewName string // of OpRename and OpLink
	Offset  int64  // of OpReadAt, OpWriteAt and OpWriteback
	Len     int64  // bytes of these, the size of OpPreallocate

	Index    int // how many operations came before it
	Mutation int // how many of them mutate
}

// Mutates tells whether the operation changes what a crash leaves. A sync does.
func (o Op) Mutates() bool {
	switch o.Kind {
	case OpCreate, OpRename, OpLink, OpRemove, OpMkdir, OpSyncDir, OpWriteAt, OpPreallocate, OpSync:
		return true
	}
	return false
}

// Fault is an [FS] that asks a hook before each operation of another one and of
// its files. It is as safe for concurrent use as the hook, which is called from
// the goroutine of the operation and may block it.
//
// If the hook returns an error, the operation fails with it, wrapped with the
// name, and has no effect, unless [After], [ShortWrite] or [LoseUnsynced] says
// otherwise. OpClose and OpUnlock always take effect, so that nothing leaks.
type Fault struct {
	fsys FS
	hook func(Op) error
	gate sync.Locker // held over an operation and its hook; nil: not serialised

	mu        sync.Mutex
	ops       int
	mutations int
}

// NewFault returns an FS that does what fsys does, as far as the hook lets it.
// A nil hook lets it do everything, and Counts tells how much that was.
func NewFault(fsys FS, hook func(Op) error) *Fault { return &Fault{fsys: fsys, hook: hook} }

// Counts returns how many operations were begun, and how many of them mutate.
func (f *Fault) Counts() (ops, mutations int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ops, f.mutations
}

// After lets the operation take effect and then fail with err, also if it has
// failed by itself. An open file or a lock that it returned is closed.
func After(err error) error { return &verdict{effect: true, short: -1, err: err} }

// ShortWrite lets a WriteAt write the first n bytes and then fail with err. Any
// other operation fails without effect.
func ShortWrite(n int, err error) error { return &verdict{short: max(n, 0), err: err} }

// LoseUnsynced lets a Sync of a file of a [Mem] fail with err, as fsync(2) does
// on Linux: what the file had that was not synced counts as clean, so that the
// next Sync succeeds without making it durable. For files of another FS, and
// for any other operation, it is nothing more than err.
func LoseUnsynced(err error) error { return &verdict{short: -1, lose: true, err: err} }

// verdict is what becomes of an operation. It is an error so that a hook can
// return it.
type verdict struct {
	effect bool // it takes effect
	short  int  // of a WriteAt, how many bytes take effect; -1: as effect says
	lose   bool // a Sync loses what it should have synced
	err    error
}

func (v *verdict) Error() string { return v.err.Error() }
func (v *verdict) Unwrap() error { return v.err }

// begin numbers an operation and asks the hook. done is to be called after the
// operation.
func (f *Fault) begin(op Op) (v verdict, done func()) {
	done = func() {}
	if f.gate != nil {
		f.gate.Lock()
		done = f.gate.Unlock
	}
	f.mu.Lock()
	op.Index, op.Mutation = f.ops, f.mutations
	f.ops++
	if op.Mutates() {
		f.mutations++
	}
	f.mu.Unlock()

	var err error
	if f.hook != nil {
		err = f.hook(op)
	}
	if err == nil {
		return verdict{effect: true, short: -1}, done
	}
	v = verdict{short: -1, err: err}
	if special := (*verdict)(nil); errors.As(err, &special) {
		v = *special
	}
	v.err = &fs.PathError{Op: string(op.Kind), Path: op.Name, Err: v.err}
	return v, done
}

// run does an operation that returns nothing but an error.
func (f *Fault) run(op Op, effect func() error) error {
	v, done := f.begin(op)
	defer done()
	if !v.effect {
		return v.err
	}
	return v.wins(effect())
}

// wins returns what an operation with an effect returns, if err is what the
// file system has returned.
func (v *verdict) wins(err error) error {
	if v.err != nil {
		return v.err
	}
	return err
}
