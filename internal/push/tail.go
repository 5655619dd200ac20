package push

import (
	"context"
	"io"

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
		return c.archive.CheckTail(ctx, chunks, func() (io.ReadCloser, error) {
			f, size, err := c.open()
			if err != nil {
				return nil, err
			}
			return struct {
				io.Reader
				io.Closer
			}{io.NewSectionReader(f, 0, size), f}, nil
		})
	})
}
