package segment_test

import (
	"cmp"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/walrecv/walrecv/segment"
)

func TestNameFormat(t *testing.T) {
	for _, c := range []struct {
		name segment.Name
		size segment.Size
		want string
	}{
		{segment.Name{Timeline: 1, Number: 0}, 1 << 24, "000000010000000000000000"},
		{segment.Name{Timeline: 1, Number: 1}, 1 << 24, "000000010000000000000001"},
		{segment.Name{Timeline: 1, Number: 255}, 1 << 24, "0000000100000000000000FF"},
		{segment.Name{Timeline: 1, Number: 256}, 1 << 24, "000000010000000100000000"},
		{segment.Name{Timeline: 0xABCDEF01, Number: 256}, 1 << 24, "ABCDEF010000000100000000"},
		{segment.Name{Timeline: 1, Number: 4095}, 1 << 20, "000000010000000000000FFF"},
		{segment.Name{Timeline: 1, Number: 4096}, 1 << 20, "000000010000000100000000"},
		{segment.Name{Timeline: 1, Number: 3}, 1 << 30, "000000010000000000000003"},
		{segment.Name{Timeline: 1, Number: 4}, 1 << 30, "000000010000000100000000"},
		{segment.Name{Timeline: 1<<32 - 1, Number: 1<<44 - 1}, 1 << 20, "FFFFFFFFFFFFFFFF00000FFF"},
	} {
		if got := c.name.Format(c.size); got != c.want {
			t.Errorf("%+v with %s is %s; want %s", c.name, c.size, got, c.want)
		}
		if got, err := segment.ParseName(c.want, c.size); err != nil || got != c.name {
			t.Errorf("%s with %s is %+v, %v; want %+v", c.want, c.size, got, err, c.name)
		}
	}
}

func TestParseNameRefuses(t *testing.T) {
	for _, c := range []struct {
		size segment.Size
		text string
	}{
		{1 << 24, ""},
		{1 << 24, "00000001000000000000000"},
		{1 << 24, "0000000100000000000000001"},
		{1 << 24, "00000001000000000000000a"},
		{1 << 24, "00000001000000000000000G"},
		{1 << 24, "0000000100000000 0000001"},
		{1 << 24, "+00000010000000000000001"},
		{1 << 24, "000000010000000000000001.partial"},
		{1 << 24, "000000010000000000000001.gz"},
		{1 << 24, "00000001000000000000001\x00"},
		{1 << 24, "0000000100000000000000é"},
		{1 << 24, "000000000000000000000001"},
		{1 << 24, "000000010000000000000100"},
		{1 << 20, "000000010000000000001000"},
		{1 << 30, "000000010000000000000004"},
		{1<<24 + 1, "000000010000000000000001"},
		{0, "000000010000000000000001"},
	} {
		if got, err := segment.ParseName(c.text, c.size); err == nil {
			t.Errorf("ParseName(%q, %d) = %+v; want an error", c.text, int64(c.size), got)
		}
	}
}

// TestNameLaws holds for every size: a name and its text are the same thing,
// a segment covers exactly the positions whose number it has, and the next one
// begins where it ends, across the border of the name's middle part too.
func TestNameLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.SampledFrom(allSizes()).Draw(t, "size")
		l := drawLSN(t, s)
		n := segment.Name{Timeline: drawTimeline(t), Number: s.Number(l)}
		text := n.Format(s)
		if got, err := segment.ParseName(text, s); err != nil || got != n {
			t.Fatalf("%s was read as %+v, %v; want %+v", text, got, err, n)
		}
		if !segment.IsSegmentName(text) {
			t.Fatalf("%s does not have the shape of a name", text)
		}
		if l < n.Start(s) || l >= n.End(s) && l != segment.MaxLSN {
			t.Fatalf("%v is not in %s, from %v to %v", l, text, n.Start(s), n.End(s))
		}
		if n.End(s) == segment.MaxLSN {
			return
		}
		next := n.Next()
		if next.Start(s) != n.End(s) || next.Timeline != n.Timeline || n.Compare(next) >= 0 {
			t.Fatalf("%+v does not follow %+v", next, n)
		}
		if nextText := next.Format(s); nextText <= text {
			t.Fatalf("%s does not sort after %s", nextText, text)
		}
	})
}

// TestNameAcross4GiB walks over the place where the last part of the name
// starts again from zero, at every size.
func TestNameAcross4GiB(t *testing.T) {
	for _, s := range allSizes() {
		last := segment.Name{Timeline: 7, Number: s.Number(1<<32 - 1)}
		next := last.Next()
		if got := next.Format(s); got != "000000070000000100000000" {
			t.Errorf("%s: after %s comes %s", s, last.Format(s), got)
		}
		if last.End(s) != 1<<32 || next.Start(s) != 1<<32 {
			t.Errorf("%s: the border is at %v and %v", s, last.End(s), next.Start(s))
		}
		if got, err := segment.ParseName(last.Format(s), s); err != nil || got != last {
			t.Errorf("%s: %s was read as %+v, %v", s, last.Format(s), got, err)
		}
	}
}

func TestLastNameOfAll(t *testing.T) {
	for _, s := range allSizes() {
		n := segment.Name{Timeline: 1, Number: s.Number(segment.MaxLSN)}
		if got := n.End(s); got != segment.MaxLSN {
			t.Errorf("%s: the last segment ends at %v", s, got)
		}
	}
}

func TestNameCompare(t *testing.T) {
	want := []segment.Name{
		{Timeline: 9, Number: 1},
		{Timeline: 1, Number: 2},
		{Timeline: 2, Number: 2},
		{Timeline: 3, Number: 2},
		{Timeline: 1, Number: 3},
		{Timeline: 1, Number: 1 << 40},
	}
	got := slices.Clone(want)
	slices.Reverse(got)
	slices.SortFunc(got, segment.Name.Compare)
	if !slices.Equal(got, want) {
		t.Errorf("sorted as %v; want %v", got, want)
	}
	for i, n := range want {
		for k, m := range want {
			if got := n.Compare(m); got != cmp.Compare(i, k) {
				t.Errorf("%v compared with %v is %d", n, m, got)
			}
		}
	}
}

func TestNameShapes(t *testing.T) {
	for text, want := range map[string]struct{ segment, backup bool }{
		"0000000100000000000000A1":                  {segment: true},
		"000000000000000000000000":                  {segment: true},
		"0000000100000000FFFFFFFF":                  {segment: true},
		"0000000100000000000000a1":                  {},
		"0000000100000000000000A1.partial":          {},
		"0000000100000000000000A1.00000028.backup":  {backup: true},
		"0000000100000000000000A1.00000028.backup ": {},
		"0000000100000000000000A1.0000028.backup":   {},
		"0000000100000000000000A1.0000002x.backup":  {},
		"0000000100000000000000A1.0000002a.backup":  {},
		"0000000100000000000000A1.000000028.backup": {},
		"0000000100000000000000A1.backup":           {},
		"00000001000000000000A1.00000028.backup":    {},
		"0000000100000000000000A1-00000028.backup":  {},
		"00000002.history":                          {},
		".backup":                                   {},
		"":                                          {},
	} {
		if got := segment.IsSegmentName(text); got != want.segment {
			t.Errorf("IsSegmentName(%q) = %v", text, got)
		}
		if got := segment.IsBackupHistoryName(text); got != want.backup {
			t.Errorf("IsBackupHistoryName(%q) = %v", text, got)
		}
	}
}

func TestHistoryNames(t *testing.T) {
	for timeline, want := range map[segment.TimelineID]string{
		2: "00000002.history", 0xABCDEF: "00ABCDEF.history", 1<<32 - 1: "FFFFFFFF.history",
	} {
		if got := segment.HistoryName(timeline); got != want {
			t.Errorf("timeline %d has %s; want %s", timeline, got, want)
		}
		if got, err := segment.ParseHistoryName(want); err != nil || got != timeline {
			t.Errorf("%s is of timeline %d, %v; want %d", want, got, err, timeline)
		}
	}
	for _, text := range []string{
		"", ".history", "00000002", "0000002.history", "000000002.history", "00000000.history", "0000000a.history",
		"00000002.history.gz", "00000002.History", "+0000002.history", "00000002.history ", "0000000G.history",
	} {
		if got, err := segment.ParseHistoryName(text); err == nil {
			t.Errorf("ParseHistoryName(%q) = %d; want an error", text, got)
		}
	}
}

// FuzzParseName asserts that a name that is read is written back the same, and
// that only texts of the right shape are read at all.
func FuzzParseName(f *testing.F) {
	for _, seed := range []string{
		"000000010000000000000001", "FFFFFFFFFFFFFFFF000000FF", "000000010000000000000100",
		"000000010000000000000001.partial", "00000002.history", "",
	} {
		f.Add(seed, uint8(4))
	}
	f.Fuzz(func(t *testing.T, text string, exponent uint8) {
		s := segment.MinSize << (exponent % 11)
		n, err := segment.ParseName(text, s)
		if err != nil {
			return
		}
		if got := n.Format(s); got != text {
			t.Errorf("%q was written back as %q", text, got)
		}
		if !segment.IsSegmentName(text) || n.Timeline == 0 || strings.ToUpper(text) != text {
			t.Errorf("%q was read as %+v", text, n)
		}
	})
}

func drawTimeline(t *rapid.T) segment.TimelineID {
	return segment.TimelineID(rapid.Uint32Min(1).Draw(t, "timeline"))
}
