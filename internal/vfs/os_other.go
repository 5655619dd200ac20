//go:build !linux

package vfs

import "os"

// allocate extends f, which ends at from, to size bytes with blocks behind
// them, by writing zeros: the portable calls may leave holes.
func allocate(f *os.File, from, size int64) error {
	return fillZeros(f, from, size)
}

// Sync is F_FULLFSYNC on darwin: see [os.File.Sync].
func (f *osFile) Sync() error { return f.File.Sync() }

// Writeback is left to Sync: the portable calls do not know it.
func (f *osFile) Writeback(_, _ int64) error { return nil }

// DropCache makes the next reads of a file come from the disk and not from memory,
// where the system can do that and the file is durable. It is a wish.
func DropCache(*os.File) {}
