package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/walrecv/walrecv/internal/recovery"
)

func TestDrillRefuses(t *testing.T) {
	dir := emptyArchive(t, 7400000000000000001)
	file := func(text string) string { return writeFile(t, text) }
	for _, tt := range []struct {
		args []string
		says string
	}{
		{nil, "nothing to restore from; use --archive"},
		{[]string{"--archive", dir, "x"}, "too many command-line arguments"},
		{[]string{"--archive", dir, "--target-lsn", "0/1", "--target-xid", "700"}, "--target-lsn and --target-xid cannot be given together"},
		{[]string{"--archive", dir, "--target-time", "2026-01-31 12:00:00"}, "no offset"},
		{[]string{"--archive", dir, "--target-name", strings.Repeat("x", 64)}, "at most 63 bytes"},
		{[]string{"--archive", dir, "--target-xid", "2"}, "no transaction"},
		{[]string{"--archive", dir, "--target-timeline", "x"}, "is not a timeline"},
		{[]string{"--archive", dir, "--target-action", "shutdown"}, "valid are promote, pause"},
		{[]string{"--archive", dir, "--target-action", "pause"}, "needs a target"},
		{[]string{"--archive", dir, "--random-target", "--target-immediate"}, "cannot be given together"},
		{[]string{"--archive", dir, "--random-target", "--backup", "20261122T073000Z"}, "do not give --backup"},
		{[]string{"--archive", dir, "--random-target", "--target-timeline", "1"}, "do not give --target-timeline"},
		{[]string{"--archive", dir, "--backup", "../x"}, `--backup: "../x" cannot be the ID`},
		{[]string{"--archive", dir, "--backup", "zzz"}, "there is no base backup zzz in the archive"},
		{[]string{"--archive", dir, "--check", "select 1;\nselect 2;"}, "2 statements: want one"},
		{[]string{"--archive", dir, "--check", ""}, "0 statements: want one"},
		{[]string{"--archive", dir, "--check-file", "/nowhere/file"}, "no such file"},
		{[]string{"--archive", dir, "--check-file", file("-- nothing\n")}, "has no statement"},
		{[]string{"--archive", dir, "--html", "/nowhere/page.html"}, "--html: "},
		{[]string{"--archive", dir, "--html", dir}, "is a directory; name a file"},
		{[]string{"--archive", dir, "-w", "-W"}, "--no-password together with --password"},
		{[]string{"--archive", dir, "-d", "host=x sslmode=what"}, "sslmode"},
	} {
		o := walrecv(nil, append([]string{"drill"}, tt.args...)...)
		if o.code != exitUsage || !strings.Contains(o.stderr, tt.says) || o.stdout != "" {
			t.Errorf("%q: exit %d, stdout %s, stderr %s; want %q", tt.args, o.code, o.stdout, o.stderr, tt.says)
		}
	}
}

// TestDrillWithoutBackup: an archive without a base backup was not proven to be
// restorable, one that is not there was not asked.
func TestDrillWithoutBackup(t *testing.T) {
	dir := emptyArchive(t, 7400000000000000001)
	page := filepath.Join(t.TempDir(), "page.html")
	o := walrecv(nil, "drill", "--archive", dir, "--html", page)
	text, err := os.ReadFile(page)
	if o.code != exitUnsound || !strings.Contains(o.stdout, "no_backup: ") || err != nil || !strings.Contains(string(text), "no_backup") {
		t.Errorf("exit %d, stdout %s, stderr %s, page: %v", o.code, o.stdout, o.stderr, err)
	}
	if kept, err := os.ReadDir(filepath.Join(dir, "7400000000000000001", "drills")); err != nil || len(kept) != 1 {
		t.Errorf("kept: %v, %v", kept, err)
	}
	if err := os.Remove(page); err != nil {
		t.Fatal(err)
	}
	o = walrecv(nil, "drill", "--archive", t.TempDir(), "--html", page)
	if _, err := os.Stat(page); o.code != exitFailed || o.stdout != "" || err == nil {
		t.Errorf("exit %d, stdout %s, stderr %s, page: %v", o.code, o.stdout, o.stderr, err)
	}
}

func TestTargetOptions(t *testing.T) {
	var o targetOptions
	if target, err := o.target(); err != nil || target != (recovery.Target{}) {
		t.Errorf("%+v, %v", target, err)
	}
	o = targetOptions{xid: 700, timeline: 3}
	if target, err := o.target(); err != nil || target != (recovery.Target{Kind: recovery.XID, XID: 700, Timeline: 3}) {
		t.Errorf("%+v, %v", target, err)
	}
}

func TestDrillSecrets(t *testing.T) {
	var c drillConfig
	if err := archiveValue(&c.archive.location).Set("s3://bucket/prefix?ca_file=/etc/ca.pem"); err != nil {
		t.Fatal(err)
	}
	c.read.decryptWith = "/etc/key"
	got := strings.Join(secretsOf(c, 7, "/bin/walrecv", map[string]string{"HOME": "/root", "AWS_CONFIG_FILE": "/etc/aws"}), " ")
	for _, want := range []string{"/bin/walrecv", "/etc/key", "/etc/ca.pem", "/etc/aws", "/root/.aws/credentials"} {
		if !strings.Contains(got, want) {
			t.Errorf("%s is missing in %s", want, got)
		}
	}
}
