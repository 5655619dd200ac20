package pgtest

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// serverUser is the account that servers run as when the tests run as root.
const serverUser = "postgres"

// maxRunDir bounds the length of a run's directory, so that the longest path of
// a socket below it stays within the 107 bytes that the kernel allows.
const maxRunDir = 70

// run is what all tests of one test process share.
type run struct {
	dir   string              // everything of this process lies below it,
	data  string              // but data directories below this one
	owner *syscall.Credential // nil: programs run as the user of the tests
	dog   *watchdog
	next  atomic.Int64 // numbers directories
}

// theRun sets up the shared part once, at the first use.
var theRun = sync.OnceValues(newRun)

func currentRun(t testing.TB) *run {
	t.Helper()
	r, err := theRun()
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	return r
}

func newRun() (*run, error) {
	r := &run{}
	ownerName := ""
	if os.Geteuid() == 0 {
		ownerName = serverUser
		cred, err := credentialOf(serverUser)
		if err != nil {
			return nil, err
		}
		r.owner = cred
	}
	var err error
	if r.dir, err = newRunDir(r.base()); err != nil {
		return nil, err
	}
	r.data = r.dir
	if roomInMemory() {
		if r.data, err = newRunDir(memory); err != nil {
			return nil, err
		}
	}
	r.dog, err = startWatchdog(ownerName, r.dir, r.data)
	return r, err
}

// newRunDir makes a directory that others may pass through, to directories of
// their own, and not list.
func newRunDir(base string) (string, error) {
	dir, err := os.MkdirTemp(base, "wr-")
	if err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o711)
}

// memory is where Linux has a file system in memory.
const memory = "/dev/shm"

// roomInMemory tells whether data directories may go to memory. It is not about
// syncing, which the servers do not do: a data directory is a thousand files,
// and ext4 gets slow where thousands are deleted and made all the time, since it
// does not use an inode again for minutes.
func roomInMemory() bool {
	const enough = 4 << 30
	var fs syscall.Statfs_t
	if runtime.GOOS != "linux" || syscall.Statfs(memory, &fs) != nil {
		return false
	}
	return fs.Bavail*uint64(fs.Bsize) >= enough
}

func credentialOf(name string) (*syscall.Credential, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return nil, fmt.Errorf("servers refuse to run as root and there is no user %s to run them as: %w; tools/need pg15 makes one", name, err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

// base chooses where the run's directory lies: the system's directory for
// temporary files, unless its path is too long for sockets or closed to the
// user of the servers.
func (r *run) base() string {
	base := os.TempDir()
	if len(base) > maxRunDir-len("/wr-0123456789") || !r.reaches(base) {
		return "/tmp"
	}
	return base
}

// reaches tells whether the user of the servers may pass through every
// directory of the path, and read or execute what stands at its end.
func (r *run) reaches(path string) bool {
	if r.owner == nil {
		return true
	}
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return false
	}
	for {
		info, err := os.Stat(path)
		if err != nil || !r.mayEnter(info) {
			return false
		}
		if path == filepath.Dir(path) {
			return true
		}
		path = filepath.Dir(path)
	}
}

func (r *run) mayEnter(info os.FileInfo) bool {
	perm := info.Mode().Perm()
	if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Uid == r.owner.Uid {
		return perm&0o100 != 0
	}
	return perm&0o001 != 0
}

// mkdir makes a new directory below one of the run's, owned by the user of the
// servers. Its name is short: sockets live in it.
func (r *run) mkdir(below, prefix string) (string, error) {
	dir := filepath.Join(below, prefix+strconv.FormatInt(r.next.Add(1), 10))
	return dir, r.mkdirAt(dir, 0o700)
}

func (r *run) mkdirAt(dir string, perm os.FileMode) error {
	if err := os.Mkdir(dir, perm); err != nil {
		return err
	}
	if err := os.Chmod(dir, perm); err != nil {
		return err
	}
	return r.give(dir)
}

// give makes the user of the servers the owner of a file.
func (r *run) give(path string) error {
	if r.owner == nil {
		return nil
	}
	return os.Lchown(path, int(r.owner.Uid), int(r.owner.Gid))
}

// writeFile writes a file that the user of the servers owns and only it reads.
func (r *run) writeFile(path string, data []byte) error {
	if err := os.WriteFile(path, data, 0o600); err != nil {
		return err
	}
	return r.give(path)
}

// TempDir makes a directory for the files of programs under test. The user that
// runs them owns it (mode 0700) and can reach it. It is removed at the end of
// the test.
func TempDir(t testing.TB) string {
	t.Helper()
	r := currentRun(t)
	return r.tempDir(t, r.dir)
}

// DataDir is TempDir for as much as a data directory has: in memory, where there is room.
func DataDir(t testing.TB) string {
	t.Helper()
	r := currentRun(t)
	return r.tempDir(t, r.data)
}

func (r *run) tempDir(t testing.TB, below string) string {
	t.Helper()
	dir, err := r.mkdir(below, "d")
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	t.Cleanup(func() {
		endHelpers(dir)
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("pgtest: %v", err)
		}
	})
	return dir
}

// Give hands a file or a directory with all that is in it to the user that runs
// servers and programs, for files that a test wrote itself.
func Give(t testing.TB, path string) {
	t.Helper()
	r := currentRun(t)
	err := filepath.WalkDir(path, func(name string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return r.give(name)
	})
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
}

// Long tells whether tests that have a long form shall run it.
func Long() bool { return os.Getenv("WALRECV_TEST_LONG") != "" }

// Allow is how long something may take that is to be done within d: in the short form
// several times as long, for a machine that is slow and does much else.
func Allow(d time.Duration) time.Duration {
	if Long() {
		return d
	}
	return 5 * d
}
