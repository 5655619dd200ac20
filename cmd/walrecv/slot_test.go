package main

import (
	"net"
	"strings"
	"testing"

	"github.com/walrecv/walrecv/internal/fakepg"
)

// fakeServer starts a server that has a physical, a new and a logical slot, and
// returns what leads to it.
func fakeServer(t *testing.T, version string) (server *fakepg.Server, options []string) {
	t.Helper()
	server = fakepg.New(fakepg.Config{
		Version: version,
		Begin:   0x3000000,
		Slots: map[string]fakepg.Slot{
			"old":     {RestartLSN: 0x3000028},
			"idle":    {},
			"logical": {Logical: true},
		},
	})
	t.Cleanup(server.Close)
	address, err := server.Listen()
	if err != nil {
		t.Fatal(err)
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	return server, []string{"-h", host, "-p", port, "-U", "archiver"}
}

func TestSlotCommands(t *testing.T) {
	server, options := fakeServer(t, "")
	for _, c := range []struct {
		line           string
		code           int
		stdout, stderr string
	}{
		{"slot create new", 0, "", ""},
		{"slot show new", 0, "name         new\ntype         physical\nrestart_lsn  0/3000000\ntimeline     1\nwal          reserved from restart_lsn on\n", ""},
		{"slot create new", 1, "", `replication slot "new" already exists`},
		{"slot create --if-not-exists new", 0, "", ""},
		{"slot create --if-not-exists logical", 2, "", "a logical one"},
		{"slot drop new", 0, "", ""},
		{"slot show new", 1, "", "walrecv: read slot \"new\": the replication slot does not exist\n"},
		{"slot drop new", 1, "", "does not exist"},
		{"slot show old", 0, "name         old\ntype         physical\nrestart_lsn  0/3000028\ntimeline     1\nwal          reserved from restart_lsn on\n", ""},
		{"slot show idle", 0, "name         idle\ntype         physical\nrestart_lsn  none\ntimeline     unknown\nwal          none is reserved yet\n", ""},
		{"slot show logical", 2, "", "a logical one"},
		{"slot drop logical", 2, "", "a logical one"},
		{"slot create pg-2", 2, "", `did you mean "pg_2"?`},
		{"slot show Old", 2, "", `did you mean "old"?`},
	} {
		o := walrecv(nil, append(strings.Fields(c.line), options...)...)
		if o.code != c.code || o.stdout != c.stdout || !strings.Contains(o.stderr, c.stderr) || (o.stderr == "") != (c.stderr == "") {
			t.Errorf("walrecv %s: exit %d, stdout %q, stderr %q; want exit %d, %q, %q", c.line, o.code, o.stdout, o.stderr, c.code, c.stdout, c.stderr)
		}
		if strings.Count(o.stderr, "\n") > 1 {
			t.Errorf("walrecv %s says more than one line: %q", c.line, o.stderr)
		}
	}
	if _, ok := server.Slot("logical"); !ok {
		t.Error("the logical slot is gone")
	}
}

// A name that PostgreSQL refuses is no reason to connect.
func TestSlotUsage(t *testing.T) {
	server, options := fakeServer(t, "")
	if o := walrecv(nil, "slot"); o.code != exitUsage || o.stderr != "walrecv: no command given; try \"walrecv slot --help\"\n" {
		t.Errorf("walrecv slot: exit %d, %q", o.code, o.stderr)
	}
	for line, want := range map[string]string{
		"slot list":                     "unknown command",
		"slot shwo old":                 `did you mean "walrecv slot show"?`,
		"slot show":                     "NAME is missing",
		"slot show old older":           "too many command-line arguments",
		"slot drop pg-2":                `did you mean "pg_2"?`,
		"slot show -w -W old":           "cannot use --no-password together with --password",
		"slot show -d host old":         "connection",
		"slot drop --if-not-exists old": "unknown flag",
	} {
		o := walrecv(nil, append(strings.Fields(line), options...)...)
		if o.code != exitUsage || !strings.Contains(o.stderr, want) || strings.Count(o.stderr, "\n") != 1 {
			t.Errorf("walrecv %s: exit %d, %q; want 2, %q", line, o.code, o.stderr, want)
		}
	}
	if n := server.Connections(); n != 0 {
		t.Errorf("%d connections", n)
	}
}

// libpq's variables lead to the server, ours do not.
func TestSlotConnection(t *testing.T) {
	server, options := fakeServer(t, "")
	environ := []string{"PGHOST=" + options[1], "PGPORT=" + options[3], "PGUSER=archiver", "WALRECV_PORT=tcp://10.0.0.1:5432", "WALRECV_HOST=example"}
	if o := walrecv(environ, "slot", "show", "old"); o.code != exitDone {
		t.Errorf("by PGHOST: exit %d, %s", o.code, o.stderr)
	}
	file := writeFile(t, "dbname = \"host="+options[1]+" user=archiver\"\n[slot]\nport = "+options[3]+"\nif_not_exists = true\n")
	if o := walrecv(nil, "slot", "show", "old", "--config", file); o.code != exitDone {
		t.Errorf("by file: exit %d, %s", o.code, o.stderr)
	}
	if o := walrecv(nil, "slot", "create", "old", "--config", file); o.code != exitDone {
		t.Errorf("if_not_exists in the file: exit %d, %s", o.code, o.stderr)
	}
	if n := server.Connections(); n != 3 {
		t.Errorf("%d connections, want 3", n)
	}
	server.Close()
	o := walrecv(nil, append([]string{"slot", "show", "old"}, options...)...)
	if o.code != exitFailed || strings.Count(o.stderr, "\n") != 1 || !strings.Contains(o.stderr, "cannot be reached") {
		t.Errorf("server gone: exit %d, %q", o.code, o.stderr)
	}
}
