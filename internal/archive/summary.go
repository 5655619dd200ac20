package archive

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/walrecv/walrecv/segment"
)

const (
	// maxSummary bounds the text of a summary, so that every trailer stays below
	// maxTrailer. Sixteen restore points with the longest names of the most
	// awkward bytes fit.
	maxSummary = 12 << 10

	// maxReason bounds what is kept of a fault's reason, in bytes.
	maxReason = 200

	// summaryTime is how a time stands in a summary: UTC, with microseconds.
	summaryTime = "2006-01-02T15:04:05.000000Z"
)

// summaryFile is a [segment.Summary] as it stands in objects. The name of the
// segment says where it begins, and where it ends if nothing else is said.
type summaryFile struct {
	End         segment.LSN `json:"end_lsn,omitzero"`
	First       segment.LSN `json:"first_lsn,omitzero"`
	Last        segment.LSN `json:"last_lsn,omitzero"`
	Open        segment.LSN `json:"open_lsn,omitzero"`
	Switched    bool        `json:"switched,omitzero"`
	FirstCommit string      `json:"first_commit,omitzero"`
	LastCommit  string      `json:"last_commit,omitzero"`
	Points      []pointFile `json:"restore_points,omitempty"`
	MorePoints  int         `json:"more_restore_points,omitzero"`
	Faults      int         `json:"faults,omitzero"`
	FirstFault  *faultFile  `json:"first_fault,omitempty"`
	Unchecked   int64       `json:"unchecked_bytes,omitzero"`
}

// pointFile is a restore point. The bytes of a name that are not UTF-8 cannot
// stand in JSON.
type pointFile struct {
	Name string      `json:"name,omitzero"`
	Hex  string      `json:"name_hex,omitzero"`
	LSN  segment.LSN `json:"lsn"`
	Time string      `json:"time,omitzero"`
}

type faultFile struct {
	LSN    segment.LSN `json:"lsn"`
	End    segment.LSN `json:"sound_until_lsn"`
	Reason string      `json:"reason"`
}

// encodeSummary gives the text of the summary of a segment, nil for one that has
// no place in an object: of something else, or too long.
func encodeSummary(s segment.Summary, name segment.Name, size segment.Size) (json.RawMessage, error) {
	text, err := json.Marshal(newSummaryFile(s, name.End(size)))
	if err != nil || s.Start != name.Start(size) || len(text) > maxSummary {
		return nil, err
	}
	return text, nil
}

func newSummaryFile(s segment.Summary, end segment.LSN) *summaryFile {
	f := &summaryFile{
		First:       s.First,
		Last:        s.Last,
		Open:        s.Open,
		Switched:    s.Switched,
		FirstCommit: formatTime(s.FirstCommit),
		LastCommit:  formatTime(s.LastCommit),
		MorePoints:  s.MoreRestorePoints,
		Faults:      s.Faults,
		Unchecked:   s.Unchecked,
	}
	if s.End != end {
		f.End = s.End
	}
	for _, p := range s.RestorePoints {
		f.Points = append(f.Points, newPointFile(p))
	}
	if s.Faults > 0 {
		reason := strings.ToValidUTF8(s.FirstFault.Reason[:min(len(s.FirstFault.Reason), maxReason)], "")
		f.FirstFault = &faultFile{LSN: s.FirstFault.LSN, End: s.FirstFault.End, Reason: reason}
	}
	return f
}

func newPointFile(p segment.NamedPoint) pointFile {
	f := pointFile{LSN: p.LSN, Time: formatTime(p.Time)}
	if utf8.ValidString(p.Name) {
		f.Name = p.Name
	} else {
		f.Hex = hex.EncodeToString([]byte(p.Name))
	}
	return f
}

// decodeSummary reads the text of the summary of a segment. Members that it does
// not know are ignored.
func decodeSummary(text []byte, name segment.Name, size segment.Size) (segment.Summary, error) {
	var f summaryFile
	if err := json.Unmarshal(text, &f); err != nil {
		return segment.Summary{}, err
	}
	return f.summary(name, size)
}

// summary checks what can be checked.
func (f *summaryFile) summary(name segment.Name, size segment.Size) (segment.Summary, error) {
	s := segment.Summary{
		Start:             name.Start(size),
		End:               f.End,
		First:             f.First,
		Last:              f.Last,
		Open:              f.Open,
		Switched:          f.Switched,
		MoreRestorePoints: f.MorePoints,
		Faults:            f.Faults,
		Unchecked:         f.Unchecked,
	}
	if s.End == 0 {
		s.End = name.End(size)
	}
	if err := f.addPoints(&s); err != nil {
		return segment.Summary{}, err
	}
	var errFirst, errLast error
	s.FirstCommit, errFirst = parseTime(f.FirstCommit)
	s.LastCommit, errLast = parseTime(f.LastCommit)
	if err := errors.Join(errFirst, errLast); err != nil {
		return segment.Summary{}, err
	}
	if f.FirstFault != nil {
		s.FirstFault = segment.Fault{LSN: f.FirstFault.LSN, End: f.FirstFault.End, Reason: f.FirstFault.Reason}
	}
	return s, checkSummary(s, name, size)
}

func (f *summaryFile) addPoints(s *segment.Summary) error {
	for _, p := range f.Points {
		name := p.Name
		if p.Hex != "" {
			b, err := hex.DecodeString(p.Hex)
			if err != nil {
				return fmt.Errorf("name of a restore point: %w", err)
			}
			name = string(b)
		}
		at, err := parseTime(p.Time)
		if err != nil {
			return err
		}
		s.RestorePoints = append(s.RestorePoints, segment.NamedPoint{Name: name, LSN: p.LSN, Time: at})
	}
	return nil
}

// checkSummary says whether a summary can be one of the segment.
func checkSummary(s segment.Summary, name segment.Name, size segment.Size) error {
	begun := s.First != 0 || s.Last != 0
	switch {
	case s.End <= s.Start || s.End > name.End(size):
		return fmt.Errorf("it ends at %s", s.End)
	case begun && (s.First < s.Start || s.Last < s.First || s.Last >= s.End):
		return fmt.Errorf("records begin from %s to %s", s.First, s.Last)
	case s.Open > s.End:
		return fmt.Errorf("a record that is open begins at %s", s.Open)
	case s.Faults < 0 || s.MoreRestorePoints < 0 || s.Unchecked < 0 || s.Unchecked > int64(size):
		return fmt.Errorf("it counts %d faults, %d more restore points, %d unchecked bytes", s.Faults, s.MoreRestorePoints, s.Unchecked)
	}
	return nil
}

// formatTime leaves out times that RFC 3339 cannot express: the server's range is
// wider.
func formatTime(t time.Time) string {
	t = t.UTC()
	if t.IsZero() || t.Year() < 0 || t.Year() > 9999 {
		return ""
	}
	return t.Format(summaryTime)
}

func parseTime(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339, text)
	return t.UTC(), err
}
