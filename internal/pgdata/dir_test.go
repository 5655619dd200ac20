package pgdata

import (
	"encoding/binary"
	"path"
	"testing"

	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/segment"
)

// disk makes a disk with these files.
func disk(t *testing.T, files map[string]string) vfs.FS {
	t.Helper()
	fsys := vfs.NewMem()
	for name, content := range files {
		if err := vfs.MkdirAll(fsys, "/", path.Dir(name)[1:], 0o700); err != nil {
			t.Fatal(err)
		}
		if err := vfs.WriteFile(fsys, name, 0o600, []byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	return fsys
}

func TestFind(t *testing.T) {
	tests := []struct {
		name, file, workDir string
		files               map[string]string
		path                string
		found, standby      bool
	}{
		{name: "grandparent", file: "/data/pg_wal/X", workDir: "/", files: map[string]string{"/data/global/pg_control": ""}, path: "/data", found: true},
		{name: "relative", file: "pg_wal/X", workDir: "/data", files: map[string]string{"/data/recovery.signal": ""}, path: "/data", found: true},
		{name: "working directory", file: "/elsewhere/X", workDir: "/data", files: map[string]string{"/data/standby.signal": "", "/elsewhere/X": ""}, path: "/data", found: true, standby: true},
		{name: "both signals", file: "/data/pg_wal/X", workDir: "/", files: map[string]string{"/data/standby.signal": "", "/data/recovery.signal": ""}, path: "/data", found: true, standby: true},
		{name: "neither", file: "/a/b/X", workDir: "/data", files: map[string]string{"/data/file": ""}, path: "/data"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d, err := Find(disk(t, tt.files), tt.file, tt.workDir)
			if err != nil || d.Path != tt.path || d.Found != tt.found || d.Standby != tt.standby {
				t.Errorf("%+v, %v", d, err)
			}
		})
	}
}

func TestSystemID(t *testing.T) {
	const id = 7411122233344455566
	control := string(binary.LittleEndian.AppendUint64(nil, id)) + "and more"
	tests := []struct {
		name  string
		files map[string]string
		want  uint64
		fails bool
	}{
		{"there", map[string]string{"/data/global/pg_control": control}, id, false},
		{"none", map[string]string{"/data/file": ""}, 0, false},
		{"short", map[string]string{"/data/global/pg_control": control[:7]}, 0, true},
		{"zero", map[string]string{"/data/global/pg_control": string(make([]byte, 8))}, 0, true},
	}
	for _, tt := range tests {
		d := Dir{FS: disk(t, tt.files), Path: "/data"}
		if got, err := d.SystemID(); got != tt.want || (err != nil) != tt.fails {
			t.Errorf("%s: %d, %v", tt.name, got, err)
		}
	}
}

func TestMajor(t *testing.T) {
	for content, want := range map[string]int{"15\n": 15, "18": 18, "": -1, "9.6\n": -1, "-3\n": -1} {
		d := Dir{FS: disk(t, map[string]string{"/data/PG_VERSION": content}), Path: "/data"}
		got, err := d.Major()
		if want < 0 && err == nil || want > 0 && (err != nil || got != want) {
			t.Errorf("%q: %d, %v", content, got, err)
		}
	}
	d := Dir{FS: disk(t, map[string]string{"/data/file": ""}), Path: "/data"}
	if got, err := d.Major(); got != 0 || err != nil {
		t.Errorf("without PG_VERSION: %d, %v", got, err)
	}
}

func TestPidFile(t *testing.T) {
	const running = "4711\n/data\n1790000000\n5432\n/tmp\nlocalhost\n 12345 6\n"
	tests := []struct {
		content  string
		server   Postmaster
		stopping bool
	}{
		{running + "ready   \n", Postmaster{4711, 1790000000}, false},
		{running + "standby \n", Postmaster{4711, 1790000000}, false},
		{running + "stopping\n", Postmaster{4711, 1790000000}, true},
		{running, Postmaster{4711, 1790000000}, false},
		{"4711\n/data\n", Postmaster{}, false},
		{"pid\n/data\n1\n", Postmaster{}, false},
		{"", Postmaster{}, false},
	}
	for _, tt := range tests {
		d := Dir{FS: disk(t, map[string]string{"/data/postmaster.pid": tt.content}), Path: "/data"}
		if server, stopping := d.Postmaster(), d.Stopping(); server != tt.server || stopping != tt.stopping {
			t.Errorf("%q: %+v, stopping: %v", tt.content, server, stopping)
		}
	}
	d := Dir{FS: disk(t, map[string]string{"/data/file": ""}), Path: "/data"}
	if d.Postmaster() != (Postmaster{}) || d.Stopping() || d.Promoting() {
		t.Error("without postmaster.pid somebody runs")
	}
	d = Dir{FS: disk(t, map[string]string{"/data/promote": ""}), Path: "/data"}
	if !d.Promoting() {
		t.Error("a promotion goes unnoticed")
	}
	for _, base := range []string{standbySignal, recoverySignal, promoteSignal} {
		d = Dir{FS: disk(t, map[string]string{"/data/" + base: ""}), Path: "/data"}
		if d.Recovering() != (base != promoteSignal) {
			t.Errorf("with %s: recovering %v", base, d.Recovering())
		}
	}
}

func TestHistories(t *testing.T) {
	const sound = "1\t0/3000000\tno recovery target specified\n"
	d := Dir{Path: "/data", FS: disk(t, map[string]string{
		"/data/pg_wal/00000002.history":          sound,
		"/data/pg_wal/00000003.history":          sound + "\n2\t0/4000000\tx\n",
		"/data/pg_wal/00000004.history":          "1\t0/3000", // cut short
		"/data/pg_wal/00000005.history.tmp":      sound,
		"/data/pg_wal/000000010000000000000003":  "",
		"/data/pg_wal/00000006.history/not-file": "",
	})}
	got, err := d.Histories(2)
	if err == nil {
		t.Fatalf("a history that is a directory was taken for one: %+v", got)
	}
	d.FS = disk(t, map[string]string{
		"/data/pg_wal/00000002.history": sound,
		"/data/pg_wal/00000003.history": sound + "\n2\t0/4000000\tx\n",
		"/data/pg_wal/00000004.history": "1\t0/3000", // cut short
	})
	if got, err = d.Histories(2); err != nil {
		t.Fatal(err)
	}
	if len(got.Sound) != 1 || got.Sound[0].Timeline != 3 || len(got.Sound[0].Entries) != 2 {
		t.Errorf("sound: %+v", got.Sound)
	}
	if len(got.Broken) != 1 || got.Broken[4] == nil {
		t.Errorf("broken: %v", got.Broken)
	}
	if none, err := ReadHistories(d.FS, "/nowhere", 1); err != nil || len(none.Sound) > 0 {
		t.Errorf("without a directory: %+v, %v", none, err)
	}
	if _, err := ParseHistory(segment.TimelineID(2), []byte(sound[:12])); err == nil {
		t.Error("a history that was cut short is whole")
	}
}
