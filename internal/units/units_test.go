package units

import (
	"encoding"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

var (
	_ pflag.Value              = (*Size)(nil)
	_ pflag.Value              = (*Duration)(nil)
	_ encoding.TextUnmarshaler = (*Size)(nil)
	_ encoding.TextUnmarshaler = (*Duration)(nil)
)

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{
		"0":                   0,
		"1":                   1,
		"007":                 7,
		"512B":                512,
		"8kB":                 8192,
		"16MB":                16 << 20,
		"16 MB":               16 << 20,
		" \t16\tMB ":          16 << 20,
		"1GB":                 1 << 30,
		"2TB":                 2 << 40,
		"1.5GB":               3 << 29,
		"0.1kB":               102, // 102.4
		"0.5B":                1,   // rounded half up
		"9223372036854775807": math.MaxInt64,
		"8388607TB":           8388607 << 40,
	} {
		got, err := ParseSize(text)
		if err != nil || got != want {
			t.Errorf("ParseSize(%q) = %d, %v; want %d", text, got, err, want)
		}
	}
}

func TestParseSizeRefuses(t *testing.T) {
	for text, reason := range map[string]string{
		"":                      "want a number and a unit: B, kB, MB, GB, TB",
		" ":                     "want a number",
		"MB":                    "want a number",
		"-1":                    "want a number",
		"+1":                    "want a number",
		".5GB":                  "want a number",
		"5.GB":                  "want a number",
		"1.2.3GB":               "want a number",
		"1..2":                  "want a number",
		"10gb":                  "valid units are B, kB, MB, GB, TB",
		"10G":                   "valid units",
		"10GiB":                 "valid units",
		"10KB":                  "valid units",
		"10s":                   "valid units",
		"1e3":                   "valid units",
		"0x10":                  "valid units",
		"1_000":                 "valid units",
		"1GB 1MB":               "valid units",
		"1/2":                   "valid units",
		"١GB":                   "want a number",
		"16\nMB":                "valid units",
		"9223372036854775808":   "too large",
		"8388608TB":             "too large",
		"99999999999999999999":  "too large",
		strings.Repeat("1", 65): "longer than 64 characters",
	} {
		got, err := ParseSize(text)
		if err == nil {
			t.Errorf("ParseSize(%q) = %d, want an error", text, got)
		} else if !strings.Contains(err.Error(), reason) || !strings.HasPrefix(err.Error(), "invalid size \"") {
			t.Errorf("ParseSize(%q): %q, want %q in it", text, err, reason)
		}
	}
}

func TestParseDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0":                    0,
		"10":                   10 * time.Second,
		"0.25":                 250 * time.Millisecond,
		"1us":                  time.Microsecond,
		"0.001us":              1,
		"200ms":                200 * time.Millisecond,
		"200 ms":               200 * time.Millisecond,
		"1s":                   time.Second,
		"5min":                 5 * time.Minute,
		"1.5h":                 90 * time.Minute,
		"7d":                   7 * 24 * time.Hour,
		"106751d":              106751 * 24 * time.Hour,
		"9223372036.854775807": math.MaxInt64,
	} {
		got, err := ParseDuration(text)
		if err != nil || got != want {
			t.Errorf("ParseDuration(%q) = %v, %v; want %v", text, got, err, want)
		}
	}
}

func TestParseDurationRefuses(t *testing.T) {
	for text, reason := range map[string]string{
		"":          "want a number and a unit: us, ms, s, min, h, d",
		"-1s":       "want a number",
		"1m":        "valid units are us, ms, s, min, h, d",
		"1m30s":     "valid units",
		"1h 30min":  "valid units",
		"1S":        "valid units",
		"1ns":       "valid units",
		"5 minutes": "valid units",
		"106752d":   "too large",
	} {
		got, err := ParseDuration(text)
		if err == nil {
			t.Errorf("ParseDuration(%q) = %v, want an error", text, got)
		} else if !strings.Contains(err.Error(), reason) || !strings.HasPrefix(err.Error(), "invalid duration \"") {
			t.Errorf("ParseDuration(%q): %q, want %q in it", text, err, reason)
		}
	}
}

func TestFormat(t *testing.T) {
	for bytes, want := range map[int64]string{
		0: "0", 1: "1B", 1023: "1023B", 1024: "1kB", 1536: "1536B", 16 << 20: "16MB", 1 << 30: "1GB",
		10 << 30: "10GB", 3 << 29: "1536MB", 1 << 50: "1024TB",
	} {
		if got := FormatSize(bytes); got != want {
			t.Errorf("FormatSize(%d) = %q, want %q", bytes, got, want)
		}
	}
	for d, want := range map[time.Duration]string{
		0: "0", 1: "0.001us", 1500: "1.500us", time.Microsecond: "1us", 200 * time.Millisecond: "200ms",
		time.Second: "1s", 90 * time.Second: "90s", 5 * time.Minute: "5min", 2 * time.Hour: "2h", 48 * time.Hour: "2d",
	} {
		if got := FormatDuration(d); got != want {
			t.Errorf("FormatDuration(%d) = %q, want %q", d, got, want)
		}
	}
}

func TestValuesKeepTheirContentOnError(t *testing.T) {
	size, duration := Size(5), Duration(time.Second)
	if size.Set("x") == nil || size.UnmarshalText([]byte("1.")) == nil || size != 5 {
		t.Errorf("Size = %v after bad input", size)
	}
	if duration.Set("x") == nil || duration.UnmarshalText([]byte("1m")) == nil || duration != Duration(time.Second) {
		t.Errorf("Duration = %v after bad input", duration)
	}
	if size.UnmarshalText([]byte("8kB")) != nil || size.String() != "8kB" {
		t.Errorf("Size = %v, want 8kB", size)
	}
	if duration.UnmarshalText([]byte("90")) != nil || duration.String() != "90s" {
		t.Errorf("Duration = %v, want 90s", duration)
	}
	if size.Type() != "size" || duration.Type() != "duration" {
		t.Errorf("types %q and %q", size.Type(), duration.Type())
	}
}

// FuzzParse: whatever is accepted is not negative and reads back from its own
// print.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{"", "0", "16MB", "1.5 GB", "9223372036854775807", "200ms", "0.001us", "5min", "1e9", "-1", "1..2", "\xff"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if n, err := ParseSize(text); err == nil {
			if again, err := ParseSize(FormatSize(n)); n < 0 || err != nil || again != n {
				t.Errorf("size %q: %d printed as %q read back as %d, %v", text, n, FormatSize(n), again, err)
			}
		}
		if d, err := ParseDuration(text); err == nil {
			if again, err := ParseDuration(FormatDuration(d)); d < 0 || err != nil || again != d {
				t.Errorf("duration %q: %d printed as %q read back as %d, %v", text, d, FormatDuration(d), again, err)
			}
		}
	})
}
