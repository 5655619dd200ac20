package archive

import (
	"errors"
	"fmt"

	"github.com/walrecv/walrecv/segment"
)

// ErrEncrypted says that an object is there, but that it is encrypted, and that no
// identity was given, or none that fits. It is not absent.
var ErrEncrypted = errors.New("the object is encrypted")

// ErrCannotDelete says that the store has no way to delete anything.
var ErrCannotDelete = errors.New("the store does not delete")

// DamagedError says that an object is there but is not what was put: cut short,
// altered, or in a place where it does not belong.
type DamagedError struct {
	Key    string
	Reason string
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("archived object %s is damaged: %s", e.Key, e.Reason)
}

// ConflictError says that a key is taken by an object with another content. The
// object in the archive was left alone.
type ConflictError struct {
	Key          string
	Ours, Theirs Digest // of the plain content
	OtherKey     bool   // the digests are under different keys, so that nobody knows
	Clear        bool   // with OtherKey: ours would stand there in the clear
}

func (e *ConflictError) Error() string {
	switch {
	case e.OtherKey && e.Clear:
		return fmt.Sprintf("the archive already holds %s, encrypted and with a digest under a key, so that it cannot be compared, and it is not put there in the clear: give --encrypt-to and --digest-key as they were when this was archived",
			e.Key)
	case e.OtherKey:
		return fmt.Sprintf("the archive already holds %s, with a digest under another digest key, so that it cannot be compared: give --digest-key as it was when this was archived; or, if no other server or archiver writes there, move the file out of the spool",
			e.Key)
	}
	return fmt.Sprintf("the archive already holds %s with another content (digest %s, ours %s): another server or archiver writes there",
		e.Key, e.Theirs, e.Ours)
}

// WrongClusterError says that an archive belongs to another cluster than the one
// that is to be archived. It wraps [segment.ErrWrongCluster].
type WrongClusterError struct {
	Archive, Cluster Identity
}

func (e *WrongClusterError) Error() string {
	return fmt.Sprintf("the archive belongs to the cluster %s, not to %s", e.Archive, e.Cluster)
}

// Unwrap returns segment.ErrWrongCluster.
func (e *WrongClusterError) Unwrap() error { return segment.ErrWrongCluster }

// FormatError says that an archive was written by a version of walrecv that this
// one does not know how to read.
type FormatError struct {
	Key    string
	Format int
}

func (e *FormatError) Error() string {
	return fmt.Sprintf("%s: archive format %d is unknown to this version, which knows %d", e.Key, e.Format, formatNumber)
}
