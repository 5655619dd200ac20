package verify

import (
	"cmp"
	"strings"

	"github.com/walrecv/walrecv/segment"
)

// Report is what was found.
type Report struct {
	SystemID    uint64
	SegmentSize segment.Size
	Major       int // of PostgreSQL

	Deep  bool
	Since segment.LSN // where the first segment begins that was looked at, 0: all

	Timelines []Timeline // ascending

	Segments int   // complete ones that were read
	Partials int   // that were read
	Chunks   int   // pieces of the tail that were read
	Backups  int   // good base backups, of which all objects are there
	Objects  int   // of base backups that were read; Deep only
	Bytes    int64 // plain bytes of all
	Records  int64 // that are sound; Deep only
	// Unchecked is how many bytes are parts of records that could not be checked,
	// because the other parts are not there or are damaged; Deep only.
	Unchecked int64

	Findings []Finding // why the archive is not sound
	Notices  []Finding // what is worth to be known and is no fault
	Unread   []Finding // what could not be checked: nothing is known of it
}

// Sound tells whether nothing is wrong with what was checked.
func (r *Report) Sound() bool { return len(r.Findings) == 0 }

// Complete tells whether everything could be checked.
func (r *Report) Complete() bool { return len(r.Unread) == 0 }

// Timeline is what the archive holds of one timeline.
type Timeline struct {
	ID         segment.TimelineID
	Parent     segment.TimelineID // 0 if it is not known
	Fork       segment.LSN        // where it left its parent, 0 if it is not known
	Start, End segment.LSN        // of its complete segments, 0 if there are none
	Segments   uint64             // complete ones
	Partials   int
	Tail       segment.LSN // where its tail ends, 0 if there is none
	Read       bool        // something of it was read
}

// Kind says what a finding is about.
type Kind string

// The kinds of findings. Those from KindGap on are only notices.
const (
	KindEmpty      Kind = "empty"      // there is no WAL
	KindHole       Kind = "hole"       // segments are missing
	KindHistory    Kind = "history"    // a history file is missing, damaged, or contradicts something
	KindDamaged    Kind = "damaged"    // an object is not what was put
	KindMisplaced  Kind = "misplaced"  // a segment is not the one that its name says
	KindRecord     Kind = "record"     // a page or a record is damaged
	KindUnchecked  Kind = "unchecked"  // records could not be checked for no reason that is known
	KindPartial    Kind = "partial"    // a partial ends before the next timeline begins
	KindTail       Kind = "tail"       // pieces of the tail differ, or one is missing between others
	KindGone       Kind = "gone"       // an object vanished while the archive was verified
	KindBackup     Kind = "backup"     // a base backup cannot be restored
	KindMarked     Kind = "marked"     // the receiver saw damage when it streamed the segment
	KindUnreadable Kind = "unreadable" // the store does not yield an object
	KindEncrypted  Kind = "encrypted"  // objects are encrypted, and no identity fits

	KindGap       Kind = "gap"       // segments are missing, as was accepted
	KindArriving  Kind = "arriving"  // segments or a history are missing that can be on their way
	KindRemoved   Kind = "removed"   // segments are missing that are older than all others, or were pruned; a finding if more is said to be than can
	KindIndex     Kind = "index"     // the index cannot be used
	KindLeftover  Kind = "leftover"  // pieces of the tail whose segments are complete
	KindTwice     Kind = "twice"     // segments are there encrypted and in the clear
	KindForeign   Kind = "foreign"   // an object that this version does not know
	KindAbandoned Kind = "abandoned" // a base backup that was begun and never completed
	KindMark      Kind = "mark"      // the receiver saw damage that is not there, or of which more is known
)

// Finding is one thing that was found.
type Finding struct {
	Kind     Kind
	Object   string // key, "" if there is none
	Timeline segment.TimelineID
	LSN      segment.LSN // where it is, or begins
	End      segment.LSN // where it ends, 0 if that is not known
	Message  string      // what it is
	Advice   string      // what to do, "" if there is nothing
}

// compareFindings orders by the place in the log.
func compareFindings(a, b Finding) int {
	return cmp.Or(
		cmp.Compare(a.LSN, b.LSN), cmp.Compare(a.Timeline, b.Timeline),
		strings.Compare(a.Object, b.Object), strings.Compare(a.Message, b.Message),
	)
}
