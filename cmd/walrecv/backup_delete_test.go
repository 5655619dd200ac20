package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/archive"
)

// startJSON and backupJSON are the documents of a base backup.
func startJSON(id string) string {
	return fmt.Sprintf(`{"format":1,"id":%q,"timeline":1,"start_lsn":"0/2000028","label":"x","started":"2026-11-22T07:30:00Z","from":"primary"}`, id)
}

func backupJSON(id string) string {
	return strings.TrimSuffix(startJSON(id), "}") + `,"end_lsn":"0/2000100","end_timeline":1,"finished":"2026-11-22T07:31:00Z","tablespaces":[{"oid":0,"location":""}],
"objects":[{"file":"base.000001.tar.zst","sha256":"` + strings.Repeat("0", 64) + `"},{"file":"backup_manifest.zst","sha256":"` + strings.Repeat("0", 64) + `"}]}`
}

// putGood writes a base backup that is whole: of two empty objects.
func putGood(t *testing.T, dir, id string) {
	t.Helper()
	putBackup(t, dir, id, "start.json", startJSON(id))
	putBackup(t, dir, id, "base.000001.tar.zst", "")
	putBackup(t, dir, id, "backup_manifest.zst", "")
	putBackup(t, dir, id, "backup.json", backupJSON(id))
}

func TestBackupDelete(t *testing.T) {
	dir := emptyArchive(t, 7400000000000000001)
	for _, id := range []string{"good", "running", "abandoned", "damaged", "later"} {
		putBackup(t, dir, id, "start.json", startJSON(id))
		putBackup(t, dir, id, "base.000001.tar.zst", "x")
	}
	putGood(t, dir, "good")
	putBackup(t, dir, "damaged", "backup.json", "{")
	putBackup(t, dir, "later", "start.json", `{"format":2}`)
	old := time.Now().Add(-48 * time.Hour)
	for _, file := range []string{"start.json", "base.000001.tar.zst"} {
		if err := os.Chtimes(filepath.Join(dir, "7400000000000000001", "backup", "abandoned", file), old, old); err != nil {
			t.Fatal(err)
		}
	}
	del := func(code int, says string, args ...string) {
		t.Helper()
		o := walrecv(nil, append([]string{"backup", "delete", "--archive", dir}, args...)...)
		if o.code != code || !strings.Contains(o.stdout+o.stderr, says) || strings.Count(o.stdout+o.stderr, "\n") != 1 {
			t.Errorf("%v: exit %d, stdout %s, stderr %s; want %d, %q", args, o.code, o.stdout, o.stderr, code, says)
		}
	}
	there := func(want string) {
		t.Helper()
		entries, err := os.ReadDir(filepath.Join(dir, "7400000000000000001", "backup"))
		if err != nil {
			t.Fatal(err)
		}
		var ids []string
		for _, e := range entries {
			if files, err := os.ReadDir(filepath.Join(dir, "7400000000000000001", "backup", e.Name())); err != nil || len(files) > 0 {
				ids = append(ids, e.Name())
			}
		}
		if got := strings.Join(ids, " "); got != want {
			t.Errorf("there is %s, want %s", got, want)
		}
	}
	del(exitUsage, "ID is missing")
	del(exitUsage, "cannot be the ID", "a/b")
	del(exitUsage, "--window", "--window", "x", "good")
	del(exitFailed, "there is no base backup none in the archive", "none")
	del(exitFailed, "the base backup good was not deleted: nothing could be restored without it; --force deletes it all the same", "good", "--window", "7d")
	del(exitFailed, "it may still be running", "running")
	del(exitFailed, "it may be good, but cannot be read", "damaged")
	del(exitFailed, "format 2", "later")
	for _, variable := range []string{"", "WALRECV_FORCE=true"} {
		config := writeFile(t, "[backup]\nforce = true\n")
		if variable != "" {
			config = writeFile(t, "")
		}
		if o := walrecv([]string{variable}, "backup", "delete", "--archive", dir, "--config", config, "good"); o.code != exitUsage {
			t.Errorf("forced by %q or the configuration: exit %d, %s", variable, o.code, o.stderr)
		}
	}
	there("abandoned damaged good later running")
	del(exitDone, "base backup abandoned is deleted", "abandoned")
	there("damaged good later running")
	for _, id := range []string{"good", "running", "damaged"} {
		del(exitDone, "base backup "+id+" is deleted", "--force", id)
	}
	del(exitWrong, "format 2", "later", "--force")
	there("later")
}

func TestUndeletable(t *testing.T) {
	if err := undeletable(fmt.Errorf("s3: %w", fs.ErrPermission)); !strings.Contains(err.Error(), "deleting takes a right that writing does not") {
		t.Error(err)
	}
	if err := undeletable(archive.ErrCannotDelete); err.Error() != "the store does not delete what is in this archive" {
		t.Error(err)
	}
	if err := undeletable(nil); err != nil {
		t.Error(err)
	}
}
