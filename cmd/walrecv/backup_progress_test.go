package main

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestBackupProgress(t *testing.T) {
	var p backupProgress
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey || a.Key == slog.LevelKey {
			return slog.Attr{}
		}
		return a
	}}))
	day := time.Date(2026, 11, 22, 7, 30, 0, 0, time.UTC)
	expect := func(now time.Time, line, logged string) {
		t.Helper()
		if got := p.line(now); got != line {
			t.Errorf("on a terminal: %q, want %q", got, line)
		}
		out.Reset()
		p.tell(now, log)
		if got := strings.TrimSpace(out.String()); got != logged {
			t.Errorf("in the log: %s, want %s", got, logged)
		}
	}
	p.wait("the server's checkpoint")
	expect(day, "waiting for the server's checkpoint", `msg="the base backup waits for the server's checkpoint"`)
	day = day.Add(time.Hour) // which counts for nothing
	p.begin(day, 4<<30)
	expect(day, "[..............................]   0%  0 B of 4.0 GB", `msg="the base backup goes on" done_bytes=0 total_bytes=4294967296`)
	p.add(1 << 30)
	expect(day.Add(2*time.Second), "[#######.......................]  25%  1.0 GB of 4.0 GB  512 MB/s  6s left",
		`msg="the base backup goes on" done_bytes=1073741824 total_bytes=4294967296 bytes_per_second=536870912 seconds_left=6`)
	p.add(4 << 30) // the server has grown
	expect(day.Add(10*time.Second), "[##############################] 100%  5.0 GB of 4.0 GB  512 MB/s  0s left",
		`msg="the base backup goes on" done_bytes=5368709120 total_bytes=4294967296 bytes_per_second=536870912 seconds_left=0`)
}

// Something is told at every tick, and nothing after the end.
func TestBackupProgressFollows(t *testing.T) {
	tick, end, ended := make(chan time.Time), make(chan struct{}), make(chan struct{})
	var told []time.Time
	var p backupProgress
	go func() {
		defer close(ended)
		follow(tick, end, func(now time.Time) { told = append(told, now) })
	}()
	for i := range 3 {
		tick <- time.Unix(int64(i), 0)
	}
	close(end)
	<-ended
	if len(told) != 3 || told[2].Unix() != 2 {
		t.Errorf("told at %v", told)
	}
	var out bytes.Buffer
	stop := p.show(&aboveBar{w: &out}, slog.New(slog.NewTextHandler(&out, nil)))
	stop()
	stop()
	if out.Len() > 0 {
		t.Errorf("before the first tick: %q", out.String())
	}
}

func TestAboveBar(t *testing.T) {
	var out bytes.Buffer
	b := &aboveBar{w: &out}
	say(b, "one\n")
	b.draw("")
	b.draw("[#.]")
	say(b, "two\n")
	b.draw("[##]")
	b.draw("")
	say(b, "three\n")
	if got, want := out.String(), "one\n"+clearLine+"[#.]"+clearLine+"two\n[#.]"+clearLine+"[##]"+clearLine+"three\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if isTerminal(b) {
		t.Error("a buffer is taken for a terminal")
	}
}
