package units

import (
	"fmt"
	"time"
)

// The forms of a time: with an offset, as PostgreSQL, walrecv status and date
// print and JSON has them, and without, which nobody knows how to read.
var (
	zonelessLayouts = []string{"2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02T15:04", "2006-01-02 15:04"}
	timeLayouts     = layouts(zonelessLayouts, "", " ")
)

// layouts puts every form of an offset behind times, with what may be in between.
func layouts(times []string, between ...string) []string {
	var all []string
	for _, t := range times {
		for _, b := range between {
			for _, offset := range []string{"Z07:00", "Z0700", "Z07", "UTC"} {
				all = append(all, t+b+offset)
			}
		}
	}
	return all
}

// NoOffsetError says that a text is a time without an offset.
type NoOffsetError struct{ Text string }

// Error says how it could be written.
func (e *NoOffsetError) Error() string {
	return fmt.Sprintf("%q has no offset: want a time as in 2026-01-31 12:00:00+00", e.Text)
}

// ParseTime reads a time with an offset: 2026-01-31 12:00:00.5+01, with a "T" or a
// blank before the hour, the seconds optional, and as offset Z, UTC, +01, +0100
// or +01:00. A time without offset is a [NoOffsetError]. The result is in UTC.
func ParseTime(text string) (time.Time, error) {
	for _, layout := range timeLayouts {
		if t, err := time.Parse(layout, text); err == nil {
			return t.UTC(), nil
		}
	}
	for _, layout := range append(zonelessLayouts, "2006-01-02") {
		if _, err := time.Parse(layout, text); err == nil {
			return time.Time{}, &NoOffsetError{text}
		}
	}
	return time.Time{}, fmt.Errorf("%q is not a time, as in 2026-01-31 12:00:00+00", text)
}
