package main

import (
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/walrecv/walrecv/storage"
)

func TestMappingValue(t *testing.T) {
	for text, want := range map[string][2]string{
		"/old=/new":             {"/old", "/new"},
		"/a b=/c,d":             {"/a b", "/c,d"},
		"/ä/=/ö//x":             {"/ä", "/ö/x"},
		`/a\=b=/c\=d`:           {"/a=b", "/c=d"},
		`/back\slash=/x\`:       {`/back\slash`, `/x\`},
		"/old/../other=/new/./": {"/other", "/new"},
	} {
		m := mappingValue{map[string]string{}}
		if err := m.Set(text); err != nil || !reflect.DeepEqual(m.target, map[string]string{want[0]: want[1]}) {
			t.Errorf("%q: %q, %v", text, m.target, err)
		}
		again := mappingValue{map[string]string{}}
		if err := again.Set(m.String()); err != nil || !reflect.DeepEqual(again.target, m.target) {
			t.Errorf("%q is printed as %q: %v", text, m, err)
		}
		if err := m.Set(text); err == nil {
			t.Errorf("%q: twice", text)
		}
	}
	for text, want := range map[string]string{
		"": "must be OLDDIR=NEWDIR", "/old": "must be", "/old=": "must be", "=/new": "must be", `/old\=/new`: "must be",
		"/a=/b=/c": "several", "old=/new": "not an absolute", "/old=new": "not an absolute",
	} {
		if err := (mappingValue{map[string]string{}}).Set(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestBackupRestoreUsage(t *testing.T) {
	for line, want := range map[string]string{
		"":                                      "use --archive",
		"--archive /a":                          "use --target-dir",
		"--archive /a --target-dir /d --slot s": "--slot needs --primary-conninfo",
		"--archive /a --target-dir /d --primary-conninfo host=x":                      "--primary-conninfo needs --standby",
		"--archive /a --target-dir /d --standby --target-lsn 0/1":                     "cannot be given together",
		"--archive /a --target-dir /d --target-xid 7 --target-lsn 0/1":                "cannot be given together",
		"--archive /a --target-dir /d --target-lsn 0/0":                               "0/0 is not a position",
		"--archive /a --target-dir /d --target-time 0001-01-01T00:00:00Z":             "no transaction ended then",
		"--archive /a --target-dir /d --target-action promote":                        "--target-action needs a target",
		"--archive /a --target-dir /d --target-time 2026-01-31":                       "offset",
		"--archive /a --target-dir /d --standby --primary-conninfo host=x --slot a-b": "a_b",
		"--archive /a --target-dir /d --standby --primary-conninfo hos=x":             `--primary-conninfo: connection option "hos": there is no such option`,
		"--archive /a --target-dir /d --standby --primary-conninfo db1":               "there is no \"keyword=value\"",
		"--archive /a --target-dir /d --standby --primary-conninfo postgres://h?x=1":  `"x": there is no such option`,
		"--archive /a --target-dir /d --tablespace-mapping x":                         "must be OLDDIR=NEWDIR",
		"--archive /a --target-dir /d extra":                                          "too many",
	} {
		o := walrecv(nil, append([]string{"backup", "restore"}, strings.Fields(line)...)...)
		if o.code != exitUsage || !strings.Contains(o.stderr, want) {
			t.Errorf("%s: exit %d, %q; want 2, %q", line, o.code, o.stderr, want)
		}
	}
	// What changes a restore is no setting.
	for _, entry := range []string{"target_time = '2026-01-31 12:00:00Z'", "backup = 'x'", "standby = true", "target_action = 'promote'", "force = true"} {
		o := walrecv(nil, "backup", "restore", "--archive", t.TempDir(), "--target-dir", "/d", "--config", writeFile(t, "[backup]\n"+entry+"\n"))
		if key, _, _ := strings.Cut(entry, " "); o.code != exitUsage || !strings.Contains(o.stderr, `unknown key "`+key+`"`) {
			t.Errorf("%s: exit %d, %q", entry, o.code, o.stderr)
		}
	}
	// What another host has is not looked for on this one.
	for _, conninfo := range []string{"postgresql://u@db1,db2:5433/?sslrootcert=/nowhere&application_name=a", "host=@abstract service=elsewhere requirepeer=postgres port=x"} {
		o := walrecv(nil, "backup", "restore", "--archive", t.TempDir(), "--target-dir", "/d", "--standby", "--primary-conninfo", conninfo)
		if o.code != exitFailed {
			t.Errorf("%s: exit %d, %q", conninfo, o.code, o.stderr)
		}
	}
	// A receiver's variable is not a replica's slot.
	if o := walrecv([]string{"WALRECV_SLOT=walrecv"}, "backup", "restore", "--archive", t.TempDir(), "--target-dir", "/d"); o.code != exitFailed {
		t.Errorf("exit %d, %q", o.code, o.stderr)
	}
}

func TestRestoreCommandOfABackup(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	const guard = "answer() { r=$?; [ $r -le 1 ] || [ $r -ge 126 ] || r=200; exit $r; }; trap answer EXIT; "
	const operands = ` %f "%p"`
	location := func(url string) storage.Location {
		l, err := storage.ParseURL(url)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	for _, c := range []struct {
		config  backupRestoreConfig
		environ []string
		want    string
	}{
		{backupRestoreConfig{archive: archiveOptions{location("/srv/a wal")}}, nil, "--archive '/srv/a wal' --system-id 7"},
		{
			backupRestoreConfig{archive: archiveOptions{location("/a")}, config: "/etc/w.toml", read: readOptions{decryptWith: "/k"}},
			[]string{"WALRECV_ARCHIVE=/other", "WALRECV_DECRYPT_WITH=/other", "WALRECV_RETRY_FOR=1min", "WALRECV_SPOOL=/spool", "WALRECV_SLOT=s", "WALRECV_TAIL="},
			"--config /etc/w.toml --archive /a --system-id 7 --decrypt-with /k --spool /spool --retry-for 1min",
		},
		{
			backupRestoreConfig{archive: archiveOptions{location("s3://bucket/p?path_style=true")}},
			[]string{"AWS_REGION=eu-1", "AWS_ENDPOINT_URL=http://127.0.0.1:9", "AWS_CA_BUNDLE=/ca", "AWS_PROFILE=p", "AWS_ACCESS_KEY_ID=k", "AWS_SECRET_ACCESS_KEY=s"},
			"--archive 's3://bucket/p?endpoint=http://127.0.0.1:9&region=eu-1&path_style=true&ca_file=/ca' --system-id 7",
		},
		{
			backupRestoreConfig{archive: archiveOptions{location("s3://bucket/p?region=x")}},
			[]string{"AWS_REGION=eu-1", "AWS_PROFILE=p"},
			"--archive 's3://bucket/p?region=x&profile=p' --system-id 7",
		},
	} {
		got, err := newTestApp(c.environ, io.Discard, io.Discard).restoreCommand(c.config, 7)
		if want := guard + self + " restore " + c.want + operands; err != nil || got != want {
			t.Errorf("%v\n got %s\nwant %s", err, got, want)
		}
	}
}

func TestOwnerFor(t *testing.T) {
	dir := t.TempDir()
	if os.Geteuid() != 0 {
		if o, err := ownerFor(dir); o != nil || err != nil {
			t.Error(o, err)
		}
		return
	}
	if err := os.Chown(dir, 65534, 65533); err != nil {
		t.Fatal(err)
	}
	if o, err := ownerFor(dir); err != nil || o.uid != 65534 || o.gid != 65533 {
		t.Error(o, err)
	}
	if o, err := ownerFor(filepath.Join(dir, "new")); err != nil || o.name != serverUser || o.uid == 0 {
		t.Error(o, err)
	}
}
