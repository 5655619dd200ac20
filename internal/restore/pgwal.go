package restore

import (
	"github.com/walrecv/walrecv/internal/pgdata"
	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/segment"
)

// hasCopy tells whether pg_wal holds a copy of the asked file that the server
// can read, so that it does not turn to an ancestor's when it is told 1.
func hasCopy(d *pgdata.Dir, r request, system uint64) bool {
	if r.history != 0 {
		data, err := vfs.ReadFile(d.FS, d.WAL(r.file))
		if err != nil {
			return false
		}
		_, err = pgdata.ParseHistory(r.history, data)
		return err == nil
	}
	f, err := d.FS.OpenRead(d.WAL(r.file))
	if err != nil {
		return false
	}
	defer f.Close()
	return soundSegment(f, r.file, system)
}

// soundSegment tells whether a file is a segment of full length with sound
// pages. How many there are does not matter: zeros and pages of an earlier use of
// the file may follow.
func soundSegment(f vfs.File, file string, system uint64) bool {
	length, err := f.Size()
	size := segment.Size(length)
	if err != nil || size.Valid() != nil {
		return false
	}
	n, err := segment.ParseName(file, size)
	if err != nil {
		return false
	}
	end, err := walEnd(f, n, segment.Identity{SystemID: system, Size: size})
	return err == nil && end > 0
}
