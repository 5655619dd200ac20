package main

import (
	"bytes"
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/walrecv/walrecv/receiver"
)

// A file with a secret is refused if others can read it, with what to do about it.
// Root's may be read by a group.
func TestSecretsOfOthers(t *testing.T) {
	identity := identity(t)
	recipient := identity.Recipient().String()
	password := "[receive]\ndbname = \"host=x password=5eC7et\"\n"
	for _, c := range []struct {
		name, content string
		args          func(file string) []string
	}{
		{"a password for this command", password, func(f string) []string { return []string{"receive", "-D", "x", "--config", f} }},
		{"a password for another one", password, func(f string) []string { return []string{"restore", "--archive", "/a", "--config", f, "f", "p"} }},
		{"a URI", "dbname = \"postgresql://u:5eC7et@x\"\n", func(f string) []string { return []string{"config", "check", "--config", f} }},
		{"an identity", identity.String(), func(f string) []string { return []string{"status", "--archive", "/nowhere", "--decrypt-with", f} }},
		{"a digest key", strings.Repeat("5eC7et--", 4), func(f string) []string {
			return []string{"config", "check", "push", "--archive", "/a", "--encrypt-to", recipient, "--digest-key", f}
		}},
	} {
		for mode, refused := range map[os.FileMode]bool{0o600: false, 0o400: false, 0o640: os.Getuid() != 0, 0o440: os.Getuid() != 0, 0o604: true, 0o644: true, 0o660: true, 0o666: true} {
			file := keyFile(t, c.content, mode)
			o := walrecv(nil, c.args(file)...)
			says := strings.Contains(o.stderr, "others can read it") && strings.Contains(o.stderr, "chmod 06") && strings.Contains(o.stderr, file)
			if says != refused || refused && o.code != exitUsage && o.code != exitRestoreBad || strings.Contains(o.stderr, "5eC7et") {
				t.Errorf("%s, mode %o: exit %d, %q", c.name, mode, o.code, o.stderr)
			}
		}
	}
	if os.Getuid() == 0 { // a group reads root's files only
		file := keyFile(t, password, 0o640)
		if err := os.Chown(file, 65534, 65534); err != nil {
			t.Fatal(err)
		}
		if o := walrecv(nil, "receive", "-D", "x", "--config", file); o.code != exitUsage || !strings.Contains(o.stderr, "chmod 0600") {
			t.Errorf("somebody's file that a group can read: exit %d, %q", o.code, o.stderr)
		}
	}
	// Without a password it is nobody's secret.
	if o := walrecv(nil, "receive", "-D", "x", "--config", keyFile(t, "dbname = \"host=x\"\n", 0o644)); o.code != exitDone {
		t.Errorf("no password: exit %d, %s", o.code, o.stderr)
	}
}

// A password in the process list is told about, once, and what to do instead. One
// from elsewhere is not.
func TestPasswordOnCommandLine(t *testing.T) {
	for _, c := range []struct {
		args   string
		dbname string
		want   bool
	}{
		{"receive -d password=5eC7et", "password=5eC7et", true},
		{"receive --dbname=postgresql://u:5eC7et@x", "postgresql://u:5eC7et@x", true},
		{"receive -dpassword=5eC7et", "password=5eC7et", true},
		{"receive -d host=x", "host=x", false},
		{"receive", "password=5eC7et", false}, // from the file
	} {
		var log bytes.Buffer
		a := newTestApp([]string{"PGPASSWORD=x"}, nil, nil)
		a.args = strings.Fields(c.args)
		if _, err := a.connection(connOptions{dbname: c.dbname}, slog.New(slog.NewTextHandler(&log, nil))); err != nil {
			t.Fatal(err)
		}
		if got := log.String(); strings.Count(got, "can see the password") > 1 || strings.Contains(got, "~/.pgpass") != c.want || strings.Contains(got, "5eC7et") {
			t.Errorf("%s: %s", c.args, got)
		}
	}
}

func TestMaskConninfo(t *testing.T) {
	for text, want := range map[string]string{
		"":                               "",
		"host=x user=y":                  "host=x user=y",
		"host=x password='a b' user=y":   "host=x password=*** user=y",
		`options='-c x=\'1' password=z`:  `options='-c x=\'1' password=***`,
		"postgresql://u@h:1/d":           "postgresql://u@h:1/d",
		"postgresql://u:p%20w@[::1]:1/d": "user=u password=*** host=::1 port=1 dbname=d",
		"x":                              "***",
	} {
		if got := receiver.MaskConninfo(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
