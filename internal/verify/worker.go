package verify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/segment"
)

// worker reads stretches, one after the other.
type worker struct {
	*Verifier
	survey *survey
	buf    []byte
}

// stretch reads a stretch and reports what it finds.
func (w *worker) stretch(ctx context.Context, t stretch) {
	h := w.survey.history(t.timeline)
	var f *follower
	if w.options.Deep {
		var err error
		if f, err = w.follow(ctx, h, t.first); err != nil {
			w.unread(Finding{Kind: KindUnreadable, Timeline: t.timeline, Message: err.Error()})
			return
		}
	}
	if t.partial != nil {
		w.partial(ctx, *t.partial, h, f)
		return
	}
	if len(t.chunks) > 0 {
		w.tail(ctx, segment.Name{Timeline: t.timeline, Number: t.first}, h, f)
		return
	}
	for number := t.first; ctx.Err() == nil; number++ {
		w.segment(ctx, segment.Name{Timeline: t.timeline, Number: number}, h, f)
		if number == t.last {
			return
		}
	}
}

// follow makes a follower that has read what is before a segment.
func (w *worker) follow(ctx context.Context, h segment.History, number uint64) (*follower, error) {
	var fork segment.LSN
	if n := len(h.Entries); n > 0 {
		fork = h.Entries[n-1].End
	}
	f, err := newFollower(segment.ReaderOptions{Identity: w.id.Segment(), Major: w.id.Major, History: h}, fork)
	if err != nil {
		return nil, err
	}
	for _, o := range w.before(h, number, func(o object) (segment.PageHeader, bool) { return w.head(ctx, o) }) {
		w.readSegment(ctx, o, h, f, func(int64, []byte) {}) // what is wrong with it is found by those who verify it
	}
	return f, nil
}

// head reads the header of the first page of a segment.
func (w *worker) head(ctx context.Context, o object) (h segment.PageHeader, ok bool) {
	err := w.retry(ctx, func(ctx context.Context, _ func()) error {
		body, err := o.open(ctx)
		if err != nil {
			return err
		}
		defer body.Close()
		head := make([]byte, longHeader)
		if _, err = io.ReadFull(body, head); err == nil {
			h, err = segment.ParsePageHeader(head)
		}
		return err
	})
	return h, err == nil && h.Long
}

// outcome is what became of the reading of one object.
type outcome struct {
	err    error          // why it could not be read, or is not what was put
	wrong  string         // why it is not the segment that its name says
	digest archive.Digest // of what it holds, without err
}

// readSegment reads one object whole. f, if it is not nil, is given what it holds,
// as long as it seems to be the right segment. passed is given all that comes.
func (w *worker) readSegment(ctx context.Context, o object, h segment.History, f *follower, passed func(offset int64, p []byte)) outcome {
	var out outcome
	start := o.name.Start(w.id.SegmentSize)
	begun := false
	out.digest, out.err = w.fetch(ctx, o, w.buf, func(offset int64, p []byte) {
		if offset == 0 {
			out.wrong = w.checkFirst(p, o.name, h)
			if f != nil {
				f.begin(o.name, begun)
			}
			begun = true
		}
		if f != nil && out.wrong == "" {
			f.reader.Feed(start+segment.LSN(offset), p)
		}
		passed(offset, p)
	})
	if f != nil && (out.err != nil || out.wrong != "") {
		f.lose()
	}
	return out
}

// read reads one object that is to be verified.
func (w *worker) read(ctx context.Context, o object, h segment.History, f *follower) outcome {
	left := int64(w.id.SegmentSize)
	forks := w.survey.forks(o.name, w.id.SegmentSize)
	var fronts []prefix
	out := w.readSegment(ctx, o, h, f, func(offset int64, p []byte) {
		if offset == 0 {
			fronts = newPrefixes(forks)
		}
		for i := range fronts {
			fronts[i].add(o.name.Start(w.id.SegmentSize)+segment.LSN(offset), p)
		}
		step := min(int64(len(p)), left) // after a failed try they come again
		left -= step
		w.done.Add(step)
	})
	w.done.Add(left)
	if out.err == nil && out.wrong == "" {
		w.keep(o, fronts)
	}
	return out
}

// checkFirst says why p cannot be the beginning of a segment, or "".
func (w *worker) checkFirst(p []byte, n segment.Name, h segment.History) string {
	err := segment.CheckFirstPage(p, n, w.id.Segment())
	var corrupt *segment.CorruptError
	if errors.As(err, &corrupt) {
		return corrupt.Reason
	}
	if err != nil {
		return err.Error()
	}
	page, err := segment.ParsePageHeader(p)
	if err != nil {
		return err.Error()
	}
	if n.Timeline > 1 && len(h.Entries) == 0 {
		return "" // nothing is known of its ancestors
	}
	if want := h.TimelineAt(page.Addr); page.Timeline != want {
		return fmt.Sprintf("the first page is of timeline %d, but the history has %d here", uint32(page.Timeline), uint32(want))
	}
	return ""
}

// segment verifies a complete segment.
func (w *worker) segment(ctx context.Context, n segment.Name, h segment.History, f *follower) {
	o := w.segmentObject(n)
	out := w.read(ctx, o, h, f)
	if w.failed(ctx, o, out) {
		w.repeat(w.survey, n, nil)
		return
	}
	w.counted(&w.report.Segments, n)
	if out.wrong != "" {
		f = nil
	}
	if f != nil {
		w.told(o, f)
	}
	known, ok := w.survey.digests[n]
	if ok && known != out.digest && out.wrong == "" && (f == nil || f.tally.clean()) {
		w.found(w.at(KindDamaged, o, fmt.Sprintf("it holds a segment with SHA-256 %s, but the index has %s for it: one of them was replaced", out.digest, known),
			w.adviceDamaged(n)))
	}
	w.repeat(w.survey, n, f)
}

// clean tells whether nothing was found wrong in a segment.
func (t *tally) clean() bool { return len(t.faults) == 0 && len(t.dark) == 0 && t.fork == "" }

// failed reports what became of the reading of an object. It tells whether the
// object could not be read.
func (w *worker) failed(ctx context.Context, o object, out outcome) bool {
	var damaged *archive.DamagedError
	switch err := out.err; {
	case err == nil && out.wrong != "":
		w.found(w.at(KindMisplaced, o, out.wrong, w.adviceDamaged(o.name)))
		return false
	case err == nil:
		return false
	case ctx.Err() != nil:
	case errors.Is(err, errStore):
		w.skipped.Add(1)
	case errors.As(err, &damaged):
		f := w.at(KindDamaged, o, damaged.Reason, w.adviceDamaged(o.name))
		f.Object = damaged.Key
		w.found(f)
	case errors.Is(err, archive.ErrEncrypted):
		if err := w.encrypted(ctx, o); err != nil {
			w.failed(ctx, o, outcome{err: err})
		}
	case errors.Is(err, fs.ErrNotExist):
		w.vanished(o)
	default:
		w.unread(w.at(KindUnreadable, o, err.Error(), adviceStore))
	}
	return true
}

// told reports what a follower noted of a segment.
func (w *worker) told(o object, f *follower) {
	t := &f.tally
	w.count(func(r *Report) { r.Records += t.records; r.Unchecked += t.unchecked })
	for _, fault := range t.faults {
		w.found(w.fault(o, fault))
	}
	if t.more > 0 {
		w.found(w.at(KindRecord, o, fmt.Sprintf("%d more places of it are damaged", t.more), w.adviceDamaged(o.name)))
	}
	for _, p := range t.dark {
		d := w.at(KindUnchecked, o, "records could not be checked, and nothing explains why", w.adviceDamaged(o.name))
		d.LSN, d.End = p.from, p.to
		w.found(d)
	}
	if t.fork != "" {
		w.found(w.forged(o.name.Timeline, t.forkAt, t.fork))
	}
}

// fault is the finding of a damaged page or record.
func (w *worker) fault(o object, fault segment.Fault) Finding {
	f := w.at(KindRecord, o, fault.Reason, "")
	f.LSN = fault.LSN
	if fault.LSN < o.name.Start(w.id.SegmentSize) {
		f.Message += "; it began before this segment, and the damage can be anywhere from there on"
	}
	f.Advice = fmt.Sprintf("compare the segment with the server's or another copy; recovery past %s on timeline %d is not possible until then",
		fault.End, uint32(o.name.Timeline))
	return f
}

// partial verifies the unfinished last segment of a timeline: up to where the
// next timeline begins it has to be sound, and it can end anywhere behind that.
func (w *worker) partial(ctx context.Context, p archive.Partial, h segment.History, f *follower) {
	o := w.partialObject(p)
	out := w.read(ctx, o, h, f)
	if w.failed(ctx, o, out) {
		return
	}
	w.counted(&w.report.Partials, p.Name)
	if f == nil || out.wrong != "" {
		return
	}
	w.count(func(r *Report) { r.Records += f.tally.records })
	end, reason := f.end(p.Name)
	fork := w.forkIn(p.Name)
	if f.tally.fork != "" {
		w.found(w.forged(p.Name.Timeline, f.tally.forkAt, f.tally.fork))
	}
	if end < fork {
		d := w.at(KindPartial, o, fmt.Sprintf("it ends at %s, before the fork at %s: %s", end, fork, reason),
			"another copy may be longer; without it a recovery on this timeline ends there")
		d.LSN, d.End = end, fork
		w.found(d)
	}
}

// end is where the log in a segment that was just read ends, and why.
func (f *follower) end(n segment.Name) (end segment.LSN, reason string) {
	if len(f.tally.faults) > 0 {
		first := f.tally.faults[0]
		return min(first.LSN, first.End), first.Reason
	}
	return max(n.Start(f.size), f.reader.End()), "the rest of a record is missing"
}

// forkIn is the first fork in a segment from its timeline, 0 if there is none.
func (w *worker) forkIn(n segment.Name) segment.LSN {
	var first segment.LSN
	for _, b := range w.survey.chain.Branches {
		inside := w.id.SegmentSize.Number(b.Fork) == n.Number
		if b.Parent == n.Timeline && inside && (first == 0 || b.Fork < first) {
			first = b.Fork
		}
	}
	return first
}
