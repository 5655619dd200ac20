package recovery

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

const (
	autoConf       = "postgresql.auto.conf"
	recoverySignal = "recovery.signal"
	standbySignal  = "standby.signal"
)

// Write puts the settings into a data directory whose server does not run: at the
// end of postgresql.auto.conf, where they win over all files of the configuration
// (not over the server's command line), and as recovery.signal or standby.signal.
// Files that are there keep their mode and owner; new ones belong to who owns the
// directory. On nil all of it is durable. After an error some of it may be there.
func (s Settings) Write(dir string) error {
	text, err := s.text()
	if err != nil {
		return err
	}
	d, err := openDataDir(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.appendTo(autoConf, text); err != nil {
		return err
	}
	wanted, other := recoverySignal, standbySignal
	if s.Standby {
		wanted, other = other, wanted
	}
	if err := os.Remove(filepath.Join(dir, other)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := d.appendTo(wanted, ""); err != nil {
		return err
	}
	return d.Sync()
}

// dataDir is a data directory, and who its files are for.
type dataDir struct {
	*os.File
	perm     fs.FileMode
	uid, gid int
}

func openDataDir(dir string) (*dataDir, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	var st *syscall.Stat_t
	if err == nil {
		var ok bool
		if st, ok = info.Sys().(*syscall.Stat_t); !ok {
			err = fmt.Errorf("%s: its owner cannot be found out", dir)
		}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	// As the server has it: the group reads files where it reads the directory.
	perm := fs.FileMode(0o600) | info.Mode().Perm()&0o040
	return &dataDir{File: f, perm: perm, uid: int(st.Uid), gid: int(st.Gid)}, nil
}

// appendTo adds lines to a file, which is made if it is not there, and syncs it.
func (d *dataDir) appendTo(name, text string) error {
	name = filepath.Join(d.Name(), name)
	f, err := os.OpenFile(name, os.O_RDWR|os.O_APPEND|syscall.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		f, err = d.create(name)
	}
	if err != nil {
		return err
	}
	defer f.Close() // what counts is synced
	if text != "" {
		before, err := unended(f)
		if err != nil {
			return err
		}
		if _, err := f.WriteString(before + text); err != nil {
			return err
		}
	}
	return f.Sync()
}

// create makes a file. Only root can give it away, and only root has to: nobody
// else can have made the directory's files for another user.
func (d *dataDir) create(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_APPEND|os.O_CREATE|os.O_EXCL, d.perm)
	if err != nil {
		return nil, err
	}
	err = f.Chmod(d.perm) // whatever the umask
	if os.Geteuid() == 0 && err == nil {
		err = f.Chown(d.uid, d.gid)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// unended is the line feed that the last line of a file lacks.
func unended(f *os.File) (string, error) {
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return "", err
	}
	var last [1]byte
	if _, err := f.ReadAt(last[:], info.Size()-1); err != nil {
		return "", err
	}
	if bytes.Equal(last[:], []byte("\n")) {
		return "", nil
	}
	return "\n", nil
}
