package verify

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/segment"
)

// maxRelists is how often the chunks of a segment are listed, because they change
// while they are read or do not hang together.
const maxRelists = 4

// tail verifies what there is of a segment in chunks: each is what was put, they are
// equal where they overlap and without a hole, and they are the beginning of the
// segment. A writer replaces them meanwhile, or completes the segment.
func (w *worker) tail(ctx context.Context, n segment.Name, h segment.History, f *follower) {
	chunks, lastEnd := w.survey.listing.Chunks(n), int64(-1)
	defer w.done.Add(tailBytes(chunks))
	for try := 1; ; try++ {
		t := w.readTail(ctx, chunks)
		end := t.end()
		settled := !t.gone && (end == t.furthest || end == lastEnd)
		if settled || try == maxRelists || ctx.Err() != nil {
			w.judgeTail(ctx, n, t, h, f)
			return
		}
		lastEnd = end
		if !t.gone && w.options.Pause(ctx) != nil { // what is in flight closes the hole
			return
		}
		err := w.retry(ctx, func(ctx context.Context, _ func()) (err error) {
			chunks, err = w.archive.Chunks(ctx, n)
			return err
		})
		if err != nil {
			w.unread(w.at(KindUnreadable, w.tailObject(n), err.Error(), adviceStore))
			return
		}
	}
}

// tailRead is what was read of the chunks of a segment.
type tailRead struct {
	data     []byte // from the segment's start on; what no chunk holds is zero
	chunks   []archive.Chunk
	unseen   []archive.Chunk // that are encrypted, and no identity fits
	furthest int64           // end of the one that reaches furthest
	gone     bool            // one of them was not there any more
	found    []Finding
	unread   []Finding
}

// readTail reads chunks and compares them.
func (w *worker) readTail(ctx context.Context, chunks []archive.Chunk) *tailRead {
	t := &tailRead{}
	chunks = slices.SortedFunc(slices.Values(chunks), func(a, b archive.Chunk) int {
		return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To))
	})
	for _, c := range chunks {
		t.furthest = max(t.furthest, c.To)
	}
	t.data = make([]byte, 0, t.furthest)
	for _, c := range chunks {
		o := w.chunkObject(c)
		data := make([]byte, 0, c.To-c.From)
		_, err := w.fetch(ctx, o, w.buf, func(offset int64, p []byte) {
			data = append(data[:offset], p...)
		})
		if errors.Is(err, archive.ErrEncrypted) {
			if clear := w.encrypted(ctx, o); clear != nil {
				err = clear
			}
		}
		var damaged *archive.DamagedError
		switch {
		case err == nil:
			t.add(w, o, c, data)
		case errors.Is(err, fs.ErrNotExist):
			t.gone = true
		case errors.As(err, &damaged):
			t.found = append(t.found, w.at(KindDamaged, o, damaged.Reason, adviceTail))
		case errors.Is(err, archive.ErrEncrypted):
			t.unseen = append(t.unseen, c)
		default:
			t.unread = append(t.unread, w.at(KindUnreadable, o, err.Error(), adviceStore))
		}
	}
	return t
}

const adviceTail = "a receiver that still has the segment archives it when it is complete; until then a recovery can lose what only this has"

// add takes a chunk that begins where the one before it does, or behind that.
func (t *tailRead) add(w *worker, o object, c archive.Chunk, data []byte) {
	end := int64(len(t.data))
	known := max(min(end, c.To)-c.From, 0)
	if !bytes.HasPrefix(t.data[min(c.From, end):], data[:known]) {
		f := w.at(KindTail, o, "it differs from another one where both have the same bytes: two servers have written the same timeline",
			"no recovery is given any of it; find out which server is the right one, and remove what the other one has archived")
		f.LSN += segment.LSN(c.From)
		t.found = append(t.found, f)
		return
	}
	if c.To > end {
		t.data = t.data[:c.To]
		copy(t.data[c.From+known:], data[known:])
	}
	t.chunks = append(t.chunks, c)
}

// end is up to where chunks are there without a hole.
func (t *tailRead) end() int64 {
	_, end := archive.Cover(slices.Concat(t.chunks, t.unseen), 0)
	return end
}

// judgeTail reports what chunks are.
func (w *worker) judgeTail(ctx context.Context, n segment.Name, t *tailRead, h segment.History, f *follower) {
	if ctx.Err() != nil || t.furthest == 0 {
		return // it was completed meanwhile
	}
	for _, d := range t.found {
		w.found(d)
	}
	for _, d := range t.unread {
		w.unread(d)
	}
	o := w.tailObject(n)
	end := t.end()
	if end < t.furthest && len(t.found)+len(t.unread) == 0 {
		d := w.at(KindTail, o, "bytes are missing here, but not behind it", "a recovery ends there; "+adviceTail)
		d.LSN += segment.LSN(end)
		w.found(d)
	}
	w.count(func(r *Report) {
		r.Chunks += len(t.chunks)
		r.Bytes += tailBytes(t.chunks)
		w.Verifier.read[n.Timeline] = true
	})
	if end < longHeader || len(t.unseen) > 0 {
		return
	}
	if wrong := w.checkFirst(t.data[:end], n, h); wrong != "" {
		w.found(w.at(KindMisplaced, o, wrong, adviceTail))
		return
	}
	if f != nil {
		f.begin(n, false)
		f.reader.Feed(n.Start(w.id.SegmentSize), t.data[:end])
		w.told(o, f)
	}
}

// tailBytes is how many bytes chunks have.
func tailBytes(chunks []archive.Chunk) (sum int64) {
	for _, c := range chunks {
		sum += c.To - c.From
	}
	return sum
}

// tailObject is where the chunks of a segment stand, for findings about them all.
func (v *Verifier) tailObject(n segment.Name) object {
	return object{key: v.systemDir() + "tail/" + n.Format(v.id.SegmentSize) + "/", name: n}
}

func (v *Verifier) chunkObject(c archive.Chunk) object {
	k := v.key(archive.KindTail, c.Name)
	k.From, k.To, k.Encrypted = c.From, c.To, c.Encrypted
	return object{
		key: k.Key(), at: k, size: c.To - c.From, name: c.Name,
		open: func(ctx context.Context) (io.ReadCloser, error) { return v.archive.OpenChunk(ctx, c) },
	}
}

// leftovers tells of chunks of complete segments.
func (v *Verifier) leftovers(s *survey) {
	left := s.strangers.chunks
	for _, t := range s.listing.Timelines() {
		for _, n := range s.listing.Tails(t) {
			left -= len(s.listing.Chunks(n))
		}
	}
	if left > 0 {
		v.notice(Finding{
			Kind: KindLeftover, Object: v.systemDir() + "tail/",
			Message: fmt.Sprintf("%s of complete segments were not deleted, and not read", pieces(left)),
			Advice:  "nobody needs them any more; they can be deleted",
		})
	}
}

func pieces(n int) string {
	if n == 1 {
		return "1 piece"
	}
	return fmt.Sprintf("%d pieces", n)
}
