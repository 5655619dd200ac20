package recovery

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/walrecv/walrecv/internal/units"
	"github.com/walrecv/walrecv/segment"
)

// TargetKind says by what a point in the log is named.
type TargetKind uint8

// The kinds of targets, as PostgreSQL has them.
const (
	Latest    TargetKind = iota // the end of the WAL that is there
	Immediate                   // the end of the base backup
	Time                        // before the first transaction that ended later
	LSN                         // behind the first record that begins there or later
	XID                         // behind the end of this transaction
	Name                        // behind this restore point
)

// Target is the point up to which WAL is replayed. The zero value is the end of
// the newest timeline. Points are inclusive, as PostgreSQL's are by default.
type Target struct {
	Kind     TargetKind
	Time     time.Time // of kind Time: UTC, to the microsecond
	LSN      segment.LSN
	XID      uint32 // not 0
	Name     string // 1 to 63 bytes without a zero byte, of any encoding
	Timeline Timeline
}

// String is for people: "time 2026-01-31 12:00:00 UTC", "latest".
func (t Target) String() string {
	switch t.Kind {
	case Immediate:
		return "the end of the base backup"
	case Time:
		return "time " + formatTime(t.Time)
	case LSN:
		return "LSN " + t.LSN.String()
	case XID:
		return "transaction " + strconv.FormatUint(uint64(t.XID), 10)
	case Name:
		return "restore point " + strconv.Quote(t.Name)
	default:
		return "latest"
	}
}

// formatTime prints a time as walrecv status does, with all its digits.
func formatTime(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05.999999 UTC") }

// ParseTime reads a target time, which needs an offset. PostgreSQL keeps
// microseconds, and rounds to them, too.
func ParseTime(text string) (time.Time, error) {
	t, err := units.ParseTime(text)
	if err != nil {
		return time.Time{}, err
	}
	return t.Round(time.Microsecond), nil
}

// firstXID is the first one that is given to a transaction.
const firstXID = 3

// ParseXID reads a transaction's number, in decimal: 32 bits, as in WAL and in
// xmin, or 64, as pg_current_xact_id prints it. Of those WAL has the lower half,
// which is all that PostgreSQL compares.
func ParseXID(text string) (uint32, error) {
	full, err := strconv.ParseUint(text, 10, 64)
	if err != nil || strings.HasPrefix(text, "+") {
		return 0, fmt.Errorf("%q is not a transaction's number", text)
	}
	if uint32(full) < firstXID { // the lower half
		return 0, fmt.Errorf("no transaction has the number %d", full)
	}
	return uint32(full), nil
}

// maxNameLen is the longest name of a restore point, in bytes.
const maxNameLen = 63

// CheckName tells whether a restore point can have this name.
func CheckName(name string) error {
	switch {
	case name == "":
		return errors.New("a restore point has a name")
	case len(name) > maxNameLen:
		return fmt.Errorf("the name of a restore point has at most %d bytes, this one has %d", maxNameLen, len(name))
	case strings.Contains(name, "\x00"):
		return errors.New("the name of a restore point has no zero byte")
	}
	return nil
}

// Timeline says along which timeline WAL is replayed: a timeline's number, or one
// of the constants.
type Timeline int64

// What PostgreSQL finds out by itself.
const (
	// LatestTimeline is the last of the timelines that follow the base backup's
	// by number and whose history files are there without a gap.
	LatestTimeline Timeline = 0
	// CurrentTimeline is the base backup's.
	CurrentTimeline Timeline = -1
)

// ParseTimeline reads "latest", "current", or the number of a timeline in decimal.
func ParseTimeline(text string) (Timeline, error) {
	switch text {
	case "latest":
		return LatestTimeline, nil
	case "current":
		return CurrentTimeline, nil
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || n == 0 || n > math.MaxUint32 || strings.HasPrefix(text, "+") {
		return 0, fmt.Errorf("%q is not a timeline: want latest, current, or a number", text)
	}
	return Timeline(n), nil
}

// String is what ParseTimeline reads, and PostgreSQL's recovery_target_timeline.
func (t Timeline) String() string {
	switch t {
	case LatestTimeline:
		return "latest"
	case CurrentTimeline:
		return "current"
	}
	return strconv.FormatInt(int64(t), 10)
}
