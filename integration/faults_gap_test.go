package integration

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/walrecv/walrecv/internal/pgtest"
)

// forget makes a server remove the WAL that nobody holds back.
func forget(c *pgtest.Cluster) {
	for range 4 {
		c.SwitchWAL()
	}
	c.Exec("checkpoint")
}

// lose makes a server invalidate a slot, and remove what the slot held back.
func lose(t testing.TB, c *pgtest.Cluster, slot string) {
	t.Helper()
	status := fmt.Sprintf("select wal_status from pg_replication_slots where slot_name = '%s'", slot)
	for range 20 {
		forget(c)
		if c.Query(status) == "lost" {
			return
		}
	}
	t.Fatalf("the slot is still %s", c.Query(status))
}

// dropSlot drops a slot as soon as the server knows that nobody uses it.
func dropSlot(c *pgtest.Cluster, slot string) {
	c.WaitFor(fmt.Sprintf("select active from pg_replication_slots where slot_name = '%s'", slot), "f", patience)
	c.Exec(fmt.Sprintf("select pg_drop_replication_slot('%s')", slot))
}

// WAL that the server no longer has is a gap, whatever the reason, and a gap is
// refused. Nothing beyond it is kept.
func TestFaultsGap(t *testing.T) {
	t.Parallel()
	for _, major := range pgtest.Versions(t) {
		t.Run(fmt.Sprintf("pg%d", major), func(t *testing.T) {
			settings := forgetful()
			settings["max_slot_wal_keep_size"] = "2MB"
			c := smallWith(t, pgtest.Options{Major: major, Settings: settings, HBA: []string{
				"host replication sender,postgres 127.0.0.1/32 trust",
				"host all postgres 127.0.0.1/32 trust",
			}})
			c.Exec("create role sender login replication")
			// stopped streams a little and leaves a spool with WAL.
			stopped := func(t *testing.T, args ...string) (*receiver, []string) {
				r := fresh(t, c.With(t), args...).start()
				emit(c, 1500)
				r.flushed()
				r.stop()
				return r, filesIn(t, r.spool)
			}
			refused := func(t *testing.T, r *receiver, before []string, texts ...string) {
				t.Helper()
				r.ends(5, append(texts, "leave a gap")...)
				if after := filesIn(t, r.spool); fmt.Sprint(after) != fmt.Sprint(before) {
					t.Errorf("the spool changed from %v to %v", before, after)
				}
			}
			t.Run("without a slot", func(t *testing.T) {
				r, files := stopped(t)
				forget(c)
				refused(t, r, files, "58P01", "has already been removed")
			})
			t.Run("damage in the spool", func(t *testing.T) {
				r, _ := stopped(t)
				forget(c)
				names := sealedNames(t, r.spool)
				resize(t, filepath.Join(r.spool, names[len(names)-1]), fileSize/2)
				r.ends(5, names[len(names)-1], "58P01", "leave a gap")
			})
			t.Run("slot missing", func(t *testing.T) {
				r, files := stopped(t, "-S", "dropped", "--ensure-slot")
				dropSlot(c.With(t), "dropped")
				r.args = inSpool(t, c, r.spool, "-S", "dropped").args
				refused(t, r, files, `slot "dropped"`, "--ensure-slot")
				// The server still has the WAL: with a new slot there is no gap.
				r.args = inSpool(t, c, r.spool, "-S", "dropped", "--ensure-slot").args
				r.start()
				emit(c, 1500)
				r.flushed()
				if len(r.alarms("the replication slot was missing")) != 1 {
					t.Error("no alarm about the slot")
				}
				end := c.FlushLSN()
				r.stop()
				holdsAll(t, r.spool, end)
				dropSlot(c.With(t), "dropped")
			})
			t.Run("slot and WAL missing", func(t *testing.T) {
				r, files := stopped(t, "-S", "dropped", "--ensure-slot")
				dropSlot(c.With(t), "dropped")
				forget(c)
				refused(t, r, files, "58P01")
				dropSlot(c.With(t), "dropped") // made again all the same
			})
			t.Run("slot invalidated", func(t *testing.T) {
				r, files := stopped(t, "-S", "held", "--ensure-slot")
				lose(t, c, "held")
				r.args = inSpool(t, c, r.spool, "-S", "held").args
				refused(t, r, files)
				if len(r.alarms("holds no WAL back")) == 0 {
					t.Error("no alarm about the slot")
				}
				// One that is to be there is made anew: the gap stays one.
				r.args = append(r.args, "--ensure-slot")
				refused(t, r, files, "58P01", "has invalidated the replication slot")
				dropSlot(c.With(t), "held")
				fresh(t, c.With(t), "-S", "held", "--ensure-slot").start().stop()
				lose(t, c, "held")
			})
			t.Run("slot invalidated, nothing held", func(t *testing.T) {
				users := []string{"postgres"}
				if major >= 18 {
					// It refuses the slot; before, one has to ask in SQL.
					users = append(users, "sender")
				}
				for _, user := range users {
					r := fresh(t, c.With(t), "-S", "held", "-U", user)
					r.ends(1, `slot "held"`, "invalidated", "walrecv slot drop held")
					if left := filesIn(t, r.spool); len(left) != 1 {
						t.Errorf("the spool holds %v", left)
					}
				}
				dropSlot(c.With(t), "held")
			})
			t.Run("an archive without its spool", func(t *testing.T) {
				archive := newDir(t)
				r, _ := stopped(t, "-S", "gone", "--ensure-slot", "--archive", archive)
				files := treeOf(t, archive)
				r.args = inSpool(t, c, newDir(t), "-S", "gone", "--archive", archive).args
				dropSlot(c.With(t), "gone")
				r.ends(5, `slot "gone"`)
				forget(c)
				r.args = append(r.args, "--ensure-slot")
				r.ends(5, "58P01")
				if after := treeOf(t, archive); strings.Join(after, "\n") != strings.Join(files, "\n") {
					t.Errorf("the archive changed from %v to %v", files, after)
				}
			})
		})
	}
}

// holdsAll checks that a spool has all segments from its first one to the one
// with the position, whose server may be forgetful.
func holdsAll(t testing.TB, dir, end string) {
	t.Helper()
	names := sealedNames(t, dir)
	var high, low uint64
	if _, err := fmt.Sscanf(end, "%X/%X", &high, &low); err != nil {
		t.Fatal(err)
	}
	last := (high<<32 + low) / fileSize
	for i, name := range names[1:] {
		if number(t, name) != number(t, names[i])+1 {
			t.Errorf("hole between %s and %s", names[i], name)
		}
	}
	if newest := number(t, names[len(names)-1]); newest+1 != last {
		t.Errorf("the newest segment is %d of %d", newest, last)
	}
}

// treeOf lists the files below a directory with their sizes.
func treeOf(t testing.TB, dir string) (files []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			var info os.FileInfo
			if info, err = entry.Info(); err == nil {
				files = append(files, fmt.Sprintf("%s %d", strings.TrimPrefix(path, dir), info.Size()))
			}
		}
		if errors.Is(err, fs.ErrNotExist) && path != dir {
			return nil // a piece of the tail went meanwhile
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
