package drill

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// Account is as whom the server runs. PostgreSQL refuses to run as root, so where
// root begins a drill that is somebody else. The zero value is who runs this.
type Account struct {
	Name     string
	UID, GID uint32
	groups   []uint32
	switched bool

	// ReadAll lets the server, and so restore_command, read what its user may not:
	// archives and identities that are root's alone (CAP_DAC_READ_SEARCH).
	ReadAll bool
}

// serverUser is whom packages make for servers.
const serverUser = "postgres"

// FindAccount chooses as whom the server runs: as root, user postgres, or else the
// owner of one of these files, of the archive say; as anybody else, the same.
func FindAccount(files ...string) (*Account, error) {
	if os.Geteuid() != 0 {
		return &Account{}, nil
	}
	if u, err := user.Lookup(serverUser); err == nil {
		return accountOf(u)
	}
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil {
			continue
		}
		owner, ok := info.Sys().(*syscall.Stat_t)
		if !ok || owner.Uid == 0 {
			continue
		}
		u, err := user.LookupId(strconv.FormatUint(uint64(owner.Uid), 10))
		if err != nil {
			return &Account{Name: fmt.Sprint(owner.Uid), UID: owner.Uid, GID: owner.Gid, switched: true}, nil //nolint:nilerr // it needs no name
		}
		return accountOf(u)
	}
	return nil, errors.New("PostgreSQL refuses to run as root, and there is no user postgres to run it as: run the drill as another user")
}

func accountOf(u *user.User) (*Account, error) {
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	if err := errors.Join(err1, err2); err != nil {
		return nil, fmt.Errorf("user %s: %w", u.Username, err)
	}
	a := &Account{Name: u.Username, UID: uint32(uid), GID: uint32(gid), switched: true}
	ids, _ := u.GroupIds() // it has at least the one that passwd names
	for _, id := range ids {
		if n, err := strconv.ParseUint(id, 10, 32); err == nil {
			a.groups = append(a.groups, uint32(n))
		}
	}
	return a, nil
}

// other tells whether it is not who runs this.
func (a *Account) other() bool { return a != nil && a.switched }

// own makes it the owner of a file.
func (a *Account) own(path string) error {
	if !a.other() {
		return nil
	}
	return os.Lchown(path, int(a.UID), int(a.GID))
}

// Need finds out whether it may read files, and enter directories; if not, it gets
// [Account.ReadAll]. Files that are not there do not count.
func (a *Account) Need(ctx context.Context, files ...string) error {
	if !a.other() {
		return nil
	}
	for _, file := range files {
		info, err := os.Stat(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		test := `test -r "$1"`
		if info.IsDir() {
			test = `test -r "$1" && test -x "$1"`
		}
		if a.can(ctx, test, file) {
			continue
		}
		if !canReadAll {
			return fmt.Errorf("user %s, as whom the server runs, may not read %s", a.Name, file)
		}
		a.ReadAll = true
	}
	return nil
}

// can runs a test of the shell as this user.
func (a *Account) can(ctx context.Context, test, file string) bool {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", test, "sh", file) //nolint:gosec // the file is an argument, the script a constant
	cmd.SysProcAttr = a.plain().attributes(false)
	cmd.Dir = "/"
	return cmd.Run() == nil
}

// reaches tells whether it can be in a directory.
func (a *Account) reaches(ctx context.Context, dir string) bool {
	dir, err := filepath.Abs(dir)
	return err == nil && (!a.other() || a.can(ctx, `cd "$1"`, dir))
}

// plain is the same without the right to read everything.
func (a *Account) plain() *Account {
	less := *a
	less.ReadAll = false
	return &less
}

// attributes are those of a process that runs as this user, in a session of its own
// if asked for: what is typed at the terminal then does not reach it.
func (a *Account) attributes(session bool) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setsid: session}
	if a.other() {
		attr.Credential = &syscall.Credential{Uid: a.UID, Gid: a.GID, Groups: a.groups}
		if a.ReadAll {
			readAll(attr)
		}
	}
	return attr
}
