package drill

import (
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ownProgram is the program that runs, also where its path cannot be walked by the
// user that it is run as.
const ownProgram = "/proc/self/exe"

// Rights that change something in the file system, by the first version of Landlock
// that knows them.
const (
	mayWrite = unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE |
		unix.LANDLOCK_ACCESS_FS_MAKE_CHAR | unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG |
		unix.LANDLOCK_ACCESS_FS_MAKE_SOCK | unix.LANDLOCK_ACCESS_FS_MAKE_FIFO | unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK |
		unix.LANDLOCK_ACCESS_FS_MAKE_SYM
	mayRefer    = unix.LANDLOCK_ACCESS_FS_REFER    // 2
	mayTruncate = unix.LANDLOCK_ACCESS_FS_TRUNCATE // 3
)

// canConfine is the version of Landlock that the kernel has; 0: none.
func canConfine() int {
	version, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0
	}
	return int(version)
}

// Become replaces this process by a program that can write only below some
// directories, it and everything that it starts. WAL can make a server write
// elsewhere: where it says that a tablespace was made, that directory is used, and if
// the primary runs on the same host, it is in use. Where the kernel cannot do that the
// program runs as it is. It returns only to say why it could not.
func Become(dirs, command, environ []string) error {
	runtime.LockOSThread() // the restriction is the thread's
	if err := confine(dirs); err != nil {
		return err
	}
	return syscall.Exec(command[0], command, environ) //nolint:gosec // that is what it is for
}

func confine(dirs []string) error {
	version := canConfine()
	if version == 0 {
		return nil
	}
	rights := uint64(mayWrite)
	if version >= 2 {
		rights |= mayRefer
	}
	if version >= 3 {
		rights |= mayTruncate
	}
	attr := unix.LandlockRulesetAttr{Handled_access_fs: rights}
	// Older kernels know the first member only.
	rules, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr.Handled_access_fs), 0) //nolint:gosec // no other door to this call
	if errno != 0 {
		return os.NewSyscallError("landlock_create_ruleset", errno)
	}
	defer unix.Close(int(rules))
	const nowhere = "/dev/null"
	if err := allow(int(rules), nowhere, unix.LANDLOCK_ACCESS_FS_WRITE_FILE); err != nil {
		return err
	}
	for _, dir := range dirs {
		if err := allow(int(rules), dir, rights); err != nil {
			return err
		}
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return os.NewSyscallError("prctl", err)
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, rules, 0, 0); errno != 0 {
		return os.NewSyscallError("landlock_restrict_self", errno)
	}
	return nil
}

// allow gives rights to what is at a path and below.
func allow(rules int, path string, rights uint64) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	attr := unix.LandlockPathBeneathAttr{Allowed_access: rights, Parent_fd: int32(fd)}
	_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(rules), unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&attr)), 0, 0, 0) //nolint:gosec // no other door to this call
	if errno != 0 {
		return os.NewSyscallError("landlock_add_rule", errno)
	}
	return nil
}
