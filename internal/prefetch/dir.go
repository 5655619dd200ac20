package prefetch

import (
	"bytes"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"

	"github.com/walrecv/walrecv/internal/pgdata"
	"github.com/walrecv/walrecv/internal/vfs"
)

const (
	dirSuffix     = ".ahead"
	scratchSuffix = ".tmp"  // of what is fetched
	syncSuffix    = ".sync" // of what is there, and is synced
	signSuffix    = ".sign" // of what grows while something comes

	bellFile  = "asked"
	callsFile = "calls"
	logFile   = "log"
)

// Dir is a directory for staged segments, which need not exist.
type Dir struct {
	FS   vfs.FS
	Path string
}

// For is the directory for a cluster below parent. whose tells apart what must not
// mix within the cluster: the data directory, and where its WAL comes from.
func For(fsys vfs.FS, parent string, system uint64, whose ...string) *Dir {
	key := fnv.New64a()
	for _, w := range whose {
		_, _ = io.WriteString(key, w+"\x00") // never fails
	}
	return &Dir{FS: fsys, Path: filepath.Join(parent, fmt.Sprintf("%d.%016x%s", system, key.Sum64(), dirSuffix))}
}

// Make makes the directory if it is missing.
func (d *Dir) Make() error {
	err := d.FS.Mkdir(d.Path, 0o700)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// Busy tells whether somebody fills the directory.
func (d *Dir) Busy() bool {
	lock, err := d.FS.Lock(d.Path)
	if err != nil {
		return errors.Is(err, vfs.ErrLocked)
	}
	lock.Close() // it was only tried
	return false
}

// Bell is the path of the FIFO.
func (d *Dir) Bell() string { return d.file(bellFile) }

// Segment is the path of a staged segment, by its file name.
func (d *Dir) Segment(file string) string { return d.file(file) }

func (d *Dir) file(base string) string { return filepath.Join(d.Path, base) }

// Scratch is a file that a segment is fetched into.
type Scratch struct {
	vfs.File
	dir  *Dir
	name string
	file string // that it will be

	signName string
	sign     vfs.File // nil: there was no need to say anything
	came     int64    // how often that was
}

// Begin makes a file for a segment. That it is there says that the segment is on its
// way. Its name is nobody else's: a helper that has lost its directory may still fetch
// while the next one does in a new directory of that name, and neither may stage what
// the other one has not yet written.
func (d *Dir) Begin(file string) (*Scratch, error) {
	name := d.file(fmt.Sprintf("%s.%016x%s", file, rand.Uint64(), scratchSuffix))
	f, err := d.FS.Create(name, 0o600)
	if err != nil {
		return nil, err
	}
	return &Scratch{File: f, dir: d, name: name, file: file, signName: name + signSuffix}, nil
}

// Came says that something of the segment has come: a file that is written to in large
// pieces, or not at all where there are zeros, looks as if nothing did. It fails when the
// file was taken away.
func (s *Scratch) Came() error {
	if there, err := vfs.Exists(s.dir.FS, s.name); err != nil || !there {
		return errors.Join(err, errTaken)
	}
	if s.sign == nil {
		f, err := s.dir.FS.Create(s.signName, 0o600)
		if err != nil {
			return err
		}
		s.sign = f
	}
	_, err := s.sign.WriteAt([]byte{0}, s.came)
	s.came++
	return err
}

var errTaken = errors.New("nobody waits for it any more")

// Stage gives the file the name of its segment, and closes it. Its bytes are synced
// before: so it is whole under this name also after a crash, and PostgreSQL, which syncs
// every segment that it is given, need not wait for the disk. Meanwhile it has a name
// which says that.
func (s *Scratch) Stage() error {
	synced := s.name + syncSuffix
	if err := vfs.Move(s.dir.FS, nil, s.name, synced); err != nil {
		s.Abandon()
		return err
	}
	s.name = synced
	return s.stage(s.File)
}

// StageUnsynced is Stage for those who have no time. It is whole until the machine ends,
// and [Dir.ByCalls] is true until then.
func (s *Scratch) StageUnsynced() error { return s.stage(nil) }

func (s *Scratch) stage(synced vfs.File) error {
	s.unsign()
	err := errors.Join(vfs.Move(s.dir.FS, synced, s.name, s.dir.file(s.file)), s.Close())
	if err != nil {
		_ = s.dir.FS.Remove(s.name)
	}
	return err
}

// Abandon closes and removes the file.
func (s *Scratch) Abandon() {
	s.Close()
	_ = s.dir.FS.Remove(s.name)
	s.unsign()
}

func (s *Scratch) unsign() {
	if s.sign != nil {
		s.sign.Close()
		_ = s.dir.FS.Remove(s.signName)
		s.sign = nil
	}
}

// Drop removes a staged segment. What cannot be removed is in nobody's way.
func (d *Dir) Drop(file string) { _ = d.FS.Remove(d.file(file)) }

// Flight is a segment on its way. One that is another than before has got on.
type Flight struct {
	Syncing bool // all of it is there
	scratch string
	id      vfs.FileID
	came    int64
}

// Flying lists the segments that are on their way.
func (d *Dir) Flying() map[string]Flight {
	flying := map[string]Flight{}
	entries, _ := d.FS.ReadDir(d.Path) // without it there is nothing to wait for
	for _, e := range entries {
		file, rest, _ := strings.Cut(e.Name, ".")
		f := flying[file]
		switch suffix := filepath.Ext(rest); suffix {
		case scratchSuffix, syncSuffix:
			f.Syncing, f.scratch, f.id = suffix == syncSuffix, e.Name, e.ID
		case signSuffix: // behind the file that it is of
			f.came = e.Size
		}
		if f.scratch != "" {
			flying[file] = f
		}
	}
	return flying
}

// GiveUp takes away a segment that is on its way.
func (d *Dir) GiveUp(f Flight) {
	_ = d.FS.Remove(d.file(f.scratch))
	_ = d.FS.Remove(d.file(f.scratch + signSuffix))
}

// Clear removes what is on its way.
func (d *Dir) Clear() {
	for _, f := range d.Flying() {
		d.GiveUp(f)
	}
}

// Sweep removes the segments, staged or on their way.
func (d *Dir) Sweep() {
	entries, _ := d.FS.ReadDir(d.Path)
	for _, e := range entries {
		if e.Name != bellFile && e.Name != callsFile && e.Name != logFile {
			_ = d.FS.Remove(d.file(e.Name))
		}
	}
}

// Reset removes everything.
func (d *Dir) Reset() {
	d.Sweep()
	for _, base := range []string{bellFile, callsFile, logFile} {
		_ = d.FS.Remove(d.file(base))
	}
}

// End removes everything but the log, and the directory if there is none.
func (d *Dir) End() {
	d.Sweep()
	_ = d.FS.Remove(d.Bell())
	_ = d.FS.Remove(d.Path)
}

// SetCalls says that no helper may run for a server: its calls fill the directory.
func (d *Dir) SetCalls(server pgdata.Postmaster) error {
	name := d.file(callsFile)
	if err := d.FS.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := d.FS.Create(name, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteAt([]byte(callsFor(server)), 0)
	return errors.Join(err, f.Close())
}

// ByCalls tells whether the calls of a server fill the directory.
func (d *Dir) ByCalls(server pgdata.Postmaster) bool {
	data, err := vfs.ReadFile(d.FS, d.file(callsFile))
	return err == nil && string(data) == callsFor(server)
}

// callsFor names a server, and the run of the machine: the calls sync nothing, so what
// they have staged may be in pieces after another one, and not every machine has a clock
// that makes the two servers differ.
func callsFor(server pgdata.Postmaster) string {
	boot, _ := os.ReadFile("/proc/sys/kernel/random/boot_id") // Linux has it
	return fmt.Sprintf("%d %d %s\n", server.PID, server.Started, bytes.TrimSpace(boot))
}

// maxLog bounds the log, in bytes.
const maxLog = 64 << 10

// Logger writes to the log. There is one only if there is something in it.
func (d *Dir) Logger() io.Writer { return &logWriter{dir: d} }

type logWriter struct {
	dir  *Dir
	file vfs.File
	end  int64
}

func (w *logWriter) Write(p []byte) (int, error) {
	if w.file == nil {
		file, err := w.dir.FS.Create(w.dir.file(logFile), 0o600)
		if err != nil {
			return 0, err
		}
		w.file = file // open until the process ends
	}
	if w.end+int64(len(p)) > maxLog {
		return len(p), nil
	}
	n, err := w.file.WriteAt(p, w.end)
	w.end += int64(n)
	return n, err
}
