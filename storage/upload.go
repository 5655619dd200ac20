package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// Creator is the optional ability of a Store to take an object whose size is not
// known when it begins. Nothing of it is kept on this host's disk, except in a store
// that is there itself. Use [Create], which works with every Store that a decorator
// of this package has been put on.
type Creator interface {
	// Create begins an object. The context governs all that follows. fs.ErrExist
	// here means what it means in a Put; a key that is free now may be taken when
	// the Upload comes to its end.
	Create(ctx context.Context, key string) (Upload, error)
}

// Upload is an object that is being written. Nobody sees anything of it before
// Commit. It is used by one goroutine at a time, and ends with a Commit that returns
// nil, or with Abort: one that is dropped leaves behind what takes room until
// somebody sweeps it up.
type Upload interface {
	// Write takes the next bytes; p is the caller's again when it returns. An error
	// is final, and may be that of an earlier Write: what remains is Abort. It can be
	// fs.ErrExist, as that of a Create.
	io.Writer

	// Commit makes the object whole and durable under its key. What it returns means
	// what it means for a Put, except that a key which was found taken by this very
	// object, after an answer that was lost, is no error. An error is final.
	Commit() error

	// Abort throws away what was written. It takes at most some seconds, also when
	// the context has ended. After a Commit that returned nil, or another Abort, it
	// does nothing. An error says that something may be left, never under the key.
	Abort() error
}

// errUploadOver is the answer to a call after Commit or Abort.
var errUploadOver = errors.New("the upload is over")

// Create begins an object in a Store that is a [Creator]. Another one is
// errors.ErrUnsupported.
func Create(ctx context.Context, s Store, key string) (Upload, error) {
	c, ok := s.(Creator)
	if !ok {
		return nil, fmt.Errorf("create %s: the store takes no objects of unknown size: %w", key, errors.ErrUnsupported)
	}
	return c.Create(ctx, key)
}
