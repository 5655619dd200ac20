package integration

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/walrecv/walrecv/internal/pgtest"
)

// newArchive makes an empty archive directory.
func newArchive(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(pgtest.TempDir(t), "archive")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	pgtest.Give(t, dir)
	return dir
}

// object is the path of an archived segment.
func object(c *pgtest.Cluster, archive, name string) string {
	return filepath.Join(archive, c.SystemID(), "wal", name[:8], name+".zst")
}

// archivedLikeServer waits until the server's complete segments from first to
// last are archived, and compares each with what "zstd -d" makes of its object.
func archivedLikeServer(t testing.TB, c *pgtest.Cluster, archive, first, last string) (n int) {
	t.Helper()
	pgtest.Eventually(t, patience, func() bool {
		_, err := os.Stat(object(c, archive, last))
		return err == nil
	}, "%s does not get archived", last)
	for _, name := range sealedNames(t, c.WALDir()) {
		if name < first || name > last {
			continue
		}
		n++
		plain, err := exec.Command("zstd", "-dcq", object(c, archive, name)).Output()
		if err != nil {
			t.Fatalf("zstd -d of %s: %v", name, err)
		}
		server, err := os.ReadFile(c.WALFile(name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(plain, server) {
			t.Errorf("the archived %s is not the server's", name)
		}
	}
	return n
}

// walFile is the name of the segment that the server writes now.
func walFile(c *pgtest.Cluster) string {
	return c.Query("select pg_walfile_name(pg_current_wal_insert_lsn())")
}

// What is archived is what the server wrote, also when the receiver is killed
// and when its spool is lost as a whole; the spool keeps only what it must.
func TestArchive(t *testing.T) {
	for _, major := range pgtest.Versions(t) {
		t.Run(fmt.Sprintf("pg%d", major), func(t *testing.T) { archiveSurvives(t, major) })
	}
}

func archiveSurvives(t *testing.T, major int) {
	c := pgtest.New(t, pgtest.Options{
		Major: major, WALSegmentSize: 1 << 20,
		Settings: map[string]string{"wal_keep_size": "2GB", "max_wal_size": "4GB"},
	})
	c.Start()
	archive := newArchive(t)
	r := newReceiver(t, c, "--archive", archive)
	first := walFile(c)
	r.start()
	for range 3 {
		fill(c, 6)
		r.Kill()
		r.start()
	}
	last := walFile(c)
	c.SwitchWAL()
	archivedLikeServer(t, c, archive, first, last)
	pgtest.Eventually(t, patience, func() bool { return len(sealedNames(t, r.spool)) == 1 }, "archived segments stay in the spool")
	r.stop()

	// The receiver's disk is lost. The slot is far ahead of nothing: it goes on
	// where the archive ends.
	if err := os.RemoveAll(r.spool); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(r.spool, 0o700); err != nil {
		t.Fatal(err)
	}
	pgtest.Give(t, r.spool)
	fill(c, 4)
	r.start()
	last = walFile(c)
	c.SwitchWAL()
	if n := archivedLikeServer(t, c, archive, first, last); n < 20 {
		t.Errorf("only %d segments were compared", n)
	}
	r.stop()
}
