package main

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// Where no person looks on, each line is an object, with its time in UTC.
func TestLogIsJSON(t *testing.T) {
	var out bytes.Buffer
	log := newLogger(&out, slog.LevelInfo, nil)
	log.Debug("hidden")
	log.Info("shown", "at", time.Date(2026, 1, 2, 3, 4, 5, 0, time.FixedZone("east", 3600)))
	newLogger(&out, slog.LevelDebug, nil).Debug("shown, too")
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 2 {
		t.Fatalf("%d lines:\n%s", len(lines), out.String())
	}
	for _, line := range lines {
		var record struct{ Time, Level, Msg, At string }
		if err := json.Unmarshal([]byte(line), &record); err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(record.Time, "Z") || !strings.HasPrefix(record.Msg, "shown") {
			t.Errorf("line %s", line)
		}
		if record.At != "" && record.At != "2026-01-02T02:04:05Z" {
			t.Errorf("time of an attribute: %s", record.At)
		}
	}
}
