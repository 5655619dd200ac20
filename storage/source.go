package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// BytesSource returns a Source that yields data. The bytes are not copied: they
// must not change while a Put uses the source.
func BytesSource(data []byte) Source { return bytesSource(data) }

type bytesSource []byte

func (b bytesSource) Open() (io.ReadSeekCloser, error) {
	return bytesReader{bytes.NewReader(b)}, nil
}

func (b bytesSource) Size() int64 { return int64(len(b)) }

type bytesReader struct{ *bytes.Reader }

func (bytesReader) Close() error { return nil }

// Unknown says what failed and why, in an error that wraps err, except where
// that would make it look like the answer of a Store about an object: an err
// that is fs.ErrNotExist or fs.ErrExist survives as text only. Stores use it
// for everything that is not the object itself, a vanished local source file
// for instance.
func Unknown(what string, err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s: %s", what, err.Error())
	}
	return fmt.Errorf("%s: %w", what, err)
}

// copyBuffer is the most that Copy holds in memory, in bytes.
const copyBuffer = 256 << 10

// Copy writes the content of src to w, for a Store whose Put has nothing better
// to offer. It fails when src yields fewer or more bytes than its Size, or when
// ctx ends, and then may have written a part. Errors are those of w, which are
// returned as they are, of ctx, and of src, which never look like an answer of
// a Store.
func Copy(ctx context.Context, w io.Writer, src Source) error {
	size := src.Size()
	r, err := src.Open()
	if err != nil {
		return Unknown("open the source", err)
	}
	defer r.Close() // nothing was written through it
	// One byte more than is due, so that the end shows with the last bytes.
	buf := make([]byte, max(1, min(size+1, copyBuffer)))
	for done := int64(0); ; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, readErr := r.Read(buf)
		done += int64(n)
		if done > size {
			return fmt.Errorf("the source yields more than its %d bytes", size)
		}
		if _, err := w.Write(buf[:n]); err != nil {
			return err
		}
		switch {
		case readErr == io.EOF && done < size:
			return fmt.Errorf("the source ends after %d of its %d bytes", done, size)
		case readErr == io.EOF:
			return nil
		case readErr != nil:
			return Unknown("read the source", readErr)
		}
	}
}
