package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/walrecv/walrecv/storage"
)

// maxDocument bounds what is read of the small objects of base backups and drills,
// in bytes. A base backup of 100 TB has a list of its objects of 20 MB.
const maxDocument = 64 << 20

// maxTaken is how many seconds on end [PutUnder] finds taken before it gives up.
const maxTaken = 600

// TimeID is the ID of a base backup or a drill that began at a time.
func TimeID(at time.Time) string { return at.UTC().Format("20060102T150405Z") }

// PutUnder calls put with the ID of a time, and as long as that is taken, which put
// says with an error that wraps fs.ErrExist, with that of the next second. Two can
// begin at once.
func PutUnder(at time.Time, put func(id string) error) error {
	for n := 0; ; n++ {
		err := put(TimeID(at.Add(time.Duration(n) * time.Second)))
		if n == maxTaken || !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
}

// putDocument puts an object that is found equal after a Put whose answer was lost.
func (a *Archive) putDocument(ctx context.Context, o Object, content []byte) error {
	o.System = a.id.SystemID
	if !IsID(o.ID) {
		return fmt.Errorf("%q cannot be the ID of a backup or a drill", o.ID)
	}
	key := o.Key()
	err := a.store.Put(ctx, key, storage.BytesSource(content))
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	there, readErr := readLimited(ctx, a.store, key, maxDocument)
	switch {
	case readErr != nil:
		return unlessAbsent(key, readErr)
	case bytes.Equal(there, content):
		return nil
	}
	return err
}

func (a *Archive) document(ctx context.Context, o Object) ([]byte, error) {
	o.System = a.id.SystemID
	return readLimited(ctx, a.store, o.Key(), maxDocument)
}
