package main

import (
	"strings"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/codec"
	"github.com/walrecv/walrecv/internal/units"
	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage"
)

func lsnError(t *testing.T, text string) string {
	t.Helper()
	_, err := segment.ParseLSN(text)
	if err == nil {
		t.Fatalf("ParseLSN(%q) took it", text)
	}
	return err.Error()
}

// The rules of pg_receivewal, then our own. Ours end with 2.
func TestReceiveRules(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"-D d extra", `too many command-line arguments (first is "extra"); try "walrecv receive --help"`},
		{"--create-slot --drop-slot -S s", "cannot use --create-slot together with --drop-slot"},
		{"--create-slot --drop-slot", "cannot use --create-slot together with --drop-slot"},
		{"--create-slot", "--create-slot needs a slot to be specified using --slot"},
		{"--drop-slot -D d", "--drop-slot needs a slot to be specified using --slot"},
		{"-D d --synchronous --no-sync", "cannot use --synchronous together with --no-sync"},
		{"", "no target directory specified; use --directory"},
		{"-S s", "no target directory specified; use --directory"},
		{"-D d -Z none:1", `--compress: compression method "none" does not accept a compression level`},
		{"-D d -Z brotli", `--compress: unrecognized compression method "brotli" (none, gzip, lz4 or zstd)`},
		{"-D d -Z gzip:10", `--compress: compression method "gzip" expects a compression level between 1 and 9, not 10`},
		{"-D d -E 5", "--endpos: " + lsnError(t, "5")},
		{"-D d -E 0/0/0", "--endpos: " + lsnError(t, "0/0/0")},
		{"-D d -s -1", `--status-interval: invalid duration "-1": want a number and a unit: us, ms, s, min, h, d`},
		{"-D d -s 2147484", `--status-interval: invalid duration "2147484": must be between 0 and 2147483s`},
		{"-D d -s ten", `--status-interval: invalid duration "ten": want a number and a unit: us, ms, s, min, h, d`},

		{"-D d -Z gzip --archive /a", "cannot use --compress together with --archive: an archive is always zstd"},
		{"-D d --archive a/b", "--archive: archive path must be absolute, as in /path or file:///path"},
		{"-D d --ack archive", "--ack=archive needs an archive to be specified using --archive"},
		{"-D d --ack archive --archive /a --tail-interval 0", "cannot use --ack=archive together with --tail-interval=0: it acknowledges what the tail has"},
		{"-D d --ack all", `--ack: invalid value "all": valid are flush, archive`},
		{"-D d --tail-interval 2d", `--tail-interval: invalid duration "2d": must be between 0 and 1d`},
		{"-D d --ensure-slot", "--ensure-slot needs a slot to be specified using --slot"},
		{"-D d --listen 0 --slot-stats", "--slot-stats needs a slot to be specified using --slot"},
		{"-D d -S s --slot-stats", "--slot-stats needs an address to be specified using --listen: nothing else shows them"},
		{"-D d -S s --ensure-slot --create-slot", "cannot use --ensure-slot together with --create-slot or --drop-slot"},
		{"-D d -w -W", "cannot use --no-password together with --password"},
		{"-D d --flush-interval 0", `--flush-interval: invalid duration "0": must be between 1ms and 1h`},
		{"-D d --upload-workers 65", `--upload-workers: invalid number "65": must be between 1 and 64`},
		{"-D d --spool-max 1000kB", `--spool-max: invalid size "1000kB": must be at least 1MB`},
		{"-D d --spool-max much", `--spool-max: invalid size "much": want a number and a unit: B, kB, MB, GB, TB`},
		{"-D d --listen-config f", "--listen-config and --listen-insecure need an address to be specified using --listen"},
		{"-D d --listen-insecure", "--listen-config and --listen-insecure need an address to be specified using --listen"},
		{"-D d --listen=", `--listen: invalid address "": want HOST:PORT, [IPV6]:PORT or PORT, with a port between 0 and 65535, or the path of a socket`},
		{"-D d --listen foo", `--listen: invalid address "foo": want HOST:PORT, [IPV6]:PORT or PORT, with a port between 0 and 65535, or the path of a socket`},
		{"-D d --listen 127.0.0.1", `--listen: invalid address "127.0.0.1": want HOST:PORT, [IPV6]:PORT or PORT, with a port between 0 and 65535, or the path of a socket`},
		{"-D d --listen :http", `--listen: invalid address ":http": want HOST:PORT, [IPV6]:PORT or PORT, with a port between 0 and 65535, or the path of a socket`},
		{"-D d --listen :65536", `--listen: invalid address ":65536": want HOST:PORT, [IPV6]:PORT or PORT, with a port between 0 and 65535, or the path of a socket`},
		{"-D d --listen ::1:80", `--listen: invalid address "::1:80": want HOST:PORT, [IPV6]:PORT or PORT, with a port between 0 and 65535, or the path of a socket`},
		{"-D d --listen http://localhost:80", `--listen: invalid address "http://localhost:80": want HOST:PORT, [IPV6]:PORT or PORT, with a port between 0 and 65535, or the path of a socket`},
		{"-D d --ready-lag 0", `--ready-lag: invalid duration "0": must be between 1ms and 1d`},
		{"--directory= -S s", "--directory: must not be empty"},
		{"-D d --slot=", "--slot: must not be empty"},
	} {
		o := walrecv(nil, append([]string{"receive"}, strings.Fields(c.args)...)...)
		if o.code != exitUsage || o.stderr != "walrecv: "+c.want+"\n" || o.receive != nil {
			t.Errorf("receive %s: exit %d, %q; want 2, %q", c.args, o.code, o.stderr, c.want)
		}
	}
}

// Command lines that pg_receivewal takes, in its spellings.
func TestReceiveTakesPgReceivewalsOptions(t *testing.T) {
	plain := receiveConfig{
		directory:      "d",
		compress:       compression{method: codec.None},
		statusInterval: units.Duration(10 * time.Second),
		flushInterval:  units.Duration(200 * time.Millisecond),
		ack:            ackFlush,
		tailInterval:   units.Duration(time.Second),
		uploadWorkers:  4,
		spoolMax:       10 << 30,
		readyLag:       units.Duration(time.Minute),
		logLevel:       logInfo,
	}
	with := func(change func(*receiveConfig)) receiveConfig {
		c := plain
		change(&c)
		return c
	}
	for args, want := range map[string]receiveConfig{
		"-D d":                              plain,
		"-Dd":                               plain,
		"--directory=d":                     plain,
		"-D d -E 0/0":                       plain, // none, as there
		"-D d -Z none":                      plain,
		"-D d -Z 0":                         plain,
		"-D d -nv -S s":                     with(func(c *receiveConfig) { c.noLoop, c.verbose, c.slot = true, true, "s" }),
		"-D d --no-loop --verbose --slot s": with(func(c *receiveConfig) { c.noLoop, c.verbose, c.slot = true, true, "s" }),
		"-D d -s 0":                         with(func(c *receiveConfig) { c.statusInterval = 0 }),
		"-D d -s1":                          with(func(c *receiveConfig) { c.statusInterval = units.Duration(time.Second) }),
		"-D d --endpos=16/B374D848":         with(func(c *receiveConfig) { c.endpos = 0x16B374D848 }),
		"-D d --synchronous":                with(func(c *receiveConfig) { c.synchronous = true }),
		"-D d --no-sync":                    with(func(c *receiveConfig) { c.noSync = true }),
		"-D d --if-not-exists":              with(func(c *receiveConfig) { c.ifNotExists = true }),
		"-D d -Z gzip:9":                    with(func(c *receiveConfig) { c.compress = compression{codec.Gzip, 9} }),
		"-D d -Z 5":                         with(func(c *receiveConfig) { c.compress = compression{codec.Gzip, 5} }),
		"-D d --compress=lz4":               with(func(c *receiveConfig) { c.compress = compression{codec.LZ4, 0} }),
		"-D d --create-slot -S s":           with(func(c *receiveConfig) { c.createSlot, c.slot = true, "s" }),
		"--create-slot --if-not-exists -S s": with(func(c *receiveConfig) {
			c.createSlot, c.ifNotExists, c.slot, c.directory = true, true, "s", ""
		}),
		"--drop-slot --slot=s": with(func(c *receiveConfig) { c.dropSlot, c.slot, c.directory = true, "s", "" }),
		"-D d -h /tmp -p 5433 -U me -d service=x -w": with(func(c *receiveConfig) {
			c.conn = connOptions{dbname: "service=x", host: "/tmp", port: "5433", username: "me", noPassword: true}
		}),
		"-D d --host a,b --port 1,2 --username=me --dbname postgresql://x/ -W": with(func(c *receiveConfig) {
			c.conn = connOptions{dbname: "postgresql://x/", host: "a,b", port: "1,2", username: "me", password: true}
		}),
		"-D d --archive file:///a%20b --ensure-slot -S s --accept-branch --flush-interval 50ms --upload-workers 8": with(func(c *receiveConfig) {
			c.archive = archiveOptions{storage.Location{Scheme: storage.SchemeFile, Path: "/a b"}}
			c.ensureSlot, c.slot, c.acceptBranch, c.uploadWorkers = true, "s", true, 8
			c.flushInterval = units.Duration(50 * time.Millisecond)
		}),
		"-D d --spool-max 1500MB": with(func(c *receiveConfig) { c.spoolMax = 1500 << 20 }),
		"-D d --listen /run/w.sock --listen-config f --listen-insecure": with(func(c *receiveConfig) { c.listen, c.listenConfig, c.listenInsecure = "/run/w.sock", "f", true }),
		"-D d --listen 9187":              with(func(c *receiveConfig) { c.listen = "127.0.0.1:9187" }),
		"-D d --log-level warn":           with(func(c *receiveConfig) { c.logLevel = logWarn }),
		"-D d --listen :0 --ready-lag 90": with(func(c *receiveConfig) { c.listen, c.readyLag = "127.0.0.1:0", units.Duration(90*time.Second) }),
		"-D d --listen 0.0.0.0:1":         with(func(c *receiveConfig) { c.listen = "0.0.0.0:1" }),
		"-D d --listen [::1]:1":           with(func(c *receiveConfig) { c.listen = "[::1]:1" }),
		"-D d --listen=localhost:65535":   with(func(c *receiveConfig) { c.listen = "localhost:65535" }),
		"-D d -Z none --archive /a": with(func(c *receiveConfig) {
			c.archive = archiveOptions{storage.Location{Scheme: storage.SchemeFile, Path: "/a"}}
		}),
	} {
		o := walrecv(nil, append([]string{"receive"}, strings.Fields(args)...)...)
		if o.code != exitDone || o.stderr != "" || o.receive == nil || *o.receive != want {
			t.Errorf("receive %s: exit %d, %q\ngot  %+v\nwant %+v", args, o.code, o.stderr, o.receive, want)
		}
	}
}

func TestVersionOption(t *testing.T) {
	want := walrecv(nil, "version").stdout
	if !strings.HasPrefix(want, "walrecv ") || strings.Count(want, "\n") != 1 {
		t.Errorf("version prints %q", want)
	}
	for _, line := range []string{"--version", "-V", "receive -V", "receive --version --config /nowhere"} {
		if o := walrecv(nil, strings.Fields(line)...); o.code != exitDone || o.stdout != want || o.stderr != "" {
			t.Errorf("walrecv %s: exit %d, %q, %q", line, o.code, o.stdout, o.stderr)
		}
	}
}
