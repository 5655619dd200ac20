// Package units reads and prints sizes and durations the way PostgreSQL's
// configuration does: 16MB is 16 * 1024 * 1024 bytes and 5min is five minutes.
// Units are case-sensitive, as PostgreSQL's are. A number may have a fraction
// ("1.5GB") and blanks before its unit; it is never negative.
package units

import (
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"time"
)

// unit is a suffix and what it stands for in the smallest unit of its table:
// bytes or nanoseconds.
type unit struct {
	suffix string
	factor int64
}

// From the largest to the smallest: formatting takes the first that divides.
var (
	sizeUnits = []unit{
		{"TB", 1 << 40},
		{"GB", 1 << 30},
		{"MB", 1 << 20},
		{"kB", 1 << 10},
		{"B", 1},
	}
	durationUnits = []unit{
		{"d", int64(24 * time.Hour)},
		{"h", int64(time.Hour)},
		{"min", int64(time.Minute)},
		{"s", int64(time.Second)},
		{"ms", int64(time.Millisecond)},
		{"us", int64(time.Microsecond)},
	}
)

// textMax bounds what is looked at: longer numbers are out of range anyway.
const textMax = 64

// ParseSize reads a number of bytes. Without a unit the number is in bytes.
// A fraction is rounded to the nearest byte.
func ParseSize(text string) (int64, error) {
	n, err := parse(text, sizeUnits, 1)
	if err != nil {
		return 0, fmt.Errorf("invalid size %q: %w", clip(text), err)
	}
	return n, nil
}

// ParseDuration reads a span of time. Without a unit the number is in seconds.
// A fraction is rounded to the nearest nanosecond.
func ParseDuration(text string) (time.Duration, error) {
	n, err := parse(text, durationUnits, int64(time.Second))
	if err != nil {
		return 0, fmt.Errorf("invalid duration %q: %w", clip(text), err)
	}
	return time.Duration(n), nil
}

// FormatSize prints a number of bytes in the largest unit that needs no
// fraction. [ParseSize] reads it back exactly.
func FormatSize(bytes int64) string {
	if u, ok := largest(bytes, sizeUnits); ok {
		return strconv.FormatInt(bytes/u.factor, 10) + u.suffix
	}
	return strconv.FormatInt(bytes, 10)
}

// FormatDuration prints a span of time in the largest unit that needs no
// fraction; only what is finer than a microsecond gets one. [ParseDuration]
// reads it back exactly.
func FormatDuration(d time.Duration) string {
	if u, ok := largest(int64(d), durationUnits); ok {
		return strconv.FormatInt(int64(d)/u.factor, 10) + u.suffix
	}
	if d == 0 {
		return "0"
	}
	micros, rest := d/time.Microsecond, d%time.Microsecond
	return fmt.Sprintf("%d.%03dus", micros, max(rest, -rest))
}

// largest finds the largest unit that divides n; none does for zero.
func largest(n int64, table []unit) (unit, bool) {
	if n == 0 {
		return unit{}, false
	}
	for _, u := range table {
		if n%u.factor == 0 {
			return u, true
		}
	}
	return unit{}, false
}

// parse reads a number and its unit; bare is the factor of a number without
// one.
func parse(text string, table []unit, bare int64) (int64, error) {
	trimmed := strings.Trim(text, " \t")
	if len(trimmed) > textMax {
		return 0, fmt.Errorf("longer than %d characters", textMax)
	}
	end := strings.IndexFunc(trimmed, func(r rune) bool { return r != '.' && (r < '0' || r > '9') })
	if end < 0 {
		end = len(trimmed)
	}
	number := trimmed[:end]
	if !wellFormed(number) {
		return 0, fmt.Errorf("want a number and a unit: %s", list(table))
	}
	factor, ok := lookup(strings.TrimLeft(trimmed[end:], " \t"), table, bare)
	if !ok {
		return 0, fmt.Errorf("valid units are %s", list(table))
	}
	return multiply(number, factor)
}

// wellFormed reports whether number is digits, or digits, a point and digits.
func wellFormed(number string) bool {
	whole, fraction, point := strings.Cut(number, ".")
	return whole != "" && !strings.Contains(fraction, ".") && (!point || fraction != "")
}

func lookup(suffix string, table []unit, bare int64) (int64, bool) {
	if suffix == "" {
		return bare, true
	}
	for _, u := range table {
		if u.suffix == suffix {
			return u.factor, true
		}
	}
	return 0, false
}

// multiply computes number * factor exactly and rounds half up.
func multiply(number string, factor int64) (int64, error) {
	value, ok := new(big.Rat).SetString(number)
	if !ok {
		return 0, fmt.Errorf("not a number")
	}
	value.Mul(value, new(big.Rat).SetInt64(factor))
	value.Add(value, big.NewRat(1, 2))
	whole := new(big.Int).Quo(value.Num(), value.Denom())
	if !whole.IsInt64() {
		return 0, fmt.Errorf("too large")
	}
	return whole.Int64(), nil
}

// list names the units from the smallest up: "B, kB, MB, GB, TB".
func list(table []unit) string {
	names := make([]string, len(table))
	for i, u := range table {
		names[len(table)-1-i] = u.suffix
	}
	return strings.Join(names, ", ")
}

// clip keeps an error message readable.
func clip(text string) string {
	if len(text) > textMax {
		return text[:textMax] + "..."
	}
	return text
}
