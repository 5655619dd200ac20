package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// Where no person looks on, each line is an object, with its time in UTC, and a
// duration has its unit.
func TestLogIsJSON(t *testing.T) {
	var out bytes.Buffer
	log := newLogger(&out, slog.LevelInfo, nil)
	log.Debug("hidden")
	log.Info("shown", "at", time.Date(2026, 1, 2, 3, 4, 5, 0, time.FixedZone("east", 3600)), "took", 1500*time.Millisecond)
	newLogger(&out, slog.LevelDebug, nil).Debug("shown, too")
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 2 {
		t.Fatalf("%d lines:\n%s", len(lines), out.String())
	}
	for _, line := range lines {
		var record struct{ Time, Level, Msg, At, Took string }
		if err := json.Unmarshal([]byte(line), &record); err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(record.Time, "Z") || !strings.HasPrefix(record.Msg, "shown") {
			t.Errorf("line %s", line)
		}
		if record.At != "" && (record.At != "2026-01-02T02:04:05Z" || record.Took != "1.5s") {
			t.Errorf("attributes: %s", line)
		}
	}
}

// The error that a receiver ends with is a line of its log. A wrong configuration
// is told to whoever wrote it, before there is a log and after.
func TestLastWordIsOfTheLog(t *testing.T) {
	for err, want := range map[error]string{
		&codedError{exitGap, errors.New("the slot \"wal\":\n\tlost")}: "the slot \"wal\": lost",
		usageError("bad slot name"):                                   "",
	} {
		var stderr bytes.Buffer
		a := newTestApp(nil, io.Discard, &stderr)
		a.receive = func(context.Context, receiveConfig, *slog.Logger) error { return err }
		code := a.run(t.Context(), []string{"receive", "-D", t.TempDir(), "-d", "host=localhost"})
		if want == "" {
			if code != exitUsage || stderr.String() != "walrecv: bad slot name\n" {
				t.Errorf("exit %d, %q", code, stderr.String())
			}
			continue
		}
		var last struct {
			Level, Msg, Error string
			Code              int
		}
		if err := json.Unmarshal(stderr.Bytes(), &last); err != nil {
			t.Fatalf("%v: %s", err, stderr.String())
		}
		if code != exitGap || last.Code != code || last.Level != "ERROR" || last.Error != want {
			t.Errorf("exit %d, %s", code, stderr.String())
		}
	}
}
