//go:build !linux

package vfs

import "os"

// allocate extends f, which ends at from, to size bytes with blocks behind
// them, by writing zeros: the portable calls may leave holes.
func allocate(f *os.File, from, size int64) error {
	return fillZeros(f, from, size)
}

// DropCache makes the next reads of a file come from the disk and not from memory,
// where the system can do that and the file is durable. It is a wish.
func DropCache(*os.File) {}
