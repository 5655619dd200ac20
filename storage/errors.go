package storage

import "errors"

// What a Store's errors wrap besides fs.ErrNotExist and fs.ErrExist, so that
// nobody needs to know which Store it is. fs.ErrPermission says that the store
// refuses the request of whoever makes it: nothing is known of the object.
var (
	// ErrNoRoot says that the directory or the bucket of the store is not there.
	// That is not fs.ErrNotExist: with a disk that is not mounted nothing is
	// known about any object.
	ErrNoRoot = errors.New("the archive directory is missing")

	// ErrUnsafe says that the store does not keep the promise of [Store] that a
	// key that is taken stays as it is.
	ErrUnsafe = errors.New("the store does not support conditional writes, which keep two writers from overwriting each other")

	// ErrSetup says that what answers is not the store that was meant: another
	// region, or no store at all. Another try hardly helps.
	ErrSetup = errors.New("this is not the configured store")
)
