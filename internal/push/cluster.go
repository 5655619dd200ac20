package push

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/segment"
)

// cluster is what is known of the cluster that a file is of. Zero is not known.
type cluster struct {
	system uint64
	size   segment.Size
	major  int
}

// learnCluster finds out which cluster the file is of: the data directory's, and
// what the file itself says must agree.
func (c *call) learnCluster() (err error) {
	if c.cluster.system, err = c.dir.SystemID(); err != nil {
		return err
	}
	if c.cluster.major, err = c.dir.Major(); err != nil {
		return err
	}
	if c.file.kind == sealed || c.file.kind == partial {
		return c.learnFromFile()
	}
	if c.cluster.system == 0 {
		c.learnFromNeighbours()
	}
	if c.cluster.system == 0 {
		return fmt.Errorf("nothing says which cluster %s is of: it is not in pg_wal of a data directory, and no segment is beside it", c.path)
	}
	return nil
}

// learnFromFile takes what the first page of a segment says. One that says nothing
// is for those to judge who look at the content.
func (c *call) learnFromFile() error {
	h, err := c.firstPage(c.path)
	if err != nil {
		return err
	}
	switch system := h.SystemID; {
	case c.cluster.system == 0 && system == 0:
		return fmt.Errorf("nothing says which cluster %s is of: it does not begin with a page of WAL, and is not in pg_wal of a data directory", c.path)
	case c.cluster.system != 0 && system != 0 && system != c.cluster.system:
		return fmt.Errorf("%s is of the cluster with system identifier %d, the data directory %s of %d: %w",
			c.file.base, system, c.dir.Path, c.cluster.system, segment.ErrWrongCluster)
	}
	c.cluster.take(h)
	return nil
}

// learnFromNeighbours takes what a segment in the directory of the file says. A file
// that was recycled says it, too.
func (c *call) learnFromNeighbours() {
	dir := filepath.Dir(c.path)
	entries, err := c.o.FS.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if e.Dir || !segment.IsSegmentName(e.Name) {
			continue
		}
		h, err := c.firstPage(filepath.Join(dir, e.Name))
		if err == nil && h.SystemID != 0 && (c.cluster.system == 0 || h.SystemID == c.cluster.system) {
			c.cluster.take(h)
			return
		}
	}
}

// firstPage reads the header of the first page of a segment. It is zero if there is
// none that can be one.
func (c *call) firstPage(path string) (segment.PageHeader, error) {
	const longest = 40
	f, err := c.o.FS.OpenRead(path)
	if err != nil {
		return segment.PageHeader{}, err
	}
	defer f.Close()
	var head [longest]byte
	if n, err := f.ReadAt(head[:], 0); n < len(head) {
		if size, sizeErr := f.Size(); sizeErr == nil && size < longest {
			return segment.PageHeader{}, nil
		}
		return segment.PageHeader{}, fmt.Errorf("read %s: %w", path, err)
	}
	h, err := segment.ParsePageHeader(head[:])
	if err != nil || !h.Long || segment.Size(h.SegmentSize).Valid() != nil {
		return segment.PageHeader{}, nil
	}
	return h, nil
}

// take takes from a page what is not known yet.
func (k *cluster) take(h segment.PageHeader) {
	if h.SystemID == 0 {
		return
	}
	k.system, k.size = h.SystemID, segment.Size(h.SegmentSize)
	if major, known := segment.MajorOfMagic(h.Magic); known && k.major == 0 {
		k.major = major
	}
}

// check compares what is known with the identity of an archive.
func (k cluster) check(id archive.Identity) error {
	ours := archive.Identity{SystemID: k.system, SegmentSize: k.size, Major: k.major}
	if k.size == 0 {
		ours.SegmentSize = id.SegmentSize
	}
	if k.major == 0 {
		ours.Major = id.Major
	}
	if ours != id {
		return &archive.WrongClusterError{Archive: id, Cluster: ours}
	}
	return nil
}

// identity is all that an archive that is made has to know.
func (c *call) identity() (archive.Identity, error) {
	if c.cluster.size == 0 {
		c.learnFromNeighbours()
	}
	k := c.cluster
	switch {
	case k.size == 0:
		return archive.Identity{}, errors.New("nothing says how long the cluster's segments are: no segment is beside the file")
	case k.major == 0:
		return archive.Identity{}, errors.New("nothing says of which version of PostgreSQL the cluster is: there is no PG_VERSION")
	}
	return archive.Identity{SystemID: k.system, SegmentSize: k.size, Major: k.major}, nil
}
