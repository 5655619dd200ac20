package vfs

import (
	"io/fs"
	"slices"
)

const (
	// pageSize is the size of a block, in bytes: what space is counted in, and
	// what clones share.
	pageSize = 4096
	// sectorSize is what a disk writes as a whole or not at all, in bytes.
	sectorSize = 512
)

// inode is a file or a directory, whatever its names. All of it is guarded by
// the mutex of its Mem.
type inode struct {
	perm   fs.FileMode
	number uint64 // of a file; a clone has the same

	// A directory. durable is what SyncDir has made of its entries.
	entries, durable map[string]*inode
	lock             *memLock

	// A file. cur is what a reader sees. disk is what is safe. clean is what
	// the kernel believes to be safe, the same as disk unless a sync has failed.
	cur, disk, clean image
	owner            *owner
	links, opens     int
}

// owner marks the pages that only one inode's cur has, and which may be changed
// in place. It has a size, so that no two of them share an address.
type owner struct{ _ byte }

// page is one block. It never changes unless its owner is that of an inode.
type page struct {
	data  [pageSize]byte
	owner *owner
}

// zeroPage stands for every block that was reserved and not yet written.
var zeroPage = &page{}

func newFile(perm fs.FileMode, number uint64) *inode {
	return &inode{perm: perm, number: number, owner: new(owner)}
}

func newDir(perm fs.FileMode) *inode {
	return &inode{perm: perm, entries: map[string]*inode{}, durable: map[string]*inode{}}
}

func (ino *inode) isDir() bool { return ino.entries != nil }

// lookup returns the entry of a name, nil if there is none; the empty name is
// the directory itself.
func (ino *inode) lookup(base string) *inode {
	if base == "" {
		return ino
	}
	return ino.entries[base]
}

// freeze makes every page immutable: the next write to it makes a copy.
func (ino *inode) freeze() { ino.owner = new(owner) }

// write puts p at off and returns how many bytes of it found room. take is
// asked for each block that the file does not have yet.
func (ino *inode) write(p []byte, off int64, take func(blocks int64) bool) int {
	n := 0
	for n < len(p) {
		i, at := int((off+int64(n))/pageSize), (off+int64(n))%pageSize
		ino.cur.grow(i + 1)
		old := ino.cur.pages[i]
		if old == nil && !take(1) {
			break
		}
		if old == nil || old.owner != ino.owner {
			ino.cur.pages[i] = old.copyFor(ino.owner)
		}
		n += copy(ino.cur.pages[i].data[at:], p[n:])
	}
	if n > 0 {
		ino.cur.size = max(ino.cur.size, off+int64(n))
	}
	return n
}

// extend makes the file size bytes long, with blocks behind the new bytes. It
// does nothing and returns false if the blocks do not fit.
func (ino *inode) extend(size int64, take func(blocks int64) bool) bool {
	from, to := int(ino.cur.size/pageSize), pagesOf(size)
	need := int64(0)
	for i := from; i < to; i++ {
		if ino.cur.page(i) == nil {
			need++
		}
	}
	if !take(need) {
		return false
	}
	ino.cur.grow(to)
	for i := from; i < to; i++ {
		if ino.cur.pages[i] == nil {
			ino.cur.pages[i] = zeroPage
		}
	}
	ino.cur.size = size
	return true
}

// sync makes the length and all pages safe that the kernel does not believe to
// be safe already.
func (ino *inode) sync() {
	disk := ino.cur.clone()
	for i := range disk.pages {
		if disk.pages[i] == ino.clean.page(i) {
			disk.pages[i] = ino.disk.page(i)
		}
	}
	ino.disk = disk
	ino.loseUnsynced()
}

// loseUnsynced is what a failed fsync(2) does on Linux: the pages count as
// clean, and no later sync writes them.
func (ino *inode) loseUnsynced() {
	ino.clean = ino.cur.clone()
	ino.freeze()
}

// image is the content of a file. A page that is nil is a hole. Bytes of the
// last page beyond size are zero.
type image struct {
	pages []*page
	size  int64
}

func pagesOf(size int64) int { return int((size + pageSize - 1) / pageSize) }

func (im *image) clone() image { return image{pages: slices.Clone(im.pages), size: im.size} }

func (im *image) page(i int) *page {
	if i < len(im.pages) {
		return im.pages[i]
	}
	return nil
}

// grow makes room for n pages.
func (im *image) grow(n int) {
	if n > len(im.pages) {
		im.pages = append(im.pages, make([]*page, n-len(im.pages))...)
	}
}

func (im *image) blocks() int64 {
	n := int64(0)
	for _, p := range im.pages {
		if p != nil {
			n++
		}
	}
	return n
}

// read copies the bytes from off on into p, up to the end of the file, and
// returns how many they are.
func (im *image) read(p []byte, off int64) int {
	if off >= im.size {
		return 0
	}
	p = p[:min(int64(len(p)), im.size-off)]
	for n := 0; n < len(p); {
		i, at := int((off+int64(n))/pageSize), (off+int64(n))%pageSize
		n += copy(p[n:], im.page(i).bytes()[at:])
	}
	return len(p)
}

// bytes returns the content of a page, zeros for a hole. It is not to be changed.
func (p *page) bytes() []byte {
	if p == nil {
		p = zeroPage
	}
	return p.data[:]
}

// copyFor returns a copy of a page, or of a hole, that o may change.
func (p *page) copyFor(o *owner) *page {
	c := &page{owner: o}
	copy(c.data[:], p.bytes())
	return c
}
