package vfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// OwnedAs is [OS], but the files and directories that root makes through it belong to
// the owner and the group of dir, which must exist. Others cannot give files away, and
// need not.
func OwnedAs(dir string) (FS, error) {
	if os.Geteuid() != 0 {
		return OS(), nil
	}
	info, err := os.Stat(dir)
	if err != nil {
		return nil, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil, fmt.Errorf("%s: its owner cannot be found out", dir)
	}
	return ownedFS{uid: int(st.Uid), gid: int(st.Gid)}, nil
}

type ownedFS struct {
	osFS
	uid, gid int
}

func (o ownedFS) Create(name string, perm fs.FileMode) (File, error) {
	f, err := o.osFS.Create(name, perm)
	if err != nil {
		return nil, err
	}
	if err := os.Lchown(name, o.uid, o.gid); err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(name))
	}
	return f, nil
}

func (o ownedFS) Mkdir(name string, perm fs.FileMode) error {
	if err := o.osFS.Mkdir(name, perm); err != nil {
		return err
	}
	if err := os.Lchown(name, o.uid, o.gid); err != nil {
		return errors.Join(err, os.Remove(name))
	}
	return nil
}
