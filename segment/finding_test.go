package segment

import (
	"testing"
	"time"
)

func TestFindingsComeBack(t *testing.T) {
	found := time.Date(2026, 11, 22, 1, 2, 3, 4000, time.UTC)
	size := Size(1 << 20)
	g := Gap{Timeline: 2, From: 5 << 20, To: 9 << 20, Reason: "the slot was invalidated", Found: found}
	content, err := g.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ParseGap(content, size); err != nil || got != g {
		t.Errorf("gap: %+v, %v", got, err)
	}
	if got, want := g.FileName(), "00000002.0000000000500000-0000000000900000.gap"; got != want || !IsGapName(got) {
		t.Errorf("gap: %s", got)
	}
	for number, want := range map[uint64]bool{4: false, 5: true, 8: true, 9: false} {
		if g.Covers(number, size) != want {
			t.Errorf("segment %d: %v", number, !want)
		}
	}
	m := Mark{Name: Name{Timeline: 1, Number: 7}, LSN: 0x712345, End: 0x712300, Reason: "a checksum", Found: found}
	content, err = m.Encode(size)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ParseMark(content, size); err != nil || got != m {
		t.Errorf("mark: %+v, %v", got, err)
	}
	if got, want := m.FileName(size), "000000010000000000000007.0000000000712345.mark"; got != want || !IsMarkName(got) {
		t.Errorf("mark: %s", got)
	}
}

func TestFindingsThatAreNone(t *testing.T) {
	for _, text := range []string{
		``, `{}`, `[]`, `{"timeline":1,"start_lsn":"0/900000","end_lsn":"0/500000"}`,
		`{"timeline":0,"start_lsn":"0/500000","end_lsn":"0/900000"}`,
		`{"timeline":1,"start_lsn":"0/500001","end_lsn":"0/900000"}`,
		`{"timeline":1,"start_lsn":"0/500000","end_lsn":"0/90000F"}`,
		`{"timeline":1,"start_lsn":5,"end_lsn":"0/900000"}`,
	} {
		if g, err := ParseGap([]byte(text), 1<<20); err == nil {
			t.Errorf("%s: %+v", text, g)
		}
		if m, err := ParseMark([]byte(text), 1<<20); err == nil {
			t.Errorf("%s: %+v", text, m)
		}
	}
}

func TestNamesOfFindings(t *testing.T) {
	for _, base := range []string{
		"", ".gap", "note.gap", "00000001.0-1.gap", "00000002.0000000000500000.gap", "0000000g.0000000000500000-0000000000900000.gap",
		".mark", "000000010000000000000007.mark", "000000010000000000000007.712345.mark",
	} {
		if IsGapName(base) || IsMarkName(base) {
			t.Errorf("%q is taken for a finding", base)
		}
	}
}
