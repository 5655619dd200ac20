package vfs

import (
	"io"
	"io/fs"
)

// Create implements [FS].
func (f *Fault) Create(name string, perm fs.FileMode) (File, error) {
	return f.open(OpCreate, name, func() (File, error) { return f.fsys.Create(name, perm) })
}

// OpenRead implements [FS].
func (f *Fault) OpenRead(name string) (File, error) {
	return f.open(OpOpenRead, name, func() (File, error) { return f.fsys.OpenRead(name) })
}

// OpenWrite implements [FS].
func (f *Fault) OpenWrite(name string) (File, error) {
	return f.open(OpOpenWrite, name, func() (File, error) { return f.fsys.OpenWrite(name) })
}

func (f *Fault) open(kind OpKind, name string, effect func() (File, error)) (File, error) {
	v, done := f.begin(Op{Kind: kind, Name: name})
	defer done()
	if !v.effect {
		return nil, v.err
	}
	file, err := effect()
	if err == nil && v.err != nil {
		file.Close()
	}
	if err := v.wins(err); err != nil {
		return nil, err
	}
	return &faultFile{fault: f, file: file, name: name}, nil
}

// Rename implements [FS].
func (f *Fault) Rename(oldName, newName string) error {
	return f.run(Op{Kind: OpRename, Name: oldName, NewName: newName}, func() error {
		return f.fsys.Rename(oldName, newName)
	})
}

// Link implements [FS].
func (f *Fault) Link(oldName, newName string) error {
	return f.run(Op{Kind: OpLink, Name: oldName, NewName: newName}, func() error {
		return f.fsys.Link(oldName, newName)
	})
}

// Remove implements [FS].
func (f *Fault) Remove(name string) error {
	return f.run(Op{Kind: OpRemove, Name: name}, func() error { return f.fsys.Remove(name) })
}

// Mkdir implements [FS].
func (f *Fault) Mkdir(name string, perm fs.FileMode) error {
	return f.run(Op{Kind: OpMkdir, Name: name}, func() error { return f.fsys.Mkdir(name, perm) })
}

// ReadDir implements [FS].
func (f *Fault) ReadDir(name string) (entries []DirEntry, err error) {
	err = f.run(Op{Kind: OpReadDir, Name: name}, func() (err error) {
		entries, err = f.fsys.ReadDir(name)
		return err
	})
	if err != nil {
		return nil, err
	}
	return entries, nil
}

// SyncDir implements [FS].
func (f *Fault) SyncDir(name string) error {
	return f.run(Op{Kind: OpSyncDir, Name: name}, func() error { return f.fsys.SyncDir(name) })
}

// Lock implements [FS].
func (f *Fault) Lock(name string) (io.Closer, error) {
	v, done := f.begin(Op{Kind: OpLock, Name: name})
	defer done()
	if !v.effect {
		return nil, v.err
	}
	lock, err := f.fsys.Lock(name)
	if err == nil && v.err != nil {
		lock.Close()
	}
	if err := v.wins(err); err != nil {
		return nil, err
	}
	return &faultLock{fault: f, lock: lock, name: name}, nil
}

type faultLock struct {
	fault *Fault
	lock  io.Closer
	name  string
}

func (l *faultLock) Close() error { return l.fault.close(OpUnlock, l.name, l.lock) }

// close closes c whatever the hook says.
func (f *Fault) close(kind OpKind, name string, c io.Closer) error {
	v, done := f.begin(Op{Kind: kind, Name: name})
	defer done()
	return v.wins(c.Close())
}

type faultFile struct {
	fault *Fault
	file  File
	name  string
}

func (f *faultFile) op(kind OpKind) Op { return Op{Kind: kind, Name: f.name} }

func (f *faultFile) ReadAt(p []byte, off int64) (n int, err error) {
	op := f.op(OpReadAt)
	op.Offset, op.Len = off, int64(len(p))
	err = f.fault.run(op, func() (err error) {
		n, err = f.file.ReadAt(p, off)
		return err
	})
	return n, err
}

func (f *faultFile) WriteAt(p []byte, off int64) (int, error) {
	op := f.op(OpWriteAt)
	op.Offset, op.Len = off, int64(len(p))
	v, done := f.fault.begin(op)
	defer done()
	switch {
	case v.short >= 0:
		p = p[:min(v.short, len(p))]
	case !v.effect:
		return 0, v.err
	}
	n, err := f.file.WriteAt(p, off)
	return n, v.wins(err)
}

func (f *faultFile) Size() (size int64, err error) {
	err = f.fault.run(f.op(OpSize), func() (err error) {
		size, err = f.file.Size()
		return err
	})
	return size, err
}

func (f *faultFile) Preallocate(size int64) error {
	op := f.op(OpPreallocate)
	op.Len = size
	return f.fault.run(op, func() error { return f.file.Preallocate(size) })
}

func (f *faultFile) Sync() error {
	v, done := f.fault.begin(f.op(OpSync))
	defer done()
	if v.lose {
		if file, ok := f.file.(interface{ loseUnsynced() }); ok {
			file.loseUnsynced()
		}
	}
	if !v.effect {
		return v.err
	}
	return v.wins(f.file.Sync())
}

func (f *faultFile) Writeback(off, n int64) error {
	op := f.op(OpWriteback)
	op.Offset, op.Len = off, n
	return f.fault.run(op, func() error { return f.file.Writeback(off, n) })
}

func (f *faultFile) Close() error { return f.fault.close(OpClose, f.name, f.file) }
