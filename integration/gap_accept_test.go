package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/walrecv/walrecv/internal/pgtest"
)

// copyOfWAL copies the complete segments of a server aside.
func copyOfWAL(t testing.TB, c *pgtest.Cluster) (dir string) {
	t.Helper()
	dir = newDir(t)
	now := walFile(c)
	for _, name := range sealedNames(t, c.WALDir()) {
		if name >= now {
			continue // of old content, to be written anew
		}
		writeFile(t, filepath.Join(dir, name), readFile(t, c.WALFile(name)))
	}
	return dir
}

// A gap is accepted only when that is asked for. Then it is as small as the
// server allows, recorded in the archive, remembered without the option, and
// closed when the WAL turns up.
func TestAcceptedGap(t *testing.T) {
	t.Parallel()
	for _, major := range pgtest.Versions(t) {
		t.Run(fmt.Sprintf("pg%d", major), func(t *testing.T) {
			c := smallWith(t, pgtest.Options{Major: major, Settings: forgetful()})
			archive := newArchive(t)
			args := []string{"-S", "gap", "--ensure-slot", "--archive", archive}
			r := fresh(t, c.With(t), args...).start()
			emit(c, 2500)
			r.flushed()
			r.stop()
			first := sealedNames(t, c.WALDir())[0]
			dropSlot(c.With(t), "gap")
			emit(c, 3000)
			c.SwitchWAL()
			lost := copyOfWAL(t, c)
			forget(c)
			there := sealedNames(t, c.WALDir())
			r.ends(5, "58P01", "did not exist on this server until now", "--accept-gap")

			r.args = append(r.args, "--accept-gap")
			r.start()
			emit(c, 1500)
			r.flushed()
			r.stop()
			if n := len(r.alarms("--accept-gap goes on behind it")); n != 1 {
				t.Errorf("%d alarms about the gap", n)
			}
			gaps := filesIn(t, filepath.Join(archive, c.SystemID(), "gaps"))
			if len(gaps) != 1 {
				t.Fatalf("gaps: %v", gaps)
			}
			for _, name := range there {
				if _, err := os.Stat(object(c, archive, name)); err != nil {
					t.Errorf("the server had %s, and it is not archived: %v", name, err)
				}
			}

			r.args = r.args[:len(r.args)-1]
			r.start()
			emit(c, 1500)
			r.flushed()
			r.stop()

			for _, name := range sealedNames(t, lost) {
				if name >= first {
					writeFile(t, filepath.Join(r.spool, name), readFile(t, filepath.Join(lost, name)))
				}
			}
			pgtest.Give(t, r.spool)
			r.start()
			last := sealedNames(t, lost)[len(sealedNames(t, lost))-1]
			for _, name := range sealedNames(t, lost) {
				if name < first {
					continue
				}
				pgtest.Eventually(t, patience, func() bool {
					_, err := os.Stat(object(c, archive, name))
					return err == nil
				}, "%s of the gap up to %s is not archived", name, last)
			}
			r.stop()
		})
	}
}
