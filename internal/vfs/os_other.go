//go:build !linux

package vfs

import "os"

// allocate extends f, which ends at from, to size bytes with blocks behind
// them, by writing zeros: the portable calls may leave holes.
func allocate(f *os.File, from, size int64) error {
	return fillZeros(f, from, size)
}
