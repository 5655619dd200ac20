package storagetest

import (
	"context"
	"io"
)

// cutBody is a body that ends early.
type cutBody struct {
	io.ReadCloser
	ctx  context.Context
	cut  Cut
	left int64 // bytes that Read still gives
}

// cutBodyAt is a cutBody of a store whose bodies can be read anywhere.
type cutBodyAt struct {
	*cutBody
	inner io.ReaderAt
}

func newCutBody(ctx context.Context, body io.ReadCloser, cut Cut) io.ReadCloser {
	b := &cutBody{ReadCloser: body, ctx: ctx, cut: cut, left: cut.At}
	if at, ok := body.(io.ReaderAt); ok {
		return cutBodyAt{b, at}
	}
	return b
}

func (b *cutBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, b.end()
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

func (b cutBodyAt) ReadAt(p []byte, off int64) (int, error) {
	most := max(0, b.cut.At-off)
	if int64(len(p)) <= most {
		return b.inner.ReadAt(p, off)
	}
	n, err := b.inner.ReadAt(p[:most], off)
	if err == nil {
		err = b.end()
	}
	return n, err
}

// end is what comes where the body was cut.
func (b *cutBody) end() error {
	if b.cut.Hang {
		<-b.ctx.Done()
		return b.ctx.Err()
	}
	return b.cut.Err
}
