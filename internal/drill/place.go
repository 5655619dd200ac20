package drill

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"

	"github.com/walrecv/walrecv/internal/backup"
)

// Names in the directory of a drill.
const (
	scratchPrefix = "walrecv-drill-" // of the directory itself

	dataDir   = "data"
	tablesDir = "tablespaces"
	socketDir = "socket"
	confFile  = "postgresql.conf"
	hbaFile   = "pg_hba.conf"
	identFile = "pg_ident.conf"
)

// port only names the socket: nothing listens on TCP.
const port = 5432

// place is the scratch directory of a drill: the data directory, what the server is
// configured with, its socket. Nobody else can enter it.
type place struct {
	dir    string
	socket string // directory of the server's socket
	as     *Account
}

// newPlace makes the directory below base. guard learns of everything that is made,
// so that it goes away also if this process is killed.
func newPlace(ctx context.Context, base string, as *Account, guard func(dir string) error) (*place, error) {
	base, err := filepath.Abs(base)
	if err == nil {
		base, err = filepath.EvalSymlinks(base) // the server resolves it, too
	}
	if err != nil {
		return nil, fmt.Errorf("TMPDIR: %w", err)
	}
	if !as.reaches(ctx, base) {
		return nil, fmt.Errorf("user %s, as whom the server has to run, cannot enter %s: set TMPDIR to a directory that it can", as.Name, base)
	}
	p := &place{as: as}
	if p.dir, err = p.makeTemp(base, guard); err != nil {
		return nil, err
	}
	p.socket = p.file(socketDir)
	if len(p.socket)+len("/.s.PGSQL.")+len(strconv.Itoa(port)) > maxSocketPath() {
		if p.socket, err = p.makeTemp("/tmp", guard); err != nil {
			return p, err
		}
		return p, p.mkdir(p.file(tablesDir))
	}
	if err := p.mkdir(p.socket); err != nil {
		return p, err
	}
	return p, p.mkdir(p.file(tablesDir))
}

// maxSocketPath is the longest path that a socket can have.
func maxSocketPath() int {
	if runtime.GOOS == "linux" {
		return 107
	}
	return 103
}

func (p *place) makeTemp(base string, guard func(dir string) error) (string, error) {
	dir, err := os.MkdirTemp(base, scratchPrefix)
	if err != nil {
		return "", fmt.Errorf("cannot make a scratch directory: set TMPDIR to another place: %w", err)
	}
	if err := guard(dir); err != nil {
		return dir, err
	}
	return dir, p.as.own(dir)
}

func (p *place) mkdir(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	return p.as.own(dir)
}

// file is the path of something that stands directly in the directory.
func (p *place) file(base string) string { return filepath.Join(p.dir, base) }

// data is the data directory.
func (p *place) data() string { return p.file(dataDir) }

// mapping says where tablespaces go to.
func (p *place) mapping(tablespaces []backup.Tablespace) map[string]string {
	m := map[string]string{}
	for _, t := range tablespaces {
		if filepath.IsAbs(t.Location) { // others lie in the data directory
			m[filepath.Clean(t.Location)] = filepath.Join(p.file(tablesDir), fmt.Sprint(t.OID))
		}
	}
	return m
}

// write writes a file that the server can read. Nothing of it needs to last.
func (p *place) write(path, content string) error {
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil { //nolint:gosec // below TMPDIR, which is the user's to choose
		return err
	}
	return p.as.own(path)
}

// gone tells whether somebody has removed the directory.
func (p *place) gone() bool {
	_, err := os.Lstat(p.dir)
	return errors.Is(err, fs.ErrNotExist)
}

// dirs are the directories that are to be removed.
func (p *place) dirs() []string {
	if p.socket == "" || filepath.Dir(p.socket) == p.dir {
		return []string{p.dir}
	}
	return []string{p.dir, p.socket}
}
