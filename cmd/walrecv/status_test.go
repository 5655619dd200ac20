package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/storage/local"
)

// emptyArchive makes archives of clusters in a directory of its own.
func emptyArchive(t *testing.T, systems ...uint64) string {
	t.Helper()
	dir := t.TempDir()
	for _, system := range systems {
		id := archive.Identity{SystemID: system, SegmentSize: 16 << 20, Major: 18}
		if _, err := archive.Init(t.Context(), local.New(vfs.OS(), dir, local.Private), id, archive.Keys{}); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestStatusOfOneCluster(t *testing.T) {
	dir := emptyArchive(t, 7400000000000000001)
	o := walrecv(nil, "status", "--archive", dir)
	if o.code != exitDone || !strings.Contains(o.stdout, "7400000000000000001, PostgreSQL 18, segments of 16MB") || o.stderr != "" {
		t.Errorf("exit %d, stdout %s, stderr %s", o.code, o.stdout, o.stderr)
	}
	config := writeFile(t, "archive = \""+dir+"\"\n[status]\njson = true\n")
	o = walrecv(nil, "status", "--config", config)
	var report struct {
		Archive  string `json:"archive"`
		SystemID string `json:"system_identifier"`
	}
	if err := json.Unmarshal([]byte(o.stdout), &report); err != nil || o.code != exitDone {
		t.Fatalf("exit %d, %v, stdout %s, stderr %s", o.code, err, o.stdout, o.stderr)
	}
	if report.Archive != dir || report.SystemID != "7400000000000000001" {
		t.Errorf("%+v", report)
	}
}

func TestStatusChoosesTheCluster(t *testing.T) {
	dir := emptyArchive(t, 7400000000000000001, 7400000000000000002)
	for _, c := range []struct {
		args string
		code int
		says string // on stdout or stderr
	}{
		{"", exitUsage, "several clusters: 7400000000000000001, 7400000000000000002; choose one with --system-id"},
		{"--system-id 7400000000000000002", exitDone, "7400000000000000002, PostgreSQL 18"},
		{"--system-id 7400000000000000003", exitWrong, "only of 7400000000000000001, 7400000000000000002"},
	} {
		o := walrecv(nil, append([]string{"status", "--archive", dir}, strings.Fields(c.args)...)...)
		if o.code != c.code || !strings.Contains(o.stdout+o.stderr, c.says) {
			t.Errorf("%q: exit %d, stdout %s, stderr %s; want %d and %q", c.args, o.code, o.stdout, o.stderr, c.code, c.says)
		}
	}
}

// TestStatusRefuses is about what is no archive.
func TestStatusRefuses(t *testing.T) {
	file := func(name string, content string) string {
		t.Helper()
		path := filepath.Join(t.TempDir(), name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	in := func(name, content string) (dir string) {
		t.Helper()
		return strings.TrimSuffix(file(name, content), "/"+name)
	}
	for _, c := range []struct {
		dir  string
		code int
		says string
	}{
		{filepath.Join(t.TempDir(), "none"), exitFailed, "the archive directory is missing"},
		{file("file", ""), exitFailed, "/file is no directory"},
		{t.TempDir(), exitFailed, "holds no archive"},
		{in("0notes.txt", ""), exitFailed, "holds no archive"},
		{in("000000010000000000000003", ""), exitFailed, "is a directory of WAL files (000000010000000000000003)"},
		{in("000000010000000000000003.gz.partial", ""), exitFailed, "as pg_receivewal and walrecv receive -D leave them"},
		{in("7400000000000000001/wal/00000001/000000010000000000000003.zst", ""), exitFailed, "7400000000000000001/walrecv.json is missing"},
		{in("7400000000000000001/walrecv.json", "{"), exitFailed, "7400000000000000001/walrecv.json is damaged"},
		{in("7400000000000000001/walrecv.json", `{"format":2}`), exitWrong, "format 2"},
		{in("7400000000000000001/walrecv.json", `{"format":1,"system_identifier":"1","wal_segment_size":1048576,"postgresql_major":15}`), exitWrong, "names the system identifier 1"},
	} {
		o := walrecv(nil, "status", "--archive", c.dir)
		if o.code != c.code || !strings.Contains(o.stderr, c.says) || o.stdout != "" || strings.Count(o.stderr, "\n") != 1 {
			t.Errorf("%s: exit %d, stdout %q, stderr %q; want %d and %q", c.dir, o.code, o.stdout, o.stderr, c.code, c.says)
		}
	}
	if o := walrecv(nil, "status"); o.code != exitUsage || !strings.Contains(o.stderr, "--archive") {
		t.Errorf("without an archive: exit %d, stderr %q", o.code, o.stderr)
	}
}
