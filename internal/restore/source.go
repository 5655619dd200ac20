package restore

import (
	"context"
	"io"

	"github.com/walrecv/walrecv/segment"
)

// source is a place whose cluster is known. Every call honours its context. An
// error that wraps fs.ErrNotExist says that the file is proven to be absent.
type source interface {
	// segment opens a sealed segment. The context governs the stream, too.
	segment(ctx context.Context, n segment.Name) (*stream, error)

	// partials lists the begun copies of a segment.
	partials(ctx context.Context, n segment.Name) ([]partial, error)

	// history reads a history file. What it returns has been parsed.
	history(ctx context.Context, t segment.TimelineID) ([]byte, error)

	// first is the lowest number of a segment of which anything is there, on a
	// timeline. ok is false if nothing is.
	first(ctx context.Context, t segment.TimelineID) (number uint64, ok bool, err error)

	// holdings lists what there is, by name: from a segment on, on its timeline,
	// and of later ones. What is before need not be in it.
	holdings(ctx context.Context, from segment.Name) (holdings, error)
}

// prunedSource is a source from which WAL is removed on purpose.
type prunedSource interface {
	source

	// pruned is where the WAL of a timeline begins at the earliest; 0: nothing of it
	// was removed.
	pruned(ctx context.Context, t segment.TimelineID) (segment.LSN, error)
}

// partial is a copy of a segment that was begun, not open yet.
type partial struct {
	where string
	open  func(ctx context.Context) (*stream, error)
}

// stream is one copy of a segment, open. Its user closes the body.
type stream struct {
	where string        // for messages
	body  io.ReadCloser // the plain bytes, from the start

	// at reads the same bytes anywhere, length of them; nil if they come in
	// order only.
	at     io.ReaderAt
	length int64

	// memory tells, before the first byte is read, about how much of it the reading
	// takes; nil for what takes none to speak of, and for what is no sealed segment.
	memory func() int64

	// digest says that the end of body comes only if every byte was found to
	// be what was stored.
	digest bool

	// cut says that the body of a partial may end with io.ErrUnexpectedEOF
	// within a codec.CorruptError: it was compressed as it came.
	cut bool
}
