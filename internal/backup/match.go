package backup

import (
	"fmt"

	"github.com/walrecv/walrecv/internal/archive"
)

// lacks says which objects of a backup a listing does not have as they were put.
func (o *objects) lacks(a *archive.Archive, b *Backup) (lacks []string) {
	for _, want := range b.Objects {
		size, ok := o.sizes[want.File]
		switch {
		case !ok:
			lacks = append(lacks, fmt.Sprintf("%s was put, and is not in the archive", a.BackupKey(b.ID, want.File)))
		case size != want.Size:
			lacks = append(lacks, fmt.Sprintf("%s has %d bytes in the archive, %d were put", a.BackupKey(b.ID, want.File), size, want.Size))
		}
	}
	return lacks
}
