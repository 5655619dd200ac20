// Package pgdata reads a server's data directory from the outside, for commands
// that the server runs: which cluster it is of, what the server is about to do,
// and which timelines its WAL directory knows. It changes nothing.
package pgdata

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/walrecv/walrecv/internal/vfs"
)

// Files of a data directory.
const (
	controlFile    = "global/pg_control"
	versionFile    = "PG_VERSION"
	standbySignal  = "standby.signal"
	recoverySignal = "recovery.signal"
	promoteSignal  = "promote"
	pidFile        = "postmaster.pid"
	backupLabel    = "backup_label"
	walDir         = "pg_wal"
)

// Dir is a data directory, or the place where one was expected. It is a plain
// value; its methods look at the disk each time.
type Dir struct {
	FS      vfs.FS
	Path    string
	Found   bool // it is one
	Standby bool // as the server decides it when it starts
}

// Find finds the data directory that a call belongs to: the grandparent of a file
// in pg_wal, as the path is written, because pg_rewind runs elsewhere; else the
// working directory, for a call by hand with a file somewhere else. Where neither
// is one, it is the working directory with Found unset.
func Find(fsys vfs.FS, file, workDir string) (Dir, error) {
	for _, path := range []string{filepath.Dir(filepath.Dir(file)), workDir} {
		d := Dir{FS: fsys, Path: path}
		if err := d.look(); d.Found || err != nil {
			return d, err
		}
	}
	return Dir{FS: fsys, Path: workDir}, nil
}

// look tells whether Path is a data directory, and of what kind. Like the server
// it lets standby.signal win over recovery.signal.
func (d *Dir) look() error {
	for _, base := range []string{standbySignal, recoverySignal, controlFile} {
		there, err := vfs.Exists(d.FS, d.File(base))
		if err != nil {
			return fmt.Errorf("look for the data directory: %w", err)
		}
		if there {
			d.Found, d.Standby = true, base == standbySignal
			return nil
		}
	}
	return nil
}

// File is the path of a file in the directory.
func (d *Dir) File(base string) string { return filepath.Join(d.Path, base) }

// WAL is the path of a file in pg_wal, which may be a link to elsewhere.
func (d *Dir) WAL(base string) string { return filepath.Join(d.Path, walDir, base) }

// SystemID reads the cluster's system identifier, which is the first thing in
// pg_control, in the byte order of the server's machine; all that are supported
// are little-endian. It is 0 without a pg_control.
func (d *Dir) SystemID() (uint64, error) {
	f, err := d.FS.OpenRead(d.File(controlFile))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var head [8]byte
	if n, err := f.ReadAt(head[:], 0); n < len(head) {
		return 0, fmt.Errorf("read %s: %w", d.File(controlFile), err)
	}
	id := binary.LittleEndian.Uint64(head[:])
	if id == 0 {
		return 0, fmt.Errorf("%s has no system identifier", d.File(controlFile))
	}
	return id, nil
}

// Major is the major version of PostgreSQL that the directory is of; 0 where
// nothing says so.
func (d *Dir) Major() (int, error) {
	data, err := vfs.ReadFile(d.FS, d.File(versionFile))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	major, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil || major <= 0 {
		return 0, fmt.Errorf("%s names no version: %q", d.File(versionFile), data)
	}
	return major, nil
}

// Promoting tells whether somebody asks for a promotion that the server has not
// seen yet: it removes the file when it does. What cannot be read asks nothing.
func (d *Dir) Promoting() bool {
	there, err := vfs.Exists(d.FS, d.File(promoteSignal))
	return there && err == nil
}

// Recovering tells whether the server may still ask for WAL: it removes both files at the
// end of a recovery.
func (d *Dir) Recovering() bool {
	standby, _ := vfs.Exists(d.FS, d.File(standbySignal)) // what cannot be read asks nothing
	recovery, _ := vfs.Exists(d.FS, d.File(recoverySignal))
	return standby || recovery
}

// Beginning tells whether a recovery from a base backup has not read any WAL yet: the
// server moves the file away once it has.
func (d *Dir) Beginning() bool {
	there, err := vfs.Exists(d.FS, d.File(backupLabel))
	return there && err == nil
}

// Postmaster identifies a running server. The zero value is none.
type Postmaster struct {
	PID     int   `json:"pid"`
	Started int64 `json:"started"` // seconds since 1970, as postmaster.pid has it
}

// Lines of postmaster.pid.
const (
	linePID     = 0
	lineStarted = 2
	lineStatus  = 7
)

// Postmaster reads who runs on the directory. A file that makes no sense is that
// of no server.
func (d *Dir) Postmaster() Postmaster {
	lines := d.pidLines()
	if len(lines) <= lineStarted {
		return Postmaster{}
	}
	pid, err1 := strconv.Atoi(strings.TrimSpace(lines[linePID]))
	started, err2 := strconv.ParseInt(strings.TrimSpace(lines[lineStarted]), 10, 64)
	if err1 != nil || err2 != nil {
		return Postmaster{}
	}
	return Postmaster{PID: pid, Started: started}
}

// Stopping tells whether the server was asked to shut down. What cannot be read
// was asked nothing.
func (d *Dir) Stopping() bool {
	lines := d.pidLines()
	return len(lines) > lineStatus && strings.TrimSpace(lines[lineStatus]) == "stopping"
}

// pidLines are the lines of postmaster.pid; none where it cannot be read.
func (d *Dir) pidLines() []string {
	data, err := vfs.ReadFile(d.FS, d.File(pidFile))
	if err != nil {
		return nil
	}
	return strings.Split(string(data), "\n")
}
