package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// prunable is a local archive of ten segments, of 16 MB by name.
func prunable(t *testing.T) (dir string, segments func() int) {
	t.Helper()
	dir = emptyArchive(t, 7400000000000000001)
	wal := filepath.Join(dir, "7400000000000000001", "wal", "00000001")
	if err := os.MkdirAll(wal, 0o700); err != nil {
		t.Fatal(err)
	}
	for n := range 10 {
		if err := os.WriteFile(filepath.Join(wal, fmt.Sprintf("00000001000000000000000%d.zst", n)), []byte("1234"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir, func() int {
		t.Helper()
		list, err := filepath.Glob(filepath.Join(wal, "*.zst"))
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
}

func TestPrune(t *testing.T) {
	dir, segments := prunable(t)
	o := walrecv(nil, "prune", "--archive", dir, "--before", "000000010000000000000004")
	if o.code != exitDone || segments() != 10 || !strings.Contains(o.stdout, "nothing was removed: with --yes 4 items, 16 B, go; the WAL from 0/4000000 on stays") {
		t.Errorf("exit %d, stdout %s, stderr %s", o.code, o.stdout, o.stderr)
	}
	// Neither the environment nor a file says yes.
	config := writeFile(t, "archive = \""+dir+"\"\n[prune]\nbefore = \"0/3000000\"\n")
	if o = walrecv([]string{"WALRECV_YES=true"}, "prune", "--config", config); o.code != exitUsage || segments() != 10 {
		t.Errorf("exit %d, stdout %s, stderr %s", o.code, o.stdout, o.stderr)
	}
	if o = walrecv(nil, "prune", "--config", config, "--yes"); o.code != exitDone || segments() != 7 || !strings.Contains(o.stdout, "removed 3 items, 12 B") {
		t.Errorf("exit %d, stdout %s, stderr %s", o.code, o.stdout, o.stderr)
	}
	o = walrecv(nil, "prune", "--archive", dir, "--before", "0/FF000000", "--yes", "--json")
	var doc pruneJSON
	if err := json.Unmarshal([]byte(o.stdout), &doc); err != nil || o.code != exitDone || segments() != 1 {
		t.Fatalf("exit %d, %v, stdout %s, stderr %s", o.code, err, o.stdout, o.stderr)
	}
	if doc.DryRun || doc.Start != 0x9000000 || doc.Bytes != 24 || len(doc.Removed) != 1 || doc.Removed[0] != (pruneSumJSON{"segments", 6, 24}) ||
		len(doc.Notes) != 1 || doc.Backups == nil || doc.Problems == nil {
		t.Errorf("%s", o.stdout)
	}
	// What a writer left that crashed long ago goes, too.
	old := filepath.Join(dir, ".~20200101T000000Z-x.tmp")
	if err := os.WriteFile(old, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	o = walrecv(nil, "prune", "--archive", dir, "--window", "7d", "--yes")
	if _, err := os.Stat(old); err == nil || !strings.Contains(o.stdout, "1 left-over of uploads") {
		t.Errorf("%v, stdout %s", err, o.stdout)
	}
	if o.code != exitDone || !strings.Contains(o.stdout, "all WAL stays") || segments() != 1 {
		t.Errorf("exit %d, stdout %s, stderr %s", o.code, o.stdout, o.stderr)
	}
}

func TestPruneUsage(t *testing.T) {
	dir, segments := prunable(t)
	config := writeFile(t, "archive = \""+dir+"\"\n[prune]\nyes = true\n")
	for args, says := range map[string]string{
		"--window 7d":                                           "use --archive",
		"--archive DIR":                                         "nothing says what is to stay",
		"--archive DIR --window 7d --before 0/1":                "does not go together",
		"--archive DIR --keep-backups 2 --before 0/1":           "does not go together",
		"--archive DIR --keep-backups 0":                        "between 1 and",
		"--archive DIR --window 0":                              "must be between",
		"--archive DIR --before yesterday":                      "neither a WAL position",
		"--archive DIR --before 2026-01-01":                     "no offset",
		"--archive DIR --before 0000000100000000FFFFFFFF --yes": "does not exist with segments of 16MB",
		"--archive DIR --before 0/0 --yes":                      "there is no WAL before that",
		"--archive DIR --before 000000010000000000000000 --yes": "there is no WAL before that",
		"--archive DIR --before 0001-01-01T00:00:00Z --yes":     "there is no WAL before that",
		"--archive DIR --window 7d --before 0/0":                "does not go together",
		"--archive DIR --window 7d more":                        "too many",
		"--config " + config:                                    "yes",
	} {
		o := walrecv(nil, append([]string{"prune"}, strings.Fields(strings.ReplaceAll(args, "DIR", dir))...)...)
		if o.code != exitUsage || !strings.Contains(o.stderr, says) || segments() != 10 {
			t.Errorf("%s: exit %d, %s", args, o.code, o.stderr)
		}
	}
	// What receive and push call a wrong archive is a failure here.
	identity := filepath.Join(dir, "7400000000000000001", "walrecv.json")
	was, err := os.ReadFile(identity)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(identity, []byte(strings.NewReplacer(`"format": 1`, `"format": 99`, `"format":1`, `"format":99`).Replace(string(was))), 0o600); err != nil {
		t.Fatal(err)
	}
	if o := walrecv(nil, "prune", "--archive", dir, "--window", "7d"); o.code != exitFailed || !strings.Contains(o.stderr, "99") {
		t.Errorf("a format of another version: exit %d, %s", o.code, o.stderr)
	}
	if err := os.WriteFile(identity, was, 0o600); err != nil {
		t.Fatal(err)
	}
	if o := walrecv(nil, "prune", "--archive", dir, "--before", "2026-01-01 00:00:00Z", "--yes"); o.code != exitFailed || !strings.Contains(o.stderr, "--decrypt-with") || segments() != 10 {
		t.Errorf("a time that nobody knows: exit %d, %s", o.code, o.stderr)
	}
}
