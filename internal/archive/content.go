package archive

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"

	"github.com/walrecv/walrecv/segment"
)

// pageHeader is how much of a segment is looked at before it is archived.
const pageHeader = 40

// checked returns a reader of all of plain after a look at its first page.
func checked(plain io.ReadCloser, name segment.Name, id segment.Identity) (io.ReadCloser, error) {
	head := make([]byte, pageHeader)
	n, err := io.ReadFull(plain, head)
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = segment.CheckFirstPage(head[:n], name, id)
	}
	if err != nil {
		plain.Close() // the first error counts
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(head), plain), plain}, nil
}

// partialContent opens the content of the object of a partial.
func (a *Archive) partialContent(name segment.Name, open Opener) func() (content, error) {
	return func() (content, error) {
		plain, err := open()
		if err != nil {
			return content{}, err
		}
		plain, err = checked(plain, name, a.id.Segment())
		return content{ReadCloser: plain}, err
	}
}

// segmentContent opens the content of the object of a complete segment. Without
// a summary that is known it is read as WAL while it passes.
func (a *Archive) segmentContent(name segment.Name, open Opener, known *segment.Summary) func() (content, error) {
	plain := a.partialContent(name, open)
	return func() (content, error) {
		c, err := plain()
		if err != nil {
			return content{}, err
		}
		if known != nil {
			c.summary = func() (json.RawMessage, error) {
				return encodeSummary(*known, name, a.id.SegmentSize)
			}
			return c, nil
		}
		return a.surveyed(c, name, nil)
	}
}

// surveyed sums up a segment while its bytes pass. done, if not nil, is called when
// all of it was read.
func (a *Archive) surveyed(plain io.ReadCloser, name segment.Name, done func(*segment.Reader, segment.Summary)) (content, error) {
	sums := segment.NewSummarizer(nil)
	wal, err := segment.NewReader(segment.ReaderOptions{
		Identity: a.id.Segment(),
		Major:    a.id.Major,
		History:  segment.History{Timeline: name.Timeline},
	}, sums)
	if err != nil {
		plain.Close() // nothing was written through it
		return content{}, err
	}
	tee := io.TeeReader(plain, &feeder{wal: wal, at: name.Start(a.id.SegmentSize)})
	summary := func() (json.RawMessage, error) {
		s, ok := sums.Summary(wal)
		if !ok {
			return nil, nil
		}
		if done != nil {
			done(wal, s)
		}
		return encodeSummary(s, name, a.id.SegmentSize)
	}
	return content{fileReader{tee, plain}, summary}, nil
}

// feeder hands a reader of WAL what is written.
type feeder struct {
	wal *segment.Reader
	at  segment.LSN
}

func (f *feeder) Write(p []byte) (int, error) {
	f.wal.Feed(f.at, p)
	f.at += segment.LSN(len(p))
	return len(p), nil
}
