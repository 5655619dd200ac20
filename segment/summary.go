package segment

import "time"

// maxRestorePoints is how many restore points a [Summary] names. They are made by
// hand or by scripts; a segment with more of them is not worth more room.
const maxRestorePoints = 16

// Summary says in a few words what stands in a segment, so that nobody has to
// read it again to find a time, a name or a hole.
type Summary struct {
	// Start and End are the bytes that were read. End is that of the segment, or is
	// before it if the segment was not read to its end.
	Start LSN
	End   LSN

	// First and Last are where the first and the last record begin that begin in
	// the segment. They are 0 if none does, as in the middle of a long record.
	First LSN
	Last  LSN
	// Open is where the record begins that goes on behind End, in this segment or
	// before; 0 if there is none. Its checksum is not checked yet.
	Open LSN
	// Switched says that the segment ends with a switch and is full of zeros behind
	// it.
	Switched bool

	// FirstCommit and LastCommit are the times of the first and the last commit of
	// which the record ends in the segment, in the order of the log; zero if there
	// is none.
	FirstCommit time.Time
	LastCommit  time.Time
	// RestorePoints are those of which the record ends in the segment, the first
	// ones if they are many. MoreRestorePoints counts the others.
	RestorePoints     []NamedPoint
	MoreRestorePoints int

	// Faults counts the places where something is wrong, and FirstFault is the
	// first of them. They can be about a record that began in a segment before.
	Faults     int
	FirstFault Fault
	// Unchecked counts the bytes before Open that could not be checked: those
	// around faults, and the end of a record whose beginning was not read.
	Unchecked int64
}

// NamedPoint is a restore point: recovery to its name ends at LSN.
type NamedPoint struct {
	Name string
	LSN  LSN // behind its record
	Time time.Time
}

// Verified tells whether all records that end in the segment were found to be
// sound, with nothing left out.
func (s Summary) Verified() bool { return s.Faults == 0 && s.Unchecked == 0 }

// Summarizer is a [Visitor] that sums up the segment that is being read, and
// passes on what it is told.
type Summarizer struct {
	next Visitor
	sum  Summary
}

// NewSummarizer makes a Summarizer that passes everything on to next, which may
// be nil.
func NewSummarizer(next Visitor) *Summarizer { return &Summarizer{next: next} }

// Segment begins the summary of another segment.
func (s *Summarizer) Segment(start LSN) {
	s.sum = Summary{Start: start}
	if s.next != nil {
		s.next.Segment(start)
	}
}

// Record notes what the summary says of records.
func (s *Summarizer) Record(r *Record) {
	if r.LSN >= s.sum.Start {
		s.sum.begins(r.LSN)
	}
	switch r.Kind {
	case CommitRecord:
		s.sum.LastCommit = r.Time()
		if s.sum.FirstCommit.IsZero() {
			s.sum.FirstCommit = s.sum.LastCommit
		}
	case RestorePoint:
		s.addRestorePoint(r)
	case SwitchRecord:
		s.sum.Switched = true
	}
	if s.next != nil {
		s.next.Record(r)
	}
}

func (s *Summarizer) addRestorePoint(r *Record) {
	if len(s.sum.RestorePoints) == maxRestorePoints {
		s.sum.MoreRestorePoints++
		return
	}
	s.sum.RestorePoints = append(s.sum.RestorePoints, NamedPoint{Name: r.Name(), LSN: r.End, Time: r.Time()})
}

// Fault counts a fault.
func (s *Summarizer) Fault(f Fault) {
	if s.sum.Faults == 0 {
		s.sum.FirstFault = f
	}
	s.sum.Faults++
	if s.next != nil {
		s.next.Fault(f)
	}
}

// Unchecked counts bytes of the segment.
func (s *Summarizer) Unchecked(from, to LSN) {
	s.sum.addUnchecked(from, to)
	if s.next != nil {
		s.next.Unchecked(from, to)
	}
}

func (s *Summary) addUnchecked(from, to LSN) {
	if from = max(from, s.Start); from < to {
		s.Unchecked += int64(to - from)
	}
}

// Summary sums up the segment that the Reader has been reading, up to its
// position. It is called where the segment ends, before the Reader is fed with
// the next one. ok is false if the segment was not read from its start, or not
// without a gap.
func (s *Summarizer) Summary(r *Reader) (sum Summary, ok bool) {
	if !r.fed || !r.whole {
		return Summary{}, false
	}
	sum = s.sum
	sum.End = r.Position()
	from, open := r.Open()
	switch {
	case !open:
	case r.dark:
		sum.addUnchecked(from, sum.End)
	default:
		sum.Open = from
		if from >= sum.Start {
			sum.begins(from)
		}
	}
	return sum, true
}

// begins notes that a record begins in the segment.
func (s *Summary) begins(at LSN) {
	if s.First == 0 {
		s.First = at
	}
	s.Last = at
}
