package main

import (
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

func TestPlaces(t *testing.T) {
	noon := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	const segment = "00000002000000160000000A"
	places := map[string]place{
		segment:                         {segment: segment},
		"0/5000000":                     {lsn: 0x5000000},
		"16/b374d848":                   {lsn: 0x16B374D848},
		"2026-01-31T12:00:00Z":          {time: noon},
		"2026-01-31 12:00:00+00":        {time: noon},
		"2026-01-31 14:00:00+02":        {time: noon},
		"2026-01-31 17:30:00 +05:30":    {time: noon},
		"2026-01-31 12:00:00.25+00":     {time: noon.Add(250 * time.Millisecond)},
		"2026-01-31T07:00-05:00":        {time: noon},
		"2026-01-31 12:00:00 UTC":       {time: noon}, // as walrecv status has it
		"2026-01-31 12:00:00.5 UTC":     {time: noon.Add(500 * time.Millisecond)},
		"2026-01-31 13:00:00+0100":      {time: noon},
		"2026-01-31 13:00:00 +0100":     {time: noon},
		"2026-01-31T17:30:00+0530":      {time: noon},
		"2026-01-31T12:00:00.000001Z":   {time: noon.Add(time.Microsecond)},
		"2026-01-31 12:00:00.000000+00": {time: noon},
	}
	backups := map[string]place{"latest": {backup: "latest"}, "20260131T120000Z": {backup: "20260131T120000Z"}, "x": {backup: "x"}}
	bad := map[string]string{
		"2026-01-31 12:00:00": "no offset", "2026-01-31": "no offset", "2026-01-31T12:00": "no offset",
		"": "neither", "0/": "neither", "12:00+00": "neither", "2026-01-31 12:00:00 CET": "neither",
	}
	check := func(text string, want place, value func(*place) pflag.Value) {
		var got, again place
		err := value(&got).Set(text)
		if err != nil || !got.time.Equal(want.time) || got.lsn != want.lsn || got.segment != want.segment || got.backup != want.backup {
			t.Errorf("%q: %v, %v", text, got, err)
		}
		if err := value(&again).Set(got.String()); err != nil || again.String() != got.String() {
			t.Errorf("%q prints as %q: %v", text, got, err)
		}
	}
	for text, want := range places {
		check(text, want, placeValue)
		check(text, want, sinceValue)
	}
	for text, want := range backups {
		check(text, want, sinceValue)
		bad[text] = "neither"
	}
	for text, want := range bad {
		if err := placeValue(new(place)).Set(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v; want %q", text, err, want)
		}
	}
	if err := sinceValue(new(place)).Set("2026-01-31"); err == nil || !strings.Contains(err.Error(), "no offset") {
		t.Errorf("a date is %v", err)
	}
}
