package restore

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
	standbySignal  = "standby.signal"
	recoverySignal = "recovery.signal"
	promoteSignal  = "promote"
	pidFile        = "postmaster.pid"
	walDir         = "pg_wal"
)

// dataDir is the data directory that a call belongs to.
type dataDir struct {
	fsys    vfs.FS
	path    string
	standby bool
}

// findDataDir finds the data directory: the grandparent of target, as the path
// is written, because pg_rewind runs elsewhere; else the working directory, for
// a call by hand that restores to somewhere else. Where neither is one, the rules
// of a recovery hold.
func findDataDir(fsys vfs.FS, target, workDir string) (dataDir, error) {
	for _, path := range []string{filepath.Dir(filepath.Dir(target)), workDir} {
		d := dataDir{fsys: fsys, path: path}
		is, err := d.look()
		if is || err != nil {
			return d, err
		}
	}
	return dataDir{fsys: fsys, path: workDir}, nil
}

// look tells whether path is a data directory, and of what kind. Like the server
// it lets standby.signal win over recovery.signal.
func (d *dataDir) look() (is bool, err error) {
	for _, base := range []string{standbySignal, recoverySignal, controlFile} {
		there, err := vfs.Exists(d.fsys, d.file(base))
		if err != nil {
			return false, fmt.Errorf("look for the data directory: %w", err)
		}
		if there {
			d.standby = base == standbySignal
			return true, nil
		}
	}
	return false, nil
}

func (d *dataDir) file(base string) string { return filepath.Join(d.path, base) }

// wal is the path of a file in pg_wal, which may be a link to elsewhere.
func (d *dataDir) wal(base string) string { return filepath.Join(d.path, walDir, base) }

// systemID reads the cluster's system identifier, which is the first thing in
// pg_control, in the byte order of the server's machine; all that are supported
// are little-endian. It is 0 without a pg_control.
func (d *dataDir) systemID() (uint64, error) {
	f, err := d.fsys.OpenRead(d.file(controlFile))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var head [8]byte
	if n, err := f.ReadAt(head[:], 0); n < len(head) {
		return 0, fmt.Errorf("read %s: %w", d.file(controlFile), err)
	}
	id := binary.LittleEndian.Uint64(head[:])
	if id == 0 {
		return 0, fmt.Errorf("%s has no system identifier", d.file(controlFile))
	}
	return id, nil
}

// promoting tells whether somebody asks for a promotion that the server has not
// seen yet: it removes the file when it does. What cannot be read asks nothing.
func (d *dataDir) promoting() bool {
	there, err := vfs.Exists(d.fsys, d.file(promoteSignal))
	return there && err == nil
}

// postmaster identifies a running server. The zero value is none.
type postmaster struct {
	PID     int   `json:"pid"`
	Started int64 `json:"started"` // seconds since 1970, as postmaster.pid has it
}

// postmaster reads lines 1 and 3 of postmaster.pid. A file that makes no sense
// is that of no server.
func (d *dataDir) postmaster() postmaster {
	data, err := vfs.ReadFile(d.fsys, d.file(pidFile))
	if err != nil {
		return postmaster{}
	}
	lines := strings.Split(string(data), "\n")
	if len(lines) < 3 {
		return postmaster{}
	}
	pid, err1 := strconv.Atoi(strings.TrimSpace(lines[0]))
	started, err2 := strconv.ParseInt(strings.TrimSpace(lines[2]), 10, 64)
	if err1 != nil || err2 != nil {
		return postmaster{}
	}
	return postmaster{PID: pid, Started: started}
}
