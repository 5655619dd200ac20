// Package storage is the contract of an object store, as small as an archive of
// WAL needs it. Implementations are in the packages below this one; the
// conformance suite that each of them passes is in storagetest.
package storage

import (
	"context"
	"io"
	"time"
)

// Store keeps immutable objects under keys. A key is a slash-separated relative
// path of one or more non-empty elements, none of them "." or "..", of letters,
// digits and "._-+=" only; see [CheckKey]. No key may be a directory of another
// one (as "a" is of "a/b"): a file system cannot hold both. A Put that would
// make one so may fail.
//
// Errors steer control flow in two cases only: an error that wraps
// [fs.ErrNotExist] says that the object is proven to be absent, and one that
// wraps [fs.ErrExist] says that the key was taken. Every other error means that
// nothing is known: a Put may have taken effect or not.
//
// A Store is safe for concurrent use. Every call honours its context; one whose
// context has ended may leave work behind that goes on for a while, but never
// an object that is not whole.
type Store interface {
	// Put stores the object that src yields under a key that is not taken. On
	// nil the object is durable and whole, and every later Open, Stat and List
	// of any process sees it. A taken key is fs.ErrExist, also when the object
	// there came from an earlier try of this very Put: compare, then decide. On
	// fs.ErrExist the object that is there is durable, too, which an Open, a
	// Stat or a List that shows it does not promise: its writer may be dead
	// before it got that far. Of several racing Puts of one key exactly one
	// succeeds. Nobody ever sees a part of an object. src is not used any more
	// once Put has returned.
	Put(ctx context.Context, key string, src Source) error

	// Open reads an object. A reader that ends with io.EOF has yielded exactly
	// Info.Size bytes; one that is cut short fails with io.ErrUnexpectedEOF.
	// The caller closes the reader. It may also implement [io.ReaderAt]. The
	// context governs the reader, too: once it has ended, reads may fail.
	Open(ctx context.Context, key string) (io.ReadCloser, Info, error)

	// Stat tells about an object without reading it.
	Stat(ctx context.Context, key string) (Info, error)

	// List calls fn for every object whose key begins with prefix, in
	// lexical order of the keys. The prefix need not end at a slash. An error
	// of fn ends the listing and is returned as it is. A prefix with nothing
	// below it lists nothing, without an error, provided that the store itself
	// was there to answer.
	List(ctx context.Context, prefix string, fn func(Info) error) error
}

// Deleter is the optional ability of a Store to delete. Deleting what is absent
// is no error.
type Deleter interface {
	Delete(ctx context.Context, key string) error
}

// Info describes an object.
type Info struct {
	Key  string
	Size int64 // bytes, as stored

	// Modified is when the object was written, by the store's clock and in UTC. What
	// took long may have the time of its beginning or of its end. It is zero where it
	// is not known: a List tells it if the store knows it at all, an Open or a Stat
	// need not.
	Modified time.Time
}

// Source is the content of an object to be stored. It can be read again, from
// the start, so that a retry never sends half an object.
type Source interface {
	// Open returns a reader of the whole content. The caller closes it.
	Open() (io.ReadSeekCloser, error)

	// Size is the number of bytes that every reader yields.
	Size() int64
}
