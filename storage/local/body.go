package local

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/storage"
)

// body reads an object. ReadAt may be called concurrently, also beside Read.
type body struct {
	ctx  context.Context
	file vfs.File
	info storage.Info
	off  int64 // of the next Read
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadAt(p, b.off)
	b.off += int64(n)
	if n > 0 && err == io.EOF {
		err = nil // comes with the next call
	}
	return n, err
}

// ReadAt takes the object to be as long as it was when it was opened.
func (b *body) ReadAt(p []byte, off int64) (int, error) {
	if err := b.ctx.Err(); err != nil {
		return 0, fmt.Errorf("read %s: %w", b.info.Key, err)
	}
	if off < 0 {
		return 0, fmt.Errorf("read %s: negative offset %d", b.info.Key, off)
	}
	want := max(0, min(int64(len(p)), b.info.Size-off))
	n := 0
	if want > 0 {
		var err error
		n, err = b.file.ReadAt(p[:want], off)
		switch {
		case int64(n) == want: // an io.EOF that comes with all of it is none
		case errors.Is(err, io.EOF):
			return n, fmt.Errorf("read %s: shorter than its %d bytes: %w", b.info.Key, b.info.Size, io.ErrUnexpectedEOF)
		default:
			return n, storage.Unknown("read "+b.info.Key, err)
		}
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (b *body) Close() error { return b.file.Close() }
