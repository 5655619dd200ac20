package main

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// reloaded is a receiver whose configuration file changes.
type reloaded struct {
	t       *testing.T
	file    string
	log     bytes.Buffer
	again   *reloader
	applied []receiveConfig
}

// newReloaded starts one that notes what it is told.
func newReloaded(t *testing.T, content string, args ...string) *reloaded {
	t.Helper()
	r := &reloaded{t: t, file: writeFile(t, content)}
	a := newTestApp([]string{"WALRECV_READY_LAG=2min", "WALRECV_CONFIG=" + r.file}, nil, &r.log)
	ran := false
	a.receive = func(context.Context, receiveConfig, *slog.Logger) error {
		r.again, ran = a.reload, true
		return nil
	}
	if code := a.run(t.Context(), append([]string{"receive", "-D", "x"}, args...)); code != exitDone || !ran {
		t.Fatalf("exit %d, %s", code, r.log.String())
	}
	return r
}

// write changes the file and reads it again; it returns what is logged.
func (r *reloaded) write(content string) string {
	r.t.Helper()
	if err := os.WriteFile(r.file, []byte(content), 0o600); err != nil {
		r.t.Fatal(err)
	}
	return r.reload()
}

func (r *reloaded) reload() string {
	r.log.Reset()
	r.again.reload(func(c receiveConfig) { r.applied = append(r.applied, c) })
	return r.log.String()
}

// expect wants lines that hold these texts, and no others.
func (r *reloaded) expect(log string, texts ...string) {
	r.t.Helper()
	lines := slices.Collect(strings.Lines(log))
	for i, text := range texts {
		if i >= len(lines) || !strings.Contains(lines[i], text) {
			r.t.Errorf("no line %d with %s in\n%s", i+1, text, log)
		}
	}
	if len(lines) != len(texts) {
		r.t.Errorf("%d lines, want %d:\n%s", len(lines), len(texts), log)
	}
}

// What can change is changed and told in one line, old and new; what needs a restart is
// named; what the command line or the environment says stays.
func TestReload(t *testing.T) {
	r := newReloaded(t, "archive = \"/a\"\n[receive]\nstatus_interval = 20\nslot = \"one\"\n", "--flush-interval", "5s")
	r.expect(r.reload(), `nothing has changed`)
	r.expect(r.write("archive = \"/a\"\n[receive]\nflush_interval = 7\nready_lag = 7\nspool_max = \"5GB\"\nslot = \"one\"\n"),
		`"changed":"spool-max: 10GB -> 5GB, status-interval: 20s -> 10s"`)
	if len(r.applied) != 1 {
		t.Fatalf("applied %d times", len(r.applied))
	}
	if c := r.applied[0]; time.Duration(c.flushInterval) != 5*time.Second || time.Duration(c.readyLag) != 2*time.Minute || c.spoolMax != 5<<30 {
		t.Errorf("%+v", c)
	}
	other := "archive = \"/b\"\ndbname = \"password=5eC7et\"\n[receive]\nslot = \"two\"\nspool_max = \"6GB\"\ntail_interval = 0\n"
	restart := `"options":"archive, dbname, slot, tail-interval"`
	r.expect(r.write(other), restart, `"changed":"spool-max: 5GB -> 6GB"`)
	r.expect(r.reload(), restart, `nothing has changed`) // as long as it is so
	if strings.Contains(r.log.String(), "5eC7et") {
		t.Errorf("a secret is logged:\n%s", r.log.String())
	}
}

// The level of the log changes, too, and the line that says so is there whether it
// rises or falls.
func TestReloadLogLevel(t *testing.T) {
	r := newReloaded(t, "[receive]\nlog_level = \"error\"\n")
	r.expect(r.write("[receive]\nlog_level = \"info\"\n"), `"changed":"log-level: error -> info"`)
	r.expect(r.write("[receive]\nlog_level = \"debug\"\n"), `"changed":"log-level: info -> debug"`)
	r.again.log.Debug("seen")
	r.expect(r.write("[receive]\nlog_level = \"warn\"\n"), `"changed":"log-level: debug -> warn"`)
	r.again.log.Info("not seen")
	r.expect(r.write("[receive]\nverbose = true\n"), `"changed":"log-level: warn -> info, verbose: false -> true"`)
	if level := r.again.level.Level(); level != slog.LevelDebug {
		t.Errorf("%s with verbose", level)
	}
}

// A file in which anything is wrong changes nothing, and one line says what is wrong.
func TestReloadOfABrokenFile(t *testing.T) {
	r := newReloaded(t, "archive = \"/a\"\n[receive]\nspool_max = \"5GB\"\n")
	for content, want := range map[string]string{
		"[receive]\nspool_max = \"6GB\"\nspol = 1\n":          `unknown key \"spol\"`,
		"[receive]\nspool_max = \"6GB\"\nready_lag = \"x\"\n": `ready_lag: invalid duration`,
		"[receive]\nspool_max = \"6GB\"\nack = \"archive\"\n": `--ack=archive needs an archive`,
		"[receive\n": "expected ']'",
		"archive = \"/a\"\n[receive]\nspool_max = \"6GB\"\nack = \"archive\"\ntail_interval = 0\n": "--tail-interval=0",
	} {
		log := r.write(content)
		r.expect(log, want)
		if !strings.Contains(log, `"level":"ERROR"`) || !strings.Contains(log, "stay as they were") {
			t.Errorf("%s", log)
		}
	}
	if err := os.Remove(r.file); err != nil {
		t.Fatal(err)
	}
	r.expect(r.reload(), "no such file")
	if err := os.Mkdir(r.file, 0o700); err != nil {
		t.Fatal(err)
	}
	r.expect(r.reload(), "no file that can be read again")
	if len(r.applied) > 0 {
		t.Errorf("applied %+v", r.applied)
	}
	if err := os.Remove(r.file); err != nil {
		t.Fatal(err)
	}
	r.expect(r.write("archive = \"/a\"\n[receive]\nspool_max = \"7GB\"\n"), "spool-max: 5GB -> 7GB")
}

// Without a file SIGHUP says that there is none.
func TestReloadWithoutAFile(t *testing.T) {
	r := &reloaded{t: t}
	a := newTestApp(nil, nil, &r.log)
	a.receive = func(context.Context, receiveConfig, *slog.Logger) error { r.again = a.reload; return nil }
	a.run(t.Context(), []string{"receive", "-D", "x"})
	r.expect(r.reload(), "there is no configuration file")
	var none *reloader // on a terminal
	none.follow(nil, nil)()
	none.close()
}
