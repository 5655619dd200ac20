package recovery_test

import (
	"strings"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/recovery"
	"github.com/walrecv/walrecv/segment"
)

func TestParseTime(t *testing.T) {
	want := time.Date(2026, 1, 31, 12, 0, 0, 500_000_000, time.UTC)
	for _, text := range []string{
		"2026-01-31 12:00:00.5+00", "2026-01-31T12:00:00.5Z", "2026-01-31 13:00:00.500000+01:00", "2026-01-31 12:00:00.5 UTC",
		"2026-01-31 17:30:00.5+0530", "2026-01-31T12:00:00.4999999Z",
	} {
		got, err := recovery.ParseTime(text)
		if err != nil || !got.Equal(want) || got.Location() != time.UTC {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for text, reason := range map[string]string{
		"2026-01-31 12:00:00": "no offset", "2026-01-31": "no offset", "yesterday": "not a time", "": "not a time", "12:00+00": "not a time",
	} {
		if got, err := recovery.ParseTime(text); err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}

func TestParseXID(t *testing.T) {
	for text, want := range map[string]uint32{"3": 3, "4294967295": 1<<32 - 1, "4294968030": 734, "18446744073709551615": 1<<32 - 1} {
		if got, err := recovery.ParseXID(text); got != want || err != nil {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "0", "2", "4294967296", "-3", "+3", "0x10", "3 ", "x", "18446744073709551616"} {
		if got, err := recovery.ParseXID(text); err == nil {
			t.Errorf("%q: %d", text, got)
		}
	}
}

func TestCheckName(t *testing.T) {
	for name, ok := range map[string]bool{"a": true, "before 'it'\n\xff": true, strings.Repeat("ä", 31) + "x": true, "": false, strings.Repeat("ä", 32): false, "a\x00": false} {
		if err := recovery.CheckName(name); (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestParseTimeline(t *testing.T) {
	for text, want := range map[string]recovery.Timeline{"latest": recovery.LatestTimeline, "current": recovery.CurrentTimeline, "1": 1, "4294967295": 1<<32 - 1} {
		got, err := recovery.ParseTimeline(text)
		if got != want || err != nil || got.String() != text {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "0", "-1", "+1", "4294967296", "Latest", "1.5"} {
		if got, err := recovery.ParseTimeline(text); err == nil {
			t.Errorf("%q: %v", text, got)
		}
	}
}

func TestTargetString(t *testing.T) {
	for want, target := range map[string]recovery.Target{
		"latest":                             {},
		"the end of the base backup":         {Kind: recovery.Immediate},
		"time 2026-01-31 12:00:00.00002 UTC": {Kind: recovery.Time, Time: time.Date(2026, 1, 31, 13, 0, 0, 20_000, time.FixedZone("", 3600))},
		"LSN 1/2A":                           {Kind: recovery.LSN, LSN: segment.LSN(1<<32 + 42)},
		"transaction 734":                    {Kind: recovery.XID, XID: 734},
		`restore point "a\n"`:                {Kind: recovery.Name, Name: "a\n"},
	} {
		if got := target.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
