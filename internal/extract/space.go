package extract

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"

	"github.com/walrecv/walrecv/internal/backup"
	"github.com/walrecv/walrecv/internal/vfs"
)

// Permissions. The server's tars say what files and directories have; nobody but
// the owner, and perhaps the group, gets anything.
const (
	dirMode   fs.FileMode = 0o700
	fileMode  fs.FileMode = 0o600
	mayBe     fs.FileMode = 0o750
	groupRead fs.FileMode = 0o040
)

// space is the data directory or a tablespace: a directory in which files are made.
// Paths are relative to it, with slashes. It is safe for concurrent use.
type space struct {
	tablespace backup.Tablespace
	oid        uint32 // 0: the data directory
	prefix     string // of its paths in the manifest
	path       string // absolute
	inPlace    bool   // within pg_tblspc, as a directory
	owner      *Owner

	root *os.Root
	lock io.Closer

	above  []string    // directories above it that were made, from the outside
	made   bool        // it was made, and not found
	before os.FileInfo // what it was when it was found
	set    bool        // it has other permissions now, perhaps

	mu   sync.Mutex
	dirs map[string]bool // directories in it that were made, and "."
	top  map[string]bool // names directly in it that were made
	mode fs.FileMode     // permissions of its directories
}

// open makes the directory if it is not there, and opens it.
func (s *space) open() error {
	s.dirs, s.top = map[string]bool{".": true}, map[string]bool{}
	s.mode = dirMode
	err := s.make()
	if err == nil {
		s.root, err = os.OpenRoot(s.path)
	}
	if err == nil {
		s.before, err = s.root.Stat(".")
	}
	return err
}

// claim locks the directory, which must be empty.
func (s *space) claim() (err error) {
	if s.lock, err = vfs.OS().Lock(s.path); err != nil {
		return err
	}
	names, err := s.names()
	if err != nil {
		return err
	}
	if len(names) > 0 {
		return &NotEmptyError{Dir: s.path, Example: names[0]}
	}
	return nil
}

// make makes the directory and those above it, if they are not there.
func (s *space) make() error {
	var missing []string
	for dir := s.path; ; dir = filepath.Dir(dir) {
		_, err := os.Stat(dir)
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) || dir == filepath.Dir(dir) {
			return err
		}
		missing = append(missing, dir)
	}
	for i := len(missing) - 1; i >= 0; i-- {
		err := os.Mkdir(missing[i], dirMode)
		if errors.Is(err, fs.ErrExist) {
			continue // somebody else was quicker, and has made it for something
		}
		if err != nil {
			return err
		}
		if s.made = i == 0; !s.made {
			s.above = append(s.above, missing[i])
		}
		if s.owner != nil {
			if err := os.Lchown(missing[i], s.owner.UID, s.owner.GID); err != nil {
				return err
			}
		}
	}
	return nil
}

// names lists what stands directly in the directory.
func (s *space) names() ([]string, error) {
	d, err := s.root.Open(".")
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.Readdirnames(-1)
}

// note remembers that something was made in the directory.
func (s *space) note(name string) {
	first, _, _ := strings.Cut(name, "/")
	s.top[first] = true
}

// mkdir makes a directory, and those above it. If it was made before, it only gets
// its permissions: files of one tar are extracted before the directories of another
// that is before it.
func (s *space) mkdir(name string, mode fs.FileMode) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	mode = mode&mayBe | dirMode
	// The directory itself is in no tar. What is directly in it has its permissions.
	if path.Dir(name) == "." {
		s.mode |= mode
	}
	if s.dirs[name] {
		return s.root.Chmod(name, mode)
	}
	return s.mkdirAll(name, mode)
}

// parent makes the directories above a file.
func (s *space) parent(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mkdirAll(path.Dir(name), dirMode)
}

// mkdirAll makes a directory unless it was made before. What is there and was not
// made, a link say, is an error.
func (s *space) mkdirAll(name string, mode fs.FileMode) error {
	if s.dirs[name] {
		return nil
	}
	if err := s.mkdirAll(path.Dir(name), dirMode); err != nil {
		return err
	}
	if err := s.root.Mkdir(name, mode); err != nil {
		return err
	}
	s.note(name)
	s.dirs[name] = true
	if err := s.root.Chmod(name, mode); err != nil { // the umask took bits away
		return err
	}
	return s.chown(name)
}

// create makes a file, which must not be there, and the directories above it.
func (s *space) create(name string, mode fs.FileMode) (*os.File, error) {
	if err := s.parent(name); err != nil {
		return nil, err
	}
	mode = mode&mayBe | fileMode
	f, err := s.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.note(name)
	s.mu.Unlock()
	err = f.Chmod(mode)
	if err == nil && s.owner != nil {
		err = f.Chown(s.owner.UID, s.owner.GID)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// write makes a small file.
func (s *space) write(name string, mode fs.FileMode, content []byte) error {
	f, err := s.create(name, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Close())
}

// symlink makes a link.
func (s *space) symlink(to, name string) error {
	if err := s.parent(name); err != nil {
		return err
	}
	if err := s.root.Symlink(to, name); err != nil {
		return err
	}
	return s.chown(name)
}

func (s *space) chown(name string) error {
	if s.owner == nil {
		return nil
	}
	return s.root.Lchown(name, s.owner.UID, s.owner.GID)
}

// settle gives the directory itself its permissions and its owner.
func (s *space) settle() error {
	if s.inPlace {
		return nil // it was made like any other directory
	}
	s.set = true
	if err := s.root.Chmod(".", s.mode); err != nil {
		return err
	}
	return s.chown(".")
}

// undo removes what was made, and gives the directory back what it had.
func (s *space) undo() error {
	if s.root == nil {
		return s.unmake()
	}
	var failed error
	for name := range s.top {
		failed = errors.Join(failed, s.root.RemoveAll(name))
	}
	if s.set && !s.made {
		failed = errors.Join(failed, s.giveBack())
	}
	return errors.Join(failed, s.unmake())
}

// giveBack gives a directory that was found its permissions and its owner back.
func (s *space) giveBack() error {
	now, err := s.root.Stat(".")
	if err != nil {
		return err
	}
	if uid, gid, ok := ownerOf(s.before); ok && s.owner != nil {
		if err := s.root.Lchown(".", uid, gid); err != nil {
			return err
		}
	}
	if now.Mode() == s.before.Mode() {
		return nil
	}
	return s.root.Chmod(".", s.before.Mode())
}

// unmake removes the directory and those above it, if they were made and have nothing
// of somebody else's in them.
func (s *space) unmake() error {
	if s.inPlace {
		return nil // it is in the data directory, and goes with what is in that
	}
	if s.made {
		if err := os.Remove(s.path); err != nil {
			return err
		}
	}
	for i := len(s.above) - 1; i >= 0; i-- {
		if err := os.Remove(s.above[i]); err != nil {
			return err
		}
	}
	return nil
}

// release closes what is open.
func (s *space) release() {
	if s.lock != nil {
		s.lock.Close()
	}
	if s.root != nil {
		s.root.Close()
	}
}

// say names a file of the space for people.
func (s *space) say(name string) string { return fmt.Sprintf("%q", path.Join(s.path, name)) }
