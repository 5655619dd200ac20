package archive

import (
	"fmt"
	"io"
)

// body is the raw content of an object on its way from the store. It knows how
// the reading ended.
type body struct {
	r    io.Reader
	read int64 // bytes that passed
	size int64 // bytes that the store says there are
	err  error // of the store: nil while all is well
}

func (b *body) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.r.Read(p)
	b.read += int64(n)
	switch {
	case err == io.EOF && b.read != b.size:
		// The store promised more. Perhaps it has more the next time.
		b.err = fmt.Errorf("%d bytes came of %d: %w", b.read, b.size, io.ErrUnexpectedEOF)
	case err == io.EOF:
		return n, io.EOF
	case err != nil:
		b.err = err
	}
	return n, b.err
}

// ending keeps the end of what passes, where the trailer is.
type ending struct {
	r    io.Reader
	last []byte // up to maxTrailer bytes
	done bool   // all has passed
}

func (e *ending) Read(p []byte) (int, error) {
	n, err := e.r.Read(p)
	e.keep(p[:n])
	e.done = err == io.EOF
	return n, err
}

func (e *ending) keep(p []byte) {
	if len(p) >= maxTrailer {
		e.last = append(e.last[:0], p[len(p)-maxTrailer:]...)
		return
	}
	if over := len(e.last) + len(p) - maxTrailer; over > 0 {
		e.last = append(e.last[:0], e.last[over:]...)
	}
	e.last = append(e.last, p...)
}
