package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// optionLines are the beginnings of an option's line in the help.
func optionLines(cmd *cobra.Command) []string {
	var lines []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		name := "--" + f.Name
		if f.Shorthand != "" {
			name = "-" + f.Shorthand + ", " + name
		}
		lines = append(lines, "  "+name+" ")
	})
	return lines
}

// samples are three valid texts for an option, in the form in which the option
// prints them; the neighbours differ.
func samples(t *testing.T, f *pflag.Flag) [3]string {
	t.Helper()
	switch f.Name {
	case "archive":
		return [3]string{"/a", "/b", "/c"}
	case "ack":
		return [3]string{"archive", "flush", "archive"}
	case "log-level":
		return [3]string{"debug", "warn", "error"}
	case "checkpoint":
		return [3]string{"spread", "fast", "spread"}
	case "tail":
		return [3]string{"never", "auto", "never"}
	case "target-action":
		return [3]string{"pause", "promote", "pause"}
	}
	switch f.Value.Type() {
	case kindBool:
		return [3]string{"true", "false", "true"}
	case kindString:
		return [3]string{"alpha", "beta", "gamma"}
	case kindInt:
		return [3]string{"1", "2", "3"}
	case kindList:
		return [3]string{"@a", "@b,@c", "@d"}
	case "duration":
		return [3]string{"1s", "2s", "3s"}
	case "rate":
		return [3]string{"32", "1000", "1048576"}
	case "size":
		return [3]string{"1MB", "1500kB", "3GB"}
	case "lsn":
		return [3]string{"0/1", "0/2", "16/B374D848"}
	case "time":
		return [3]string{"2026-01-31T12:00:00Z", "2026-02-01T00:00:00.5Z", "2026-03-01T00:00:00Z"}
	case "transaction":
		return [3]string{"3", "4", "4294967295"}
	case "timeline":
		return [3]string{"1", "current", "4294967295"}
	case "address":
		return [3]string{"127.0.0.1:1", "[::1]:2", "db1.example:3"}
	case "place":
		return [3]string{"0/1", "2026-01-31T12:00:00Z", "16/B374D848"}
	case "port":
		return [3]string{"5433", "5434", "5435,5436"}
	case "compression":
		return [3]string{"gzip:1", "lz4", "zstd:3"}
	case "system identifier":
		return [3]string{"7400000000000000001", "7400000000000000002", "18446744073709551615"}
	}
	t.Fatalf("--%s: no samples for the kind %q", f.Name, f.Value.Type())
	return [3]string{}
}

// literal is a text as a value of a configuration file.
func literal(f *pflag.Flag, text string) string {
	if k := f.Value.Type(); k == kindBool || k == kindInt {
		return text
	}
	return strconv.Quote(text)
}

// load resolves the options of a command from all its sources.
func load(path string, file string, environ []string, args ...string) (*cobra.Command, error) {
	root := newTestApp(nil, io.Discard, io.Discard).newRoot()
	cmd, _, err := root.Find(strings.Fields(path))
	if err != nil {
		return nil, err
	}
	if err := cmd.ParseFlags(append(args, "--config", file)); err != nil {
		return nil, err
	}
	return cmd, loadConfig(cmd, environ, cmd.Root)
}

// Every option of every command: the command line wins over the environment,
// that over the file, that over the default; among the keys of the file the
// command's own table wins over the top.
func TestPrecedence(t *testing.T) {
	shared := pflag.NewFlagSet("", pflag.ContinueOnError)
	addSharedOptions(shared)
	seen := 0
	for path, cmd := range workers(newTestApp(nil, io.Discard, io.Discard).newRoot()) {
		table, _, _ := strings.Cut(path, " ")
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if annotated(f, notInFile) { // and so only on the command line
				return
			}
			seen++
			checkPrecedence(t, path, table, f, shared.Lookup(f.Name) != nil)
		})
	}
	if seen < 45 {
		t.Errorf("only %d options were checked", seen)
	}
}

func checkPrecedence(t *testing.T, path, table string, f *pflag.Flag, shared bool) {
	s := samples(t, f)
	key := strings.ReplaceAll(f.Name, "-", "_")
	variable := "WALRECV_" + strings.ToUpper(key)
	isConn := slices.Contains([]string{"dbname", "host", "port", "username", "no-password", "password"}, f.Name)

	none := writeFile(t, "")
	own := writeFile(t, fmt.Sprintf("[%s]\n%s = %s\n", table, key, literal(f, s[0])))
	top := writeFile(t, fmt.Sprintf("%s = %s\n", key, literal(f, s[0])))
	both := writeFile(t, fmt.Sprintf("%s = %s\n[%s]\n%s = %s\n", key, literal(f, s[1]), table, key, literal(f, s[0])))
	env := []string{variable + "=" + s[1]}
	flag := []string{"--" + f.Name + "=" + s[2]}
	fromEnv, given := s[1], true
	if isConn {
		fromEnv, given = f.Value.String(), false
	}

	check := func(what, file string, environ, args []string, want string, wantGiven bool) {
		t.Helper()
		cmd, err := load(path, file, environ, args...)
		if err != nil {
			t.Errorf("%s: --%s from %s: %v", path, f.Name, what, err)
			return
		}
		got := cmd.Flags().Lookup(f.Name)
		if got.Value.String() != want || got.Changed != wantGiven {
			t.Errorf("%s: --%s from %s = %q, given %v; want %q, %v", path, f.Name, what, got.Value, got.Changed, want, wantGiven)
		}
	}
	check("nothing", none, nil, nil, f.Value.String(), false)
	check("an empty variable", own, []string{variable + "="}, nil, s[0], true)
	check("its table", own, nil, nil, s[0], true)
	check("the environment", none, env, nil, fromEnv, given)
	check("the command line", none, nil, flag, s[2], true)
	check("the command line and all", own, env, flag, s[2], true)
	if !isConn {
		check("the environment and the file", own, env, nil, s[1], true)
	}
	if shared {
		check("the top", top, nil, nil, s[0], true)
		check("its table and the top", both, nil, nil, s[0], true)
		check("the command line and the top", top, nil, flag, s[2], true)
	} else if _, err := load(path, top, nil); exitCode(err) != exitUsage {
		t.Errorf("%s: %s on top: %v, want a usage error", path, key, err)
	}
}

// A wrong value is refused also where a stronger source wins.
func TestLosingValuesAreChecked(t *testing.T) {
	file := writeFile(t, "[receive]\nflush_interval = \"soon\"\n")
	good := writeFile(t, "[receive]\nflush_interval = \"1s\"\n")
	args := []string{"--flush-interval", "2s"}
	if _, err := load("receive", file, nil, args...); exitCode(err) != exitUsage {
		t.Errorf("wrong in the file: %v", err)
	}
	if _, err := load("receive", good, []string{"WALRECV_FLUSH_INTERVAL=soon"}, args...); exitCode(err) != exitUsage {
		t.Errorf("wrong in the environment: %v", err)
	}
	cmd, err := load("receive", good, []string{"WALRECV_FLUSH_INTERVAL=3s"}, args...)
	if err != nil || cmd.Flag("flush-interval").Value.String() != "2s" {
		t.Errorf("%v, %v; want 2s", cmd.Flag("flush-interval").Value, err)
	}
}

func TestEnvironmentErrors(t *testing.T) {
	for variable, want := range map[string]string{
		"WALRECV_STATUS_INTERVAL=1 week":  `WALRECV_STATUS_INTERVAL: invalid duration "1 week": valid units are us, ms, s, min, h, d`,
		"WALRECV_FLUSH_INTERVAL=0":        `WALRECV_FLUSH_INTERVAL: invalid duration "0": must be between 1ms and 1h`,
		"WALRECV_NO_LOOP=2":               `WALRECV_NO_LOOP: invalid switch "2": valid are true, false, on, off, yes, no, 1, 0`,
		"WALRECV_UPLOAD_WORKERS=many":     `WALRECV_UPLOAD_WORKERS: invalid number "many": must be between 1 and 64`,
		"WALRECV_ARCHIVE=s3://":           `WALRECV_ARCHIVE: archive URL names no bucket; expected s3://bucket/prefix`,
		"WALRECV_CONFIG=/nowhere/at.toml": `cannot read the configuration file: open /nowhere/at.toml: no such file or directory`,
	} {
		o := walrecv([]string{variable}, "receive", "-D", "x")
		if o.code != exitUsage || o.stderr != "walrecv: "+want+"\n" || o.receive != nil {
			t.Errorf("%s: exit %d, %q; want 2, %q", variable, o.code, o.stderr, want)
		}
	}
}

func TestEnvironmentSwitches(t *testing.T) {
	for text, want := range map[string]bool{
		"true": true, "TRUE": true, "1": true, "on": true, "On": true, "yes": true,
		"false": false, "False": false, "0": false, "off": false, "no": false, "NO": false, "": false,
	} {
		o := walrecv([]string{"WALRECV_NO_LOOP=" + text}, "receive", "-D", "x")
		if o.code != exitDone || o.receive == nil || o.receive.noLoop != want {
			t.Errorf("WALRECV_NO_LOOP=%q: exit %d, %+v, %s; want %v", text, o.code, o.receive, o.stderr, want)
		}
	}
}

// What has to stand on the command line is refused elsewhere: nobody is to believe
// that it counts. But a variable that is a receiver's, or nobody's business, is.
func TestRefusedInEnvironment(t *testing.T) {
	for _, tt := range []struct{ variable, command, says string }{
		{"WALRECV_CHECK=select false", "drill", "WALRECV_CHECK is set, but --check can be given on the command line only"},
		{"WALRECV_TARGET_DIR=/x", "backup restore", "WALRECV_TARGET_DIR is set"},
		{"WALRECV_TABLESPACE_MAPPING=/x=/y", "backup restore", "WALRECV_TABLESPACE_MAPPING is set"},
		{"WALRECV_PRIMARY_CONNINFO=host=x", "backup restore", "WALRECV_PRIMARY_CONNINFO is set"},
		{"WALRECV_YES=true", "prune", "WALRECV_YES is set"},
		{"WALRECV_YES=", "prune", ""},
		{"WALRECV_CHECK=select false", "verify", ""},
		{"WALRECV_SLOT=receiver", "backup restore", ""},
		{"WALRECV_HELP=x", "drill", ""},
		{"WALRECV_VERSION=1.2", "receive", ""},
		{"WALRECV_PORT=tcp://10.0.0.1:9187", "drill", ""},
		{"WALRECV_SERVICE_HOST=10.0.0.1", "drill", ""},
	} {
		_, err := load(tt.command, writeFile(t, ""), []string{tt.variable})
		if tt.says == "" && err == nil {
			continue
		}
		if tt.says == "" || exitCode(err) != exitUsage || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s %s: %v", tt.variable, tt.command, err)
		}
	}
}

// Kubernetes sets variables for a service named walrecv. They never matter;
// other unknown ones are named in the log.
func TestStrangeVariables(t *testing.T) {
	environ := []string{
		"WALRECV_SERVICE_HOST=10.0.0.1", "WALRECV_SERVICE_PORT=9187", "WALRECV_SERVICE_PORT_HTTP=9187",
		"WALRECV_PORT=tcp://10.0.0.1:9187", "WALRECV_PORT_9187_TCP=tcp://10.0.0.1:9187",
		"WALRECV_PORT_9187_TCP_PROTO=tcp", "WALRECV_PORT_9187_TCP_PORT=9187", "WALRECV_PORT_9187_TCP_ADDR=10.0.0.1",
		"WALRECV_ARCHIVE_SERVICE_HOST=10.0.0.2", "WALRECV_ARCHIVE_PORT=tcp://10.0.0.2:1",
		"WALRECV_HOST=x", "WALRECV_SPOOL=/known/to/restore", "WALRECV_ENDPOS=0/1", "PATH=/bin", "WALRECVX=1",
		"WALRECV_ENDPOSS=0/1",
	}
	o := walrecv(environ, "receive", "-D", "x")
	if o.code != exitDone || o.receive == nil {
		t.Fatalf("exit %d, %s", o.code, o.stderr)
	}
	if o.receive.conn != (connOptions{}) || o.receive.archive.given() {
		t.Errorf("options from variables that are none: %+v", o.receive)
	}
	if n := strings.Count(o.stderr, "\n"); n != 2 || !strings.Contains(o.stderr, `"name":"WALRECV_ENDPOSS"`) ||
		!strings.Contains(o.stderr, `"name":"WALRECV_HOST"`) {
		t.Errorf("want warnings about WALRECV_ENDPOSS and WALRECV_HOST only, have:\n%s", o.stderr)
	}
}

// The file may be named before the command, and by its variable.
func TestConfigPath(t *testing.T) {
	file := writeFile(t, "[receive]\ndirectory = \"/from/file\"\n")
	other := writeFile(t, "[receive]\ndirectory = \"/from/other\"\n")
	for name, o := range map[string]outcome{
		"behind":      walrecv(nil, "receive", "--config", file),
		"before":      walrecv(nil, "--config", file, "receive"),
		"environment": walrecv([]string{"WALRECV_CONFIG=" + file}, "receive"),
		"both":        walrecv([]string{"WALRECV_CONFIG=" + other}, "receive", "--config="+file),
		"twice":       walrecv([]string{"WALRECV_CONFIG=" + other, "WALRECV_CONFIG=" + file}, "receive"),
	} {
		if o.code != exitDone || o.receive == nil || o.receive.directory != "/from/file" {
			t.Errorf("%s: exit %d, %+v, %s", name, o.code, o.receive, o.stderr)
		}
	}
	if o := walrecv(nil, "receive", "--config", ""); o.code != exitUsage {
		t.Errorf("empty path: exit %d, want 2", o.code)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if o := walrecv(nil, "receive", "-D", "x", "--config", file); o.code != exitUsage || !strings.Contains(o.stderr, file) {
		t.Errorf("missing file: exit %d, %q", o.code, o.stderr)
	}
}

// One file serves all commands; what belongs to others does not matter, not
// even if it is wrong.
func TestTablesOfOthers(t *testing.T) {
	file := writeFile(t, `
archive = "/shared"
system_id = 7400000000000000001

[receive]
directory = "/spool"
slot = "walrecv"
status_interval = 5
port = 5433
receive.dbname = "ignored as this is [receive.receive]"
`)
	if o := walrecv(nil, "receive", "--config", file); o.code != exitUsage || !strings.Contains(o.stderr, `unknown key "receive" in [receive]`) {
		t.Errorf("nested table: exit %d, %s", o.code, o.stderr)
	}
	file = writeFile(t, `
archive = "/shared"
system_id = 7400000000000000001
receive.directory = "/spool"
receive.slot = "walrecv"
receive.status_interval = 5
receive.port = 5433

[restore]
spool = "/spool"
tail = "never"
archive = "/own"

[slot]
whatever = [1, 2]
[push]
x = 1
[drill]
x = 1
[s3]
region = "eu"
`)
	o := walrecv(nil, "receive", "--config", file)
	if o.code != exitDone {
		t.Fatalf("exit %d, %s", o.code, o.stderr)
	}
	if c := o.receive; c.directory != "/spool" || c.slot != "walrecv" || c.archive.location.Path != "/shared" ||
		c.statusInterval.String() != "5s" || c.conn.port != "5433" {
		t.Errorf("receive: %+v", c)
	}
	o = walrecv(nil, "restore", "--config", file, "f", "p")
	if o.code != exitDone {
		t.Fatalf("exit %d, %s", o.code, o.stderr)
	}
	if c := o.restore; c.archive.location.Path != "/own" || c.spool != "/spool" || c.tail != tailNever || c.read.systemID != 7400000000000000001 {
		t.Errorf("restore: %+v", c)
	}
}
