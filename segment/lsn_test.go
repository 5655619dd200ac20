package segment_test

import (
	"encoding/json"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/walrecv/walrecv/segment"
)

func TestParseLSN(t *testing.T) {
	for text, want := range map[string]segment.LSN{
		"0/0":               0,
		"0/1":               1,
		"16/B374D848":       0x16B374D848,
		"16/b374d848":       0x16B374D848,
		"1/0":               1 << 32,
		"00000001/00000000": 1 << 32,
		"FFFFFFFF/FFFFFFFF": segment.MaxLSN,
	} {
		got, err := segment.ParseLSN(text)
		if err != nil || got != want {
			t.Errorf("ParseLSN(%q) = %v, %v; want %v", text, got, err, want)
		}
	}
}

func TestParseLSNRefuses(t *testing.T) {
	for _, text := range []string{
		"", "/", "0", "0/", "/0", "1/2/3", "0/0 ", " 0/0", "0/ 0", "0 /0", "0/0\n", "0/0\x00",
		"+0/0", "0/-1", "0x1/0", "0/0x1", "1_0/0", "G/0", "0/g", "000000001/0", "0/000000001",
		"0/100000000", "０/0", "0\\0", "0:0", "ı/0",
	} {
		if got, err := segment.ParseLSN(text); err == nil {
			t.Errorf("ParseLSN(%q) = %v; want an error", text, got)
		}
	}
}

func TestLSNInJSON(t *testing.T) {
	type record struct{ Flushed segment.LSN }
	text, err := json.Marshal(record{0x16B374D848})
	if err != nil || string(text) != `{"Flushed":"16/B374D848"}` {
		t.Fatalf("encoded %s, %v", text, err)
	}
	var got record
	if err := json.Unmarshal(text, &got); err != nil || got.Flushed != 0x16B374D848 {
		t.Errorf("decoded %v, %v", got.Flushed, err)
	}
	if err := json.Unmarshal([]byte(`{"Flushed":"16-B374D848"}`), &got); err == nil {
		t.Error("a malformed position was decoded")
	}
	if got.Flushed != 0x16B374D848 {
		t.Errorf("a failed decoding changed the position to %v", got.Flushed)
	}
}

func TestLSNTextRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := segment.LSN(rapid.Uint64().Draw(t, "lsn"))
		got, err := segment.ParseLSN(want.String())
		if err != nil || got != want {
			t.Fatalf("%v became %v, %v", want, got, err)
		}
	})
}

// FuzzParseLSN asserts that a text that is read is written back the same, apart
// from the case of the digits and zeros in front of them.
func FuzzParseLSN(f *testing.F) {
	for _, seed := range []string{"0/0", "16/B374D848", "ffffffff/FFFFFFFF", "0/", "00/01", "1/2/3"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		l, err := segment.ParseLSN(text)
		if err != nil {
			return
		}
		high, low, _ := strings.Cut(strings.ToUpper(text), "/")
		if want := shortHex(high) + "/" + shortHex(low); l.String() != want {
			t.Errorf("%q was read as %v; want %s", text, l, want)
		}
	})
}

// shortHex takes the zeros off the front of a number, but never the last digit.
func shortHex(digits string) string {
	if short := strings.TrimLeft(digits, "0"); short != "" {
		return short
	}
	return "0"
}
