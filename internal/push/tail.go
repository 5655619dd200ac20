package push

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/segment"
)

// checkTail compares the file with what a receiver has archived of its segment so
// far. A complete segment takes the tail's place, and what is in the tail may have
// been acknowledged to a server: it must not be replaced by something else. What
// cannot be read says nothing.
func (c *call) checkTail(ctx context.Context, name segment.Name) error {
	return c.try(ctx, func(ctx context.Context) error {
		chunks, err := c.archive.Chunks(ctx, name)
		if err != nil {
			return err
		}
		needed, _ := archive.Cover(chunks, 0)
		for _, chunk := range needed {
			same, err := c.hasChunk(ctx, chunk)
			var damaged *archive.DamagedError
			switch {
			case errors.Is(err, fs.ErrNotExist), errors.Is(err, archive.ErrEncrypted), errors.As(err, &damaged):
			case err != nil:
				return err
			case !same:
				return fmt.Errorf("the archive has %s with another content: another server writes there: %w", chunk, segment.ErrBranch)
			}
		}
		return nil
	})
}

// hasChunk tells whether a chunk has the bytes that the file has in its place.
func (c *call) hasChunk(ctx context.Context, chunk archive.Chunk) (bool, error) {
	f, _, err := c.open()
	if err != nil {
		return false, &final{err}
	}
	defer f.Close()
	return c.archive.SameChunk(ctx, chunk, io.NewSectionReader(f, chunk.From, chunk.To-chunk.From))
}
