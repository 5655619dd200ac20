package vfs

import (
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// Mem is a file system in memory that knows what was synced, so that a test can
// ask for the disk as it would be found after a power loss ([Mem.CrashClone])
// or after the end of the process ([Mem.KillClone]). Both can be done thousands
// of times: clones share the blocks of their files until one of them is written.
//
// Names are resolved from one root directory, "a" and "./a" like "/a". Nothing
// stands for users: permissions are recorded but not checked. Directories cannot
// be renamed. A Mem is safe for concurrent use.
type Mem struct {
	mu       sync.Mutex
	root     *inode
	log      []dirOp // entry operations that no SyncDir has made durable, oldest first
	capacity int64   // bytes; 0: no limit
	used     int64   // bytes, whole blocks
	made     uint64  // files that were ever made
}

// NewMem returns an empty file system with a root directory and no limit.
func NewMem() *Mem { return &Mem{root: newDir(0o755)} }

// SetCapacity limits the blocks of all files to a number of bytes. WriteAt and
// Preallocate fail with ENOSPC when they need a block beyond it; blocks that
// files have stay usable. 0 lifts the limit.
func (m *Mem) SetCapacity(bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.capacity = bytes
}

// Used returns how many bytes the blocks of all files take, a multiple of 4 KiB.
// A removed file counts until its last handle is closed.
func (m *Mem) Used() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.used
}

// Perm returns the permissions that a file or directory was made with.
func (m *Mem) Perm(name string) (fs.FileMode, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	ino, err := m.find(name)
	if err != nil {
		return 0, &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	return ino.perm, nil
}

// Create implements [FS].
func (m *Mem) Create(name string, perm fs.FileMode) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	ino := newFile(perm, m.made+1)
	if err := m.add(name, ino); err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	m.made++
	return m.open(name, ino, true), nil
}

// OpenRead implements [FS].
func (m *Mem) OpenRead(name string) (File, error) { return m.openFile(name, false) }

// OpenWrite implements [FS].
func (m *Mem) OpenWrite(name string) (File, error) { return m.openFile(name, true) }

func (m *Mem) openFile(name string, write bool) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	ino, err := m.find(name)
	if err == nil && ino.isDir() {
		err = syscall.EISDIR
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return m.open(name, ino, write), nil
}

func (m *Mem) open(name string, ino *inode, write bool) *memFile {
	ino.opens++
	return &memFile{mem: m, ino: ino, name: name, write: write}
}

// Rename implements [FS]. A rename from one directory to another is one
// operation in both of them: a crash keeps or loses it as a whole.
func (m *Mem) Rename(oldName, newName string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.rename(oldName, newName); err != nil {
		return &os.LinkError{Op: "rename", Old: oldName, New: newName, Err: err}
	}
	return nil
}

func (m *Mem) rename(oldName, newName string) error {
	ino, err := m.find(oldName)
	if err != nil {
		return err
	}
	toDir, to, err := m.walk(newName)
	if err != nil {
		return err
	}
	there := toDir.lookup(to)
	switch {
	case ino.isDir():
		return syscall.EISDIR
	case there == ino:
		return nil // rename(2) leaves both names of one file alone
	case there != nil && there.isDir():
		return fs.ErrExist
	}
	fromDir, from, err := m.walk(oldName)
	if err != nil {
		return err
	}
	m.change(change{toDir, to, ino}, change{fromDir, from, nil})
	return nil
}

// Link implements [FS].
func (m *Mem) Link(oldName, newName string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	ino, err := m.find(oldName)
	if err == nil && ino.isDir() {
		err = syscall.EPERM
	}
	if err == nil {
		err = m.add(newName, ino)
	}
	if err != nil {
		return &os.LinkError{Op: "link", Old: oldName, New: newName, Err: err}
	}
	return nil
}

// Remove implements [FS]. A directory must be empty.
func (m *Mem) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.remove(name); err != nil {
		return &fs.PathError{Op: "remove", Path: name, Err: err}
	}
	return nil
}

func (m *Mem) remove(name string) error {
	dir, base, err := m.walk(name)
	if err != nil {
		return err
	}
	ino := dir.lookup(base)
	switch {
	case ino == nil:
		return fs.ErrNotExist
	case ino == m.root:
		return syscall.EBUSY
	case len(ino.entries) > 0:
		return syscall.ENOTEMPTY
	}
	m.change(change{dir, base, nil})
	return nil
}

// Mkdir implements [FS].
func (m *Mem) Mkdir(name string, perm fs.FileMode) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.add(name, newDir(perm)); err != nil {
		return &fs.PathError{Op: "mkdir", Path: name, Err: err}
	}
	return nil
}

// ReadDir implements [FS].
func (m *Mem) ReadDir(name string) ([]DirEntry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, err := m.findDir(name)
	if err != nil {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: err}
	}
	entries := make([]DirEntry, 0, len(dir.entries))
	for base, ino := range dir.entries {
		entries = append(entries, DirEntry{Name: base, Size: ino.cur.size, Dir: ino.isDir(), ID: FileID{Inode: ino.number}})
	}
	slices.SortFunc(entries, func(a, b DirEntry) int { return strings.Compare(a.Name, b.Name) })
	return entries, nil
}

// SyncDir implements [FS]. The entry of the directory itself is in its parent,
// and is not synced.
func (m *Mem) SyncDir(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, err := m.findDir(name)
	if err != nil {
		return &fs.PathError{Op: "sync", Path: name, Err: err}
	}
	m.syncEntries(dir)
	return nil
}

// Lock implements [FS]. The lock is known to this Mem only, not to its clones.
func (m *Mem) Lock(name string) (io.Closer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, err := m.findDir(name)
	if err == nil && dir.lock != nil {
		err = ErrLocked
	}
	if err != nil {
		return nil, &fs.PathError{Op: "lock", Path: name, Err: err}
	}
	dir.lock = &memLock{mem: m, dir: dir, name: name}
	return dir.lock, nil
}

// memLock is the lock of a directory, as long as the directory points to it.
type memLock struct {
	mem  *Mem
	dir  *inode
	name string
}

func (l *memLock) Close() error {
	l.mem.mu.Lock()
	defer l.mem.mu.Unlock()
	if l.dir.lock != l {
		return &fs.PathError{Op: "close", Path: l.name, Err: fs.ErrClosed}
	}
	l.dir.lock = nil
	return nil
}

// walk returns the directory that holds name, and the last part of name, which
// is empty for the root.
func (m *Mem) walk(name string) (dir *inode, base string, err error) {
	if name == "" {
		return nil, "", fs.ErrNotExist
	}
	dir = m.root
	elems := strings.Split(path.Clean("/" + name)[1:], "/")
	last := len(elems) - 1
	for _, elem := range elems[:last] {
		dir = dir.entries[elem]
		if dir == nil {
			return nil, "", fs.ErrNotExist
		}
		if !dir.isDir() {
			return nil, "", syscall.ENOTDIR
		}
	}
	return dir, elems[last], nil
}

// find returns what name stands for.
func (m *Mem) find(name string) (*inode, error) {
	dir, base, err := m.walk(name)
	if err != nil {
		return nil, err
	}
	ino := dir.lookup(base)
	if ino == nil {
		return nil, fs.ErrNotExist
	}
	return ino, nil
}

func (m *Mem) findDir(name string) (*inode, error) {
	ino, err := m.find(name)
	if err == nil && !ino.isDir() {
		err = syscall.ENOTDIR
	}
	return ino, err
}

// add gives ino a name that must be free.
func (m *Mem) add(name string, ino *inode) error {
	dir, base, err := m.walk(name)
	if err != nil {
		return err
	}
	if dir.lookup(base) != nil {
		return fs.ErrExist
	}
	m.change(change{dir, base, ino})
	return nil
}

// change does one entry operation, atomically, and remembers it for SyncDir.
func (m *Mem) change(op ...change) {
	for _, c := range op {
		before := c.dir.entries[c.name]
		c.apply(c.dir.entries)
		if c.to != nil {
			c.to.links++
		}
		if before != nil {
			before.links--
			m.release(before)
		}
	}
	m.log = append(m.log, op)
}

// release frees the blocks of a file that nobody can reach any more.
func (m *Mem) release(ino *inode) {
	if ino.links == 0 && ino.opens == 0 {
		m.used -= ino.cur.blocks() * pageSize
	}
}

// takeBlocks counts n more blocks as used, or nothing if they do not fit.
func (m *Mem) takeBlocks(n int64) bool {
	if m.capacity > 0 && n > 0 && m.used+n*pageSize > m.capacity {
		return false
	}
	m.used += n * pageSize
	return true
}
