package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// prefetchBase is the name of the directory in which restore keeps files of its own,
// where --prefetch-dir does not give one.
const prefetchBase = "walrecv-prefetch"

// prefetchDir finds, or makes, the directory in which restore keeps what its next
// calls need: the given one, or one beside the directory that pg_wal really is in,
// which is outside of the data directory and so in no backup of it, or else one for
// this user in the directory for temporary files.
func prefetchDir(given, pgWAL string) (string, error) {
	if given != "" {
		return given, ownDir(given)
	}
	beside, err := besideData(pgWAL)
	if err == nil {
		err = ownDir(beside)
	}
	if err == nil {
		return beside, nil
	}
	temp := filepath.Join(os.TempDir(), fmt.Sprintf("%s-%d", prefetchBase, os.Getuid()))
	if tempErr := ownDir(temp); tempErr != nil {
		return "", errors.Join(err, tempErr)
	}
	return temp, nil
}

// besideData is a path beside the directory that pg_wal, which may be a link, is in.
func besideData(pgWAL string) (string, error) {
	real, err := filepath.EvalSymlinks(pgWAL)
	if err != nil {
		return "", err
	}
	data := filepath.Dir(real)
	if filepath.Dir(data) == data {
		return "", fmt.Errorf("there is nothing beside %s", data)
	}
	return filepath.Join(filepath.Dir(data), prefetchBase), nil
}

// ownDir makes a directory if it is missing, and checks that nobody else can write
// into it: what is in it is taken for this program's own.
func ownDir(path string) error {
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	const others = 0o022
	owner, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !info.IsDir():
		return fmt.Errorf("%s is no directory", path)
	case !ok || int(owner.Uid) != os.Getuid() || info.Mode().Perm()&others != 0:
		return fmt.Errorf("%s can be written to by others", path)
	}
	return nil
}
