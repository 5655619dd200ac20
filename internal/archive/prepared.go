package archive

import (
	"context"
	"io"

	"github.com/walrecv/walrecv/segment"
)

// Prepared is the object of a segment that was made and can be put, as often as it
// takes. It is for one goroutine at a time. Whoever has it calls Remove in the end.
type Prepared struct {
	a      *Archive
	place  Object
	object *prepared
	log    segment.LogEnd
	fault  string
}

// PrepareSegment reads a segment as WAL and makes its object. Errors are as with
// [Archive.PutSegment]. That it is complete is for the caller to decide: see
// [Prepared.Log].
func (a *Archive) PrepareSegment(ctx context.Context, scratch *Scratch, name segment.Name, open Opener) (*Prepared, error) {
	p := &Prepared{
		a: a, place: a.walObject(KindSegment, name),
		log: segment.LogEnd{LSN: name.Start(a.id.SegmentSize), Reason: "it was not read"},
	}
	plain := a.partialContent(name, open)
	object, err := a.prepare(ctx, scratch, name.Format(a.id.SegmentSize), func() (content, error) {
		c, err := plain()
		if err != nil {
			return content{}, err
		}
		return a.surveyed(c, name, func(wal *segment.Reader, s segment.Summary) { p.judge(name, wal, s) })
	})
	if err != nil {
		return nil, err
	}
	p.object = object
	return p, nil
}

// PreparePartial makes the object of a partial, of a segment's full length.
func (a *Archive) PreparePartial(ctx context.Context, scratch *Scratch, name segment.Name, open Opener) (*Prepared, error) {
	object, err := a.prepare(ctx, scratch, name.Format(a.id.SegmentSize)+suffixPartial, a.partialContent(name, open))
	if err != nil {
		return nil, err
	}
	return &Prepared{a: a, place: a.walObject(KindPartial, name), object: object}, nil
}

// judge keeps what reading the segment has shown.
func (p *Prepared) judge(name segment.Name, wal *segment.Reader, s segment.Summary) {
	p.log = segment.LogEnd{LSN: name.End(p.a.id.SegmentSize)}
	p.fault = ""
	if s.Faults > 0 {
		p.fault = s.FirstFault.Error()
	}
	if wal.Lost() {
		p.log = segment.LogEnd{LSN: max(s.Start, wal.End()), Reason: p.fault}
	}
}

// Log says where the log in the segment ends. Its Reason is "" if it goes on to the
// end of the segment, where a record may go on into the next one, or to a switch
// with nothing behind it.
func (p *Prepared) Log() segment.LogEnd { return p.log }

// Fault is the first thing that is wrong with a segment whose log goes on behind
// it; "" if all is sound.
func (p *Prepared) Fault() string { return p.fault }

// Digest is that of the plain bytes.
func (p *Prepared) Digest() Digest { return p.object.trailer.Digest }

// Put puts the object once. nil and errors are as with [Archive.PutSegment] and
// [Archive.PutPartial].
func (p *Prepared) Put(ctx context.Context) error {
	_, err := p.a.putUnless(ctx, p.place, p.object, p.a.hasOther)
	return err
}

// Remove gives up what the object takes on this host.
func (p *Prepared) Remove() { p.object.remove() }

// WithZeros opens a file that is shorter than a segment, filled up with zeros to a
// segment's length: what the spool makes of a partial that a crash left short.
func WithZeros(r io.ReaderAt, c io.Closer, length int64, size segment.Size) io.ReadCloser {
	content := io.NewSectionReader(r, 0, length)
	return fileReader{io.MultiReader(content, io.LimitReader(zeros{}, int64(size)-length)), c}
}
