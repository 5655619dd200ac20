package main

import (
	"strings"
	"testing"
)

// What is wrong in a configuration file is shown with its line and a caret.
func TestConfigFileErrors(t *testing.T) {
	for _, c := range []struct{ name, file, want string }{
		{"unknown key on top", "# the archive\narchive = \"/a\"\narchiv = 1\n", `
FILE:3:1: unknown key "archiv"; did you mean "archive"?
3 | archiv = 1
  | ^^^^^^`},
		{"unknown key in the table", "\n\n[receive]\n\tspol = \"10GB\"  # typo\n", `
FILE:4:2: unknown key "spol" in [receive]
4 | 	spol = "10GB"  # typo
  | 	^^^^`},
		{"the first one counts", "[receive]\nb = 1\na = 1\n", `
FILE:2:1: unknown key "b" in [receive]
2 | b = 1
  | ^`},
		{"a key of a command on top", "directory = \"/spool\"\n", `
FILE:1:1: unknown key "directory"; it belongs in [receive]
1 | directory = "/spool"
  | ^^^^^^^^^`},
		{"a key that is also a table", "slot = \"s\"\n", `
FILE:1:1: unknown key "slot"; it belongs in [receive]
1 | slot = "s"
  | ^^^^`},
		{"a key of another command", "[receive]\nspool = \"/s\"\n", `
FILE:2:1: unknown key "spool" in [receive]; it belongs in [restore]
2 | spool = "/s"
  | ^^^^^`},
		{"unknown table", "[reciv]\nslot = \"s\"\n", `
FILE:1:2: unknown table [reciv]; did you mean [receive]?
1 | [reciv]
  |  ^^^^^`},
		{"tables are lower case", "[Receive]\nslot = \"s\"\n", `
FILE:1:2: unknown table [Receive]; did you mean [receive]?
1 | [Receive]
  |  ^^^^^^^`},
		{"keys are lower case", "Archive = \"/a\"\n", `
FILE:1:1: unknown key "Archive"; did you mean "archive"?
1 | Archive = "/a"
  | ^^^^^^^`},
		{"keys have underscores", "[receive]\nno-loop = true\n", `
FILE:2:1: unknown key "no-loop" in [receive]; did you mean "no_loop"?
2 | no-loop = true
  | ^^^^^^^`},
		{"not a table", "receive = 3\n", `
FILE:1:1: receive must be a table
1 | receive = 3
  | ^^^^^^^`},
		{"a list of tables", "[[receive]]\nslot = \"s\"\n", `
FILE:1:3: receive must be a table
1 | [[receive]]
  |   ^^^^^^^`},
		{"a table below the table", "[receive.slot]\nname = \"s\"\n", `
FILE:1:2: slot: must be a string, in quotes
1 | [receive.slot]
  |  ^^^^^^^`},
		{"a string for a switch", "[receive]\nno_loop = \"yes\"\n", `
FILE:2:1: no_loop: must be true or false
2 | no_loop = "yes"
  | ^^^^^^^`},
		{"a string for a number", "[receive]\nupload_workers = \"4\"\n", `
FILE:2:1: upload_workers: must be a whole number, without quotes
2 | upload_workers = "4"
  | ^^^^^^^^^^^^^^`},
		{"a number for a string", "archive = 5\n", `
FILE:1:1: archive: must be a string, in quotes
1 | archive = 5
  | ^^^^^^^`},
		{"a fraction", "[receive]\nstatus_interval = 1.5\n", `
FILE:2:1: status_interval: must be a string, in quotes, or a whole number
2 | status_interval = 1.5
  | ^^^^^^^^^^^^^^^`},
		{"a list", "[receive]\nendpos = [\"0/1\"]\n", `
FILE:2:1: endpos: must be a string, in quotes, or a whole number
2 | endpos = ["0/1"]
  | ^^^^^^`},
		{"a value that does not parse", "[receive]\nendpos = 5\n", `
FILE:2:1: endpos: ` + lsnError(t, "5") + `
2 | endpos = 5
  | ^^^^^^`},
		{"out of range", "[receive]\nupload_workers = 1000\n", `
FILE:2:1: upload_workers: invalid number "1000": must be between 1 and 64
2 | upload_workers = 1000
  | ^^^^^^^^^^^^^^`},
		{"empty", "[receive]\nslot = \"\"\n", `
FILE:2:1: slot: must not be empty
2 | slot = ""
  | ^^^^`},
		{"a secret in the URL is not repeated", "archive = \"file://user:secret@host/x\"\n", `
FILE:1:1: archive: archive URL must not carry a user name or a password
1 | archive = ***
  | ^^^^^^^`},
		{"options of the command line only", "config = \"x\"\n", `
FILE:1:1: unknown key "config"
1 | config = "x"
  | ^^^^^^`},
		{"twice", "[receive]\nslot = \"a\"\nslot = \"b\"\n", `
FILE:3:1: key slot is already defined
3 | slot = "b"
  | ^^^^`},
		{"syntax", "[receive\n", `
FILE:1:9: expected ']' to close table name
1 | [receive
  |         ^`},
		{"control characters are not printed", "[receive]\n\x1b[31m = 1\n", `
FILE:2:1: invalid character at start of key: U+001B
2 | ?[31m = 1
  | ^^^^^`},
		{"windows line ends", "[receive]\r\nspol = 1\r\n", `
FILE:2:1: unknown key "spol" in [receive]
2 | spol = 1
  | ^^^^`},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := writeFile(t, c.file)
			o := walrecv(nil, "receive", "-D", "x", "--config", file)
			want := "walrecv: " + strings.ReplaceAll(c.want[1:], "FILE", file) + "\n"
			if o.code != exitUsage || o.stderr != want || o.receive != nil {
				t.Errorf("exit %d, stderr:\n%s\nwant:\n%s", o.code, o.stderr, want)
			}
			o = walrecv(nil, "restore", "--archive", "/a", "--config", file, "f", "p")
			if inReceive := strings.Contains(c.file, "receive"); !inReceive && o.code != exitRestoreBad {
				t.Errorf("restore: exit %d, want 201", o.code)
			}
			if strings.Count(o.stderr, "\n") > 1 {
				t.Errorf("restore says more than one line:\n%s", o.stderr)
			}
		})
	}
}

// FuzzConfigFile: no file may break the program, and what is refused is refused
// as a usage error with a message.
func FuzzConfigFile(f *testing.F) {
	for _, seed := range []string{
		"", "archive = \"/a\"\n[receive]\nslot = \"s\"\n", "receive = {slot = \"s\", x = 1}", "[[receive]]",
		"a.b.c = 1", "[receive]\nx = 1e9\n\n", "\xff", "\"\" = 1", "[receive]\n\"a\\u0000b\" = 1", "'a\tb' = 1",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		o := walrecv(nil, "receive", "-D", "x", "--config", writeFile(t, string(content)))
		switch {
		case o.code == exitDone && o.receive != nil:
		case o.code == exitUsage && o.receive == nil && strings.HasPrefix(o.stderr, "walrecv: "):
		default:
			t.Errorf("exit %d, stderr %q", o.code, o.stderr)
		}
	})
}
