package segment

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Findings are what was found out about the WAL and has to be remembered as long
// as the WAL is: that some of it is missing ([Gap]), that some of it is damaged
// ([Mark]). Each is one small file that is never changed. A file of the same name
// and another content says the same, found out at another time.
const (
	gapSuffix  = ".gap"
	markSuffix = ".mark"
)

// Gap is a range of WAL that the server could not give any more, and that the
// operator agreed to go on without.
type Gap struct {
	Timeline TimelineID // the newest one of the range
	From, To LSN        // starts of segments; To is where the WAL goes on
	Reason   string     // why the server does not have it, for people
	Found    time.Time
}

// valid says whether the gap is one.
func (g Gap) valid(s Size) error {
	if g.Timeline == 0 || g.From >= g.To || s.Offset(g.From) != 0 || s.Offset(g.To) != 0 {
		return fmt.Errorf("no gap: %s to %s on timeline %d", g.From, g.To, uint32(g.Timeline))
	}
	return nil
}

// Covers tells whether the gap has the segment of a number.
func (g Gap) Covers(number uint64, s Size) bool {
	return s.Number(g.From) <= number && number < s.Number(g.To)
}

// FileName names the gap: its timeline and its two ends, in hexadecimal digits.
func (g Gap) FileName() string {
	return fmt.Sprintf("%s.%016X-%016X%s", g.Timeline, uint64(g.From), uint64(g.To), gapSuffix)
}

type gapFile struct {
	Timeline uint32    `json:"timeline"`
	From     LSN       `json:"start_lsn"`
	To       LSN       `json:"end_lsn"`
	Reason   string    `json:"reason"`
	Found    time.Time `json:"found"`
}

// Encode gives the content of the gap's file.
func (g Gap) Encode() ([]byte, error) {
	return encodeFinding(gapFile{uint32(g.Timeline), g.From, g.To, g.Reason, g.Found.UTC()})
}

// ParseGap reads the content of a gap's file. Members that it does not know are
// ignored.
func ParseGap(content []byte, s Size) (Gap, error) {
	var f gapFile
	if err := json.Unmarshal(content, &f); err != nil {
		return Gap{}, fmt.Errorf("gap: %w", err)
	}
	g := Gap{Timeline: TimelineID(f.Timeline), From: f.From, To: f.To, Reason: f.Reason, Found: f.Found}
	return g, g.valid(s)
}

// Mark says that a segment holds something that WAL cannot hold there, as the
// server sent it, twice.
type Mark struct {
	Name   Name // of the segment
	LSN    LSN  // of what is wrong
	End    LSN  // where the sound WAL in front of it ends
	Reason string
	Found  time.Time
}

// FileName names the mark: its segment, and the place in hexadecimal digits.
func (m Mark) FileName(s Size) string {
	return fmt.Sprintf("%s.%016X%s", m.Name.Format(s), uint64(m.LSN), markSuffix)
}

type markFile struct {
	Segment string    `json:"segment"`
	LSN     LSN       `json:"lsn"`
	End     LSN       `json:"sound_until_lsn"`
	Reason  string    `json:"reason"`
	Found   time.Time `json:"found"`
}

// Encode gives the content of the mark's file.
func (m Mark) Encode(s Size) ([]byte, error) {
	return encodeFinding(markFile{m.Name.Format(s), m.LSN, m.End, m.Reason, m.Found.UTC()})
}

// ParseMark reads the content of a mark's file. Members that it does not know are
// ignored.
func ParseMark(content []byte, s Size) (Mark, error) {
	var f markFile
	if err := json.Unmarshal(content, &f); err != nil {
		return Mark{}, fmt.Errorf("mark: %w", err)
	}
	name, err := ParseName(f.Segment, s)
	if err != nil {
		return Mark{}, fmt.Errorf("mark: %w", err)
	}
	return Mark{Name: name, LSN: f.LSN, End: f.End, Reason: f.Reason, Found: f.Found}, nil
}

// IsGapName tells whether a file of that name is a [Gap].
func IsGapName(base string) bool {
	_, ok := GapOfName(base)
	return ok
}

// GapOfName is the gap that a file of that name holds, without what only the
// content says. ok is false for another name.
func GapOfName(base string) (g Gap, ok bool) {
	timeline, rest, _ := strings.Cut(base, ".")
	ends, ok := strings.CutSuffix(rest, gapSuffix)
	from, to, _ := strings.Cut(ends, "-")
	if !ok || !isHex(timeline, partDigits) || !isHex(from, 2*partDigits) || !isHex(to, 2*partDigits) {
		return Gap{}, false
	}
	return Gap{Timeline: TimelineID(hexValue(timeline)), From: LSN(hexValue(from)), To: LSN(hexValue(to))}, true
}

// hexValue is the number that digits, of which [isHex] is true, stand for.
func hexValue(digits string) uint64 {
	n, _ := strconv.ParseUint(digits, 16, 64)
	return n
}

// IsMarkName tells whether a file of that name is a [Mark].
func IsMarkName(base string) bool {
	name, rest, _ := strings.Cut(base, ".")
	at, ok := strings.CutSuffix(rest, markSuffix)
	return ok && IsSegmentName(name) && isHex(at, 2*partDigits)
}

func isHex(digits string, n int) bool {
	return len(digits) == n && strings.Trim(digits, "0123456789ABCDEF") == ""
}

func encodeFinding(f any) ([]byte, error) {
	data, err := json.Marshal(f)
	return append(data, '\n'), err
}
