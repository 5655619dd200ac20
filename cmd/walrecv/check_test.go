package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// A line says ok, warning or error first; an error is exit code 3.
func TestCheckCommand(t *testing.T) {
	_, options := fakeServer(t, "17.2")
	dir := t.TempDir()
	args := append([]string{"check", "--archive", dir, "--timeout=0"}, options...)

	o := walrecv(nil, append(args, "-S", "old")...)
	if o.code != exitDone || o.stderr != "" {
		t.Errorf("exit %d, stdout %s, stderr %s", o.code, o.stdout, o.stderr)
	}
	for line := range strings.Lines(o.stdout) {
		if !strings.HasPrefix(line, "ok: ") && !strings.HasPrefix(line, "warning: queries: ") && !strings.HasPrefix(line, "warning: slot") {
			t.Errorf("line %q", line)
		}
	}
	o = walrecv(nil, append(args, "-S", "none")...)
	if want := "error: slot: the slot none does not exist; create it: walrecv slot create none"; o.code != exitUnsound || !strings.Contains(o.stdout, want) || o.stderr != "" {
		t.Errorf("exit %d, stdout %s, stderr %s", o.code, o.stdout, o.stderr)
	}
	var report struct {
		Result string
		Checks []struct{ Check, Result, Message, Advice string }
	}
	o = walrecv(nil, append(args, "-S", "none", "--json")...)
	if err := json.Unmarshal([]byte(o.stdout), &report); err != nil || o.code != exitUnsound || report.Result != "error" || len(report.Checks) < 8 {
		t.Errorf("exit %d, %v, stdout %s", o.code, err, o.stdout)
	}
	if first := report.Checks[0]; first.Check != "connection" || first.Result != "ok" || first.Message == "" || first.Advice != "" {
		t.Errorf("%+v", first)
	}
}

func TestCheckUsage(t *testing.T) {
	for line, want := range map[string]string{
		"check -S pg-2":             `did you mean "pg_2"?`,
		"check --ensure-slot":       "--ensure-slot needs a slot",
		"check -w -W":               "cannot use --no-password together with --password",
		"check now":                 "too many command-line arguments",
		"check --timeout=2h":        "invalid duration",
		"check --archive=relative":  "absolute",
		"check -d host=a --no-sync": "unknown flag",
	} {
		if o := walrecv(nil, strings.Fields(line)...); o.code != exitUsage || !strings.Contains(o.stderr, want) {
			t.Errorf("walrecv %s: exit %d, %q; want 2, %q", line, o.code, o.stderr, want)
		}
	}
}

// What receive is configured with is what is checked.
func TestCheckReadsTheTableOfReceive(t *testing.T) {
	file := func(text string) string { return writeFile(t, text) }
	slotOf := func(text string, args ...string) string {
		t.Helper()
		cmd, err := load("check", file(text), nil, args...)
		if err != nil {
			t.Fatal(err)
		}
		return cmd.Flags().Lookup("slot").Value.String()
	}
	receive := "[receive]\nslot = \"a\"\ndirectory = \"/var/lib/walrecv\"\nensure_slot = true\n"
	for text, want := range map[string]string{
		receive:                             "a",
		receive + "[check]\nslot = \"b\"\n": "b",
		"[check]\nslot = \"b\"\n" + receive: "b",
	} {
		if got := slotOf(text); got != want {
			t.Errorf("the slot is %q, want %q, with %q", got, want, text)
		}
	}
	if got := slotOf(receive, "--slot=c"); got != "c" {
		t.Errorf("the slot is %q in spite of --slot", got)
	}
	for text, want := range map[string]string{
		"[receive]\nslott = \"a\"\n":         ":2:1: unknown key \"slott\" in [receive]",
		"[receive]\nslot = 1\n":              ":2:1: slot: must be a string",
		"[receive]\nstatus_interval = \"x\"": ":2:1: status_interval: ",
		"[receive]\ntimeout = \"1s\"\n":      "it belongs in [check]",
	} {
		_, err := load("check", file(text), nil)
		if err == nil || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}
