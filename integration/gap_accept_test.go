package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
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

// toldGap is a gap as "walrecv status --json" tells of it.
type toldGap struct {
	Start    string `json:"start_lsn"`
	Accepted bool
	Reason   string
}

// gapsOf is what "walrecv status" says is missing.
func gapsOf(t testing.TB, archive string) (gaps []toldGap) {
	t.Helper()
	out, err := exec.Command(pgtest.Build(t), "status", "--archive", archive, "--json").Output()
	if err != nil {
		t.Fatalf("status: %v", err)
	}
	status := struct{ Gaps any }{&gaps}
	if err := json.Unmarshal(out, &status); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return gaps
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
			held := archiveOf(t, c, archive).name(walFile(c)).Start(fileSize)
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
			if said := gapsOf(t, archive); len(said) != 1 || said[0].Start != held.String() || !said[0].Accepted || said[0].Reason == "" {
				t.Errorf("status: %+v", said)
			}
			begun, err := filepath.Glob(filepath.Join(archive, c.SystemID(), "wal", "00000001", "*.partial.zst"))
			if err != nil || len(begun) != 1 {
				t.Errorf("what was received of the first segment that is missing: %v, %v", begun, err)
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
			names := sealedNames(t, lost)
			last := names[len(names)-1]
			for _, name := range names {
				if name < first {
					continue
				}
				pgtest.Eventually(t, patience, func() bool {
					_, err := os.Stat(object(c, archive, name))
					return err == nil
				}, "%s of the gap up to %s is not archived", name, last)
			}
			r.stop()
			forget(c)
			if said := gapsOf(t, archive); len(said) != 1 || parseLSN(t, said[0].Start) < archiveOf(t, c, archive).name(last).End(fileSize) {
				t.Errorf("what turned up is still missing: %+v", said)
			}
		})
	}
}
