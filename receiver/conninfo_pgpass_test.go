package receiver

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPassfile(t *testing.T) {
	const file = `# comment:*:*:*:wrong
db1:5432:other:u:wrong
db1:5432:replication:other:wrong
db1:5432:replication:u:one:ignored
db2:*:*:*:t\:w\\o
h\:1:5432:replication:u:three
localhost:5432:replication:u:four
/run/pg:5432:replication:u:five
*:5432:replication:a*:no
`
	for host, want := range map[string]string{
		"db1": "one", "db2": `t:w\o`, "h:1": "three", "/var/run/postgresql": "four", "/tmp": "four",
		"/run/pg": "five", "db3": "", "localhost": "four",
	} {
		got, _ := findPassword(file, hostOf(host), replicationDatabase, "u")
		if got != want {
			t.Errorf("%s: %q, want %q", host, got, want)
		}
	}
	if got, _ := findPassword("*:*:*:u:last line without end", hostOf("x"), replicationDatabase, "u"); got != "last line without end" {
		t.Errorf("last line: %q", got)
	}
}

func hostOf(name string) host { return host{name: name, port: 5432} }

// Each host has its own password, and a file that others can read is none.
func TestPassfileOfConfig(t *testing.T) {
	home := bareEnvironment(t)
	path := writeFile(t, filepath.Join(home, ".pgpass"), "h1:*:replication:u:"+secret+"\nh2:*:*:*:two\n", 0o600)
	var logged strings.Builder
	options := ConnOptions{
		Conninfo: "host=h1,h2,h3 user=u", Getenv: os.Getenv,
		Log: slog.New(slog.NewTextHandler(&logged, nil)),
	}
	c, err := ParseConnInfo(options)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"h1:5432 user=u db=replication password=" + secret + always,
		"h2:5432 user=u db=replication password=two" + always,
		"h3:5432 user=u db=replication" + always,
	}
	if diff := cmp.Diff(want, describe(t, c)); diff != "" {
		t.Error(diff)
	}
	if logged.String() != "" {
		t.Errorf("logged: %s", logged.String())
	}
	// The file is read again at every attempt.
	writeFile(t, path, "*:*:*:*:changed\n", 0o600)
	if got := describe(t, c)[2]; !strings.Contains(got, "password=changed") {
		t.Errorf("after the file changed: %s", got)
	}
	if os.Geteuid() == 0 {
		if err := os.Chmod(path, 0o440); err != nil {
			t.Fatal(err)
		}
		if got := describe(t, c)[0]; !strings.Contains(got, "password=changed") {
			t.Errorf("root's file, readable by a group: %s", got)
		}
		if err := os.Chown(path, 1, 1); err != nil {
			t.Fatal(err)
		}
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620} {
		logged.Reset()
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if c, err = ParseConnInfo(options); err != nil {
			t.Fatal(err)
		}
		if got := describe(t, c)[0]; strings.Contains(got, "password") {
			t.Errorf("mode %v: %s", mode, got)
		}
		if !strings.Contains(logged.String(), "0600") || strings.Count(logged.String(), "\n") != 1 {
			t.Errorf("mode %v: logged %q", mode, logged.String())
		}
	}
	t.Setenv("PGPASSFILE", home) // not a plain file
	if c, err = ParseConnInfo(options); err != nil {
		t.Fatal(err)
	}
	if got := describe(t, c)[0]; strings.Contains(got, "password") {
		t.Errorf("a directory as password file: %s", got)
	}
}
