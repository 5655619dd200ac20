package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// All that is wrong is told at once, each with its place, and each once, though most
// of it concerns several commands.
func TestConfigCheckTellsAll(t *testing.T) {
	file := writeFile(t, `archive = "s3://wal/prod"
system_id = "x"
[s3]
regoin = "eu"
[receive]
upload_worker = 3
flush_interval = "1 week"
[restore]
prefetch = "x"
[slot]
if_not_exists = 1
`)
	o := walrecv([]string{"WALRECV_SPOOL_MAX=huge", "WALRECV_ENDPOSS=0/1"}, "config", "check", "--config", file)
	want := strings.ReplaceAll(`walrecv: warning: WALRECV_ENDPOSS is no option of any command and is ignored; did you mean WALRECV_ENDPOS?
walrecv: WALRECV_SPOOL_MAX: invalid size "huge": want a number and a unit: B, kB, MB, GB, TB
walrecv: FILE:2:1: system_id: invalid system identifier "x": want the decimal number that pg_controldata prints
2 | system_id = "x"
  | ^^^^^^^^^
walrecv: FILE:4:1: unknown key "regoin" in [s3]; did you mean "region"?
4 | regoin = "eu"
  | ^^^^^^
walrecv: FILE:6:1: unknown key "upload_worker" in [receive]; did you mean "upload_workers"?
6 | upload_worker = 3
  | ^^^^^^^^^^^^^
walrecv: FILE:7:1: flush_interval: invalid duration "1 week": valid units are us, ms, s, min, h, d
7 | flush_interval = "1 week"
  | ^^^^^^^^^^^^^^
walrecv: FILE:9:1: prefetch: must be a whole number, without quotes
9 | prefetch = "x"
  | ^^^^^^^^
walrecv: FILE:11:1: if_not_exists: must be true or false
11 | if_not_exists = 1
   | ^^^^^^^^^^^^^
`, "FILE", file)
	if o.code != exitUsage || o.stdout != "" || o.stderr != want {
		t.Errorf("exit %d, %q\n%s\nwant\n%s", o.code, o.stdout, o.stderr, want)
	}
}

func TestConfigCheck(t *testing.T) {
	good := writeFile(t, `archive = "/srv/wal"
encrypt_to = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"
decrypt_with = "/not/there"
[receive]
directory = "/spool"
slot = "pg-2"
[restore]
prefetch_dir = "relative"
[drill]
`)
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"", 0, `warning: "pg-2" is no name for a replication slot`},
		{"", 0, "as the file stands, that is refused by: receive\n"},
		{"", 0, "warning: --decrypt-with: open /not/there: no such file or directory; as the file stands, that is refused by: restore, drill\n"},
		{"receive --slot pg_2", 0, "warning: FILE:7: [restore] is for another command"},
		{"receive", 2, `"pg-2" is no name for a replication slot`},
		{"receive -S s --synchronous --no-sync", 2, "cannot use --synchronous together with --no-sync"},
		{"receive -S s -d sslmode=perhaps", 2, `connection option "sslmode": it must be one of`},
		{"receive -S s --digest-key /not/there/either", 2, "--digest-key: open /not/there/either: no such file"},
		{"restore", 2, "--prefetch-dir must be absolute"},
		{"status", 2, "--decrypt-with: open /not/there: no such file"},
		{"backup create", 0, "warning: FILE:4: [receive] is for another command"},
		{"backup create", 0, "warning: FILE:3: decrypt_with is for other commands"},
		{"push --archive s3://wal/x?credentials=env", 2, "no keys for the archive: AWS_ACCESS_KEY_ID is not set"},
		{"drill --conifg x", 2, "unknown flag: --conifg"},
		{"reciv", 2, `unknown command "reciv"; did you mean "walrecv receive"?`},
		{"slot", 2, "no command given"},
		{"version", 2, "has no configuration"},
		{"config check", 2, "has no configuration"},
	} {
		o := walrecv([]string{"HOME=/not/there"}, append([]string{"config", "check", "--config", good}, strings.Fields(c.args)...)...)
		says := strings.ReplaceAll(c.says, "FILE", good)
		if o.code != c.code || !strings.Contains(o.stderr, says) || (o.stdout != "") != (c.code == 0) {
			t.Errorf("%s: exit %d, %q\n%s\nwant %d, %q", c.args, o.code, o.stdout, o.stderr, c.code, says)
		}
		if o.receive != nil || o.restore != nil || o.push != nil {
			t.Errorf("%s: the command did its work", c.args)
		}
	}
	marked := writeFile(t, "\ufeff[receive]\r\ndirectory = \"/spool\"\r\nslot = \"s\"\r\n")
	if o := walrecv(nil, "config", "check", "--config", marked); o.code != exitDone || o.stderr != "" {
		t.Errorf("a file from Windows: exit %d, %q", o.code, o.stderr)
	}
	if o := walrecv(nil, "config", "check"); o.code != exitDone || !strings.HasPrefix(o.stdout, "the environment is right") {
		t.Errorf("without a file: exit %d, %q, %q", o.code, o.stdout, o.stderr)
	}
	if o := walrecv(nil, "config"); o.code != exitUsage {
		t.Errorf("without a command: exit %d", o.code)
	}
}

// Whatever is checked or shown, neither the server nor the store hears of it.
func TestConfigNeverConnects(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	host, port, _ := net.SplitHostPort(l.Addr().String())
	file := writeFile(t, fmt.Sprintf(`archive = "s3://wal/prod?endpoint=http://%[1]s:%[2]s"
dbname = "host=%[1]s port=%[2]s user=x"
[receive]
directory = "/spool"
listen = "%[1]s:%[2]s"
`, host, port))
	environ := []string{"AWS_ACCESS_KEY_ID=a", "AWS_SECRET_ACCESS_KEY=b"}
	for _, args := range []string{"check", "check receive", "check drill", "show receive", "check backup create", "check restore"} {
		o := walrecv(environ, append([]string{"config"}, append(strings.Fields(args), "--config", file)...)...)
		if o.code != exitDone {
			t.Errorf("%s: exit %d, %s", args, o.code, o.stderr)
		}
	}
	// Whoever has connected by now is in the queue.
	if err := l.(*net.TCPListener).SetDeadline(time.Now().Add(-time.Second)); err != nil {
		t.Fatal(err)
	}
	if conn, err := l.Accept(); err == nil {
		t.Errorf("%v connected", conn.RemoteAddr())
	}
}

// A pipe is empty when it is read for the second time, which is no configuration without
// faults.
func TestConfigCheckOfAPipe(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := w.WriteString("bogus = 1\n"); err != nil {
		t.Fatal(err)
	}
	w.Close()
	path := fmt.Sprintf("/dev/fd/%d", r.Fd())
	for _, args := range [][]string{{"--config", path}, {"--config", path, "receive"}, {"receive", "--config", path}} {
		if o := walrecv(nil, append([]string{"config", "check"}, args...)...); o.code != exitUsage || !strings.Contains(o.stderr, "has to be a file") {
			t.Errorf("%v: exit %d, %q, %q", args, o.code, o.stdout, o.stderr)
		}
	}
}

// What a file may be that is no configuration.
func TestConfigFilesThatAreNone(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	huge := file("huge", "")
	if err := os.Truncate(huge, 1<<40); err != nil {
		t.Fatal(err)
	}
	loop := filepath.Join(dir, "loop")
	if err := os.Symlink(loop, loop); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		filepath.Join(dir, "missing"): "no such file or directory",
		dir:                           "is a directory",
		loop:                          "too many levels of symbolic links",
		huge:                          "is larger than 1MB: is it another file?",
		"/dev/zero":                   "is larger than 1MB: is it another file?",
		file("binary", "\x7fELF\x02\x01\x01\x00\x00"):                "is no text",
		file("gzip", "\x1f\x8b\x08\x04\xff"):                         ":1:1: ",
		file("utf-16", "\xff\xfea\x00=\x001\x00"):                    "is no text",
		file("yaml", "receive:\n  directory: /x\n"):                  ":1:8: ",
		file("long", "archive = \""+strings.Repeat("a", 1<<19)+"\n"): ":1:",
	} {
		for _, args := range [][]string{{"receive", "-D", "x"}, {"config", "check"}, {"config", "check", "receive"}, {"config", "show", "receive"}} {
			o := walrecv(nil, append(args, "--config", path)...)
			if o.code != exitUsage || !strings.Contains(o.stderr, want) || !strings.Contains(o.stderr, path) || o.receive != nil {
				t.Errorf("%s %v: exit %d, %q; want %q", path, args, o.code, o.stderr, want)
			}
			if len(o.stderr) > 1000 {
				t.Errorf("%s %v: a message of %d bytes", path, args, len(o.stderr))
			}
		}
	}
}
