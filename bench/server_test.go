package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/walrecv/walrecv/internal/pgtest"
)

// A server is one that works as in production: on the disk, and syncing. Those of
// pgtest, which make the WAL, do neither.
type server struct {
	b    *testing.B
	dir  string
	args []string
}

// prepare makes a server of a base backup, which it leaves as it is. It is not started.
func prepare(b *testing.B, from *pgtest.Cluster, backup string, signal pgtest.Signal, settings map[string]string) *server {
	b.Helper()
	s := &server{b: b, dir: pgtest.TempDir(b)}
	data := filepath.Join(s.dir, "data")
	if code, _, stderr := pgtest.Run(b, "/bin/cp", "-a", backup, data); code != 0 {
		b.Fatalf("copy of a base backup: %s", stderr)
	}
	file := filepath.Join(data, string(signal))
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		b.Fatal(err)
	}
	pgtest.Give(b, file)
	s.args = []string{"-D", data}
	own := map[string]string{
		"fsync": "on", "port": strconv.Itoa(pgtest.Port(b)), "unix_socket_directories": s.dir,
		"primary_conninfo": fmt.Sprintf("host=%s port=%d user=postgres application_name=bench", from.SocketDir, from.Port),
	}
	for _, all := range []map[string]string{own, settings} {
		for name, value := range all {
			s.args = append(s.args, "-c", name+"="+value)
		}
	}
	return s
}

// program is what starts the server, once.
func (s *server) program() string { return filepath.Join(pgtest.BinDir(s.b, major), "postgres") }

// remove gives the disk its room back.
func (s *server) remove() {
	if err := os.RemoveAll(s.dir); err != nil {
		s.b.Error(err)
	}
}
