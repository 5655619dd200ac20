package receiver

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/walrecv/walrecv/segment"
)

// verifyState is what the goroutine of a verifier knows.
type verifyState struct {
	begin  verifyBegin
	reader *segment.Reader
	sums   *segment.Summarizer
	faults []segment.Fault // told since the last look at them
	border border          // between what is held and what is streamed
	skip   bool            // until the next beginning: the stream is being ended

	last    segment.LSN   // the newest record
	suspect segment.Fault // asked for again; zero LSN and Reason: none
	asked   segment.Name  // the segment that was asked for again last
}

func (v *verifier) loop() {
	defer close(v.done)
	for w := range v.work {
		v.guarded(w)
		if w.block != nil {
			w.block.release(v.blocks)
		}
		v.queued.Add(-1)
	}
	if f := v.state.suspect; f.Reason != "" {
		f.Reason += "; the receiver ended before the server was asked for it again"
		v.confirmed(f)
	}
	v.dropPending()
}

// guarded keeps a fault of our own from ending the receiver, which does not need
// the verifier for anything.
func (v *verifier) guarded(w verifyWork) {
	defer func() {
		if cause := recover(); cause != nil {
			v.log.Error("the check of the WAL failed, and begins anew with the next connection; please report this", "cause", fmt.Sprint(cause))
			v.failed()
			v.state = verifyState{skip: true}
			v.blinded()
		}
	}()
	switch {
	case w.begin != nil:
		v.begins(*w.begin)
	case !v.state.skip:
		v.read(w.at, w.data)
	}
}

// begins prepares for a stream. A reader that has not seen what is in front of
// it is shown the segment that is held there.
func (v *verifier) begins(b verifyBegin) {
	s := &v.state
	s.begin = b
	v.begun(b.at)
	_, s.skip = v.repeatFrom() // this stream is about to be ended
	if f := s.suspect; !s.skip && f.Reason != "" && b.at.LSN > f.LSN {
		s.suspect = segment.Fault{}
		f.Reason += "; it could not be had again"
		v.confirmed(f)
	}
	if s.reader == nil {
		s.sums = segment.NewSummarizer(faultsOf{s})
		reader, err := segment.NewReader(segment.ReaderOptions{
			Identity: b.cluster.Identity, Major: b.cluster.Major, History: b.history,
		}, s.sums)
		if err != nil {
			v.log.Error("the WAL cannot be checked; it is received all the same: please report this", "error", err)
			v.blinded()
			s.skip = true
			return
		}
		s.reader = reader
	}
	s.reader.SetHistory(b.history)
	if !s.reader.Continues(b.at.LSN) {
		v.prime(b)
	}
	s.border.begins(b)
}

// prime reads the segment in front of a stream, so that the first record of the
// stream can be compared with the last one that is held.
func (v *verifier) prime(b verifyBegin) {
	s := &v.state
	s.border = border{}
	name, file, err := v.keeper.Before(b.at.LSN, b.history)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err == nil {
		err = v.readFile(name, file)
	}
	if err != nil {
		v.log.Warn("the newest complete segment cannot be read; whether the stream continues it is not checked; look at the disk, and run walrecv verify", "error", err)
		return
	}
	for _, f := range s.faults {
		v.log.Error("a segment that is held is damaged; look at the disk of this host, and run walrecv verify on the archive", "segment", name.Format(b.cluster.Size), "lsn", f.LSN.String(), "reason", f.Reason)
		v.failed()
	}
	if len(s.faults) == 0 {
		s.border = border{at: b.at.LSN, last: s.last}
		if from, open := s.reader.Open(); open {
			s.border.last = from
		}
	}
	s.faults = nil
}

// primePiece is how much of a file is read at once.
const primePiece = 128 << 10

func (v *verifier) readFile(name segment.Name, file io.ReadCloser) error {
	defer file.Close()
	buf := make([]byte, primePiece)
	at, end := name.Start(v.state.begin.cluster.Size), name.End(v.state.begin.cluster.Size)
	for at < end {
		n, err := file.Read(buf)
		v.state.reader.Feed(at, buf[:n])
		at += segment.LSN(n)
		if err == io.EOF && at < end {
			err = io.ErrUnexpectedEOF
		}
		if err != nil && err != io.EOF {
			return err
		}
	}
	return nil
}

// read reads a piece of the stream, segment by segment.
func (v *verifier) read(at segment.LSN, p []byte) {
	s := &v.state
	size := s.begin.cluster.Size
	for len(p) > 0 && !s.skip {
		n := min(int64(len(p)), int64(size)-size.Offset(at))
		s.reader.Feed(at, p[:n])
		s.border.read(at, p[:n])
		at, p = at+segment.LSN(n), p[n:]
		v.judge()
		if reason := s.border.broken(); reason != "" && !v.lenient {
			v.end(fmt.Errorf("the server's WAL from %s does not continue the segment that is held in front of it (%s): was it restored from a snapshot? %w",
				s.border.at, reason, segment.ErrBranch))
		}
		if size.Offset(at) == 0 {
			sum, ok := s.sums.Summary(s.reader)
			if s.skip {
				return // it comes again
			}
			v.settled(segment.Name{Timeline: s.begin.at.Timeline, Number: size.Number(at - 1)}, sum, ok)
		}
	}
}

// judge decides what becomes of the faults that were told.
func (v *verifier) judge() {
	s := &v.state
	faults := s.faults
	s.faults = nil
	for _, f := range faults {
		if s.skip {
			return // what follows comes again
		}
		v.fault(f)
	}
	if !s.skip && s.suspect.Reason != "" && s.reader.End() > s.suspect.LSN {
		v.log.Warn("WAL that came damaged came again, and is sound; look at the network and at the memory of both hosts if it happens again", "lsn", s.suspect.LSN.String(), "was", s.suspect.Reason)
		s.suspect = segment.Fault{}
	}
}

func (v *verifier) fault(f segment.Fault) {
	s := &v.state
	name := v.segmentOf(f)
	switch {
	case s.suspect.Reason != "" && s.suspect.LSN == f.LSN:
		s.suspect = segment.Fault{}
		v.confirmed(f)
	case s.asked == name:
		v.failed()
		v.confirmed(f)
	default:
		v.failed()
		v.log.Warn("the WAL is damaged as it came; the server is asked for it again", "lsn", f.LSN.String(), "reason", f.Reason)
		s.suspect, s.asked, s.skip = f, name, true
		v.ask(segment.Position{Timeline: name.Timeline, LSN: name.Start(s.begin.cluster.Size)})
	}
}

// segmentOf is the segment from which on the server has to repeat itself: where
// the record begins that is damaged, but not in front of the stream.
func (v *verifier) segmentOf(f segment.Fault) segment.Name {
	b := v.state.begin
	at := max(min(f.LSN, f.End), b.at.LSN)
	return segment.Name{Timeline: b.at.Timeline, Number: b.cluster.Size.Number(at)}
}

// confirmed is for damage that came twice, so that it is the server's.
func (v *verifier) confirmed(f segment.Fault) {
	s := &v.state
	size := s.begin.cluster.Size
	v.log.Error("the server sends damaged WAL: recovery would stop there; look at the server's disk and memory, and take a base backup",
		"lsn", f.LSN.String(), "reason", f.Reason)
	name := segment.Name{Timeline: s.begin.at.Timeline, Number: size.Number(f.LSN)}
	mark := segment.Mark{Name: name, LSN: f.LSN, End: f.End, Reason: f.Reason, Found: time.Now().UTC()}
	if err := v.keeper.PutMark(mark); err != nil {
		v.log.Error("the damage could not be recorded; note it down", "error", err)
	}
	s.border.confirmed(f)
}

// faultsOf is the visitor that keeps faults for judge.
type faultsOf struct{ s *verifyState }

func (faultsOf) Segment(segment.LSN)        {}
func (v faultsOf) Record(r *segment.Record) { v.s.last = r.LSN }
func (faultsOf) Unchecked(_, _ segment.LSN) {}
func (v faultsOf) Fault(f segment.Fault)    { v.s.faults = append(v.s.faults, f) }
