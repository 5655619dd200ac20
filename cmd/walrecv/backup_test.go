package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// putBackup writes an object of a base backup into a local archive.
func putBackup(t *testing.T, dir, id, file, content string) {
	t.Helper()
	path := filepath.Join(dir, "7400000000000000001", "backup", id, file)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestBackupList(t *testing.T) {
	dir := emptyArchive(t, 7400000000000000001)
	o := walrecv(nil, "backup", "list", "--archive", dir)
	if o.code != exitDone || o.stdout != "There is no base backup in the archive.\n" || o.stderr != "" {
		t.Errorf("exit %d, stdout %s, stderr %s", o.code, o.stdout, o.stderr)
	}
	putBackup(t, dir, "20261122T073000Z", "start.json",
		`{"format":1,"id":"20261122T073000Z","timeline":1,"start_lsn":"0/2000028","label":"x","started":"2026-11-22T07:30:00Z","from":"primary"}`)
	o = walrecv(nil, "backup", "list", "--archive", dir)
	if o.code != exitDone || !strings.Contains(o.stdout, "20261122T073000Z") || strings.Count(o.stdout, "\n") != 2 {
		t.Errorf("exit %d, stdout %s, stderr %s", o.code, o.stdout, o.stderr)
	}
	config := writeFile(t, "archive = \""+dir+"\"\n[backup]\njson = true\n")
	o = walrecv(nil, "backup", "list", "--config", config)
	var report struct {
		SystemID string `json:"system_identifier"`
		Backups  []struct {
			ID    string `json:"id"`
			Start string `json:"start_lsn"`
		} `json:"backups"`
	}
	if err := json.Unmarshal([]byte(o.stdout), &report); err != nil || o.code != exitDone {
		t.Fatalf("exit %d, %v, stdout %s, stderr %s", o.code, err, o.stdout, o.stderr)
	}
	if report.SystemID != "7400000000000000001" || len(report.Backups) != 1 || report.Backups[0].Start != "0/2000028" {
		t.Errorf("%+v", report)
	}
}

func TestBackupRefuses(t *testing.T) {
	for args, says := range map[string]string{
		"":                       `no command given; try "walrecv backup --help"`,
		"lst":                    `did you mean "walrecv backup list"?`,
		"list":                   "nothing to look at; use --archive",
		"list --archive /x y":    `too many command-line arguments (first is "y")`,
		"list --archive https:/": "unknown scheme",
	} {
		o := walrecv(nil, append([]string{"backup"}, strings.Fields(args)...)...)
		if o.code != exitUsage || !strings.Contains(o.stderr, says) || o.stdout != "" {
			t.Errorf("%q: exit %d, stdout %s, stderr %s; want %q", args, o.code, o.stdout, o.stderr, says)
		}
	}
}

// TestStorageClass: cheap classes are for what is large and stays, and slow ones not
// for what is looked at.
func TestStorageClass(t *testing.T) {
	for key, want := range map[string]bool{
		"7/wal/00000001/000000010000000000000003.zst":           true,
		"7/tail/000000010000000000000003/00000000-00002000.zst": false,
		"7/backup/x/base.000001.tar.zst.age":                    true,
		"7/backup/x/backup_manifest.zst":                        true,
		"7/backup/x/start.json":                                 false,
		"7/backup/x/backup.json":                                false,
		"7/drills/x.json":                                       false,
		"7/walrecv.json":                                        false,
	} {
		if got := classed(key); got != want {
			t.Errorf("%s: %t", key, got)
		}
	}
}
