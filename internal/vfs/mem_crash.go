package vfs

import (
	"bytes"
	"maps"
	"math/rand/v2"
	"slices"
)

// CrashClone returns the disk as it may be found after a power loss at this
// moment: everything that was synced, and a random share of the rest. A nil rng
// gives exactly what was synced. The same rng state after the same operations
// gives the same disk. The Mem and its clone are independent from then on.
//
// What survives of the rest:
//   - Of the bytes of a file each 512-byte sector by itself, so that a sector
//     is the old or the new one; sectors that were never there are zeros.
//   - The length of a file is the old one, the new one, or one between.
//   - Of the entry operations of a directory the first ones, any number, in
//     their order. So a name may stand for a file whose bytes were never synced,
//     and a file in a directory is lost with the entry of the directory.
//
// Open files and locks do not survive.
func (m *Mem) CrashClone(rng *rand.Rand) *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := crash{rng: rng, kept: m.kept(rng), copies: map[*inode]*inode{}}
	clone := &Mem{root: c.copy(m.root), capacity: m.capacity, made: m.made}
	clone.recount(clone.root)
	return clone
}

// KillClone returns the disk as the next process finds it after the end of this
// one, by kill -9 for instance: everything that was written is there, and is no
// more durable than it was; locks and open files are gone. The Mem and its clone
// are independent from then on.
func (m *Mem) KillClone() *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	copies := map[*inode]*inode{}
	clone := &Mem{root: m.root.copyAll(copies), capacity: m.capacity, made: m.made}
	for _, op := range m.log {
		cloned := make(dirOp, len(op))
		for i, c := range op {
			cloned[i] = change{c.dir.copyAll(copies), c.name, c.to.copyAll(copies)}
		}
		clone.log = append(clone.log, cloned)
	}
	clone.recount(clone.root)
	return clone
}

// recount finds the links and the used blocks of a clone from its live entries.
func (m *Mem) recount(dir *inode) {
	for _, ino := range dir.entries {
		ino.links++
		if ino.links > 1 {
			continue
		}
		m.used += ino.cur.blocks() * pageSize
		m.recount(ino)
	}
}

// dirOp is an entry operation: changes that are atomic together, in one
// directory, or in two by a rename.
type dirOp []change

// change lets name in dir stand for to, or for nothing if to is nil.
type change struct {
	dir  *inode
	name string
	to   *inode
}

func (c change) apply(entries map[string]*inode) {
	if c.to == nil {
		delete(entries, c.name)
		return
	}
	entries[c.name] = c.to
}

// dirs returns the directories of an operation, each once.
func (op dirOp) dirs() []*inode {
	dirs := []*inode{op[0].dir}
	if last := op[len(op)-1].dir; last != dirs[0] {
		dirs = append(dirs, last)
	}
	return dirs
}

// syncEntries makes the entries of dir durable, and with a rename out of or
// into another directory what happened there before it: operations of a
// directory never overtake each other.
func (m *Mem) syncEntries(dir *inode) {
	need := map[*inode]bool{dir: true}
	var flush, rest []dirOp
	for _, op := range slices.Backward(m.log) {
		dirs := op.dirs()
		if !slices.ContainsFunc(dirs, func(d *inode) bool { return need[d] }) {
			rest = append(rest, op)
			continue
		}
		for _, d := range dirs {
			need[d] = true
		}
		flush = append(flush, op)
	}
	for _, op := range slices.Backward(flush) {
		for _, c := range op {
			c.apply(c.dir.durable)
		}
	}
	slices.Reverse(rest)
	m.log = rest
}

// kept draws how many of its pending operations each directory keeps, and
// returns their changes by directory. A rename between two directories is kept
// only if both keep it.
func (m *Mem) kept(rng *rand.Rand) map[*inode][]change {
	if rng == nil {
		return nil
	}
	pending := map[*inode]int{}
	for _, op := range m.log {
		for _, d := range op.dirs() {
			pending[d]++
		}
	}
	left := map[*inode]int{}
	kept := map[*inode][]change{}
	for _, op := range m.log {
		keep := true
		for _, d := range op.dirs() {
			if _, drawn := left[d]; !drawn {
				left[d] = rng.IntN(pending[d] + 1)
			}
			keep = keep && left[d] > 0
		}
		for _, d := range op.dirs() {
			if keep {
				left[d]--
			} else {
				left[d] = 0
			}
		}
		if keep {
			for _, c := range op {
				kept[c.dir] = append(kept[c.dir], c)
			}
		}
	}
	return kept
}

// crash makes the copies of one crash clone.
type crash struct {
	rng    *rand.Rand
	kept   map[*inode][]change
	copies map[*inode]*inode
}

// copy returns what the crash leaves of ino, once for all names of a file.
func (c *crash) copy(ino *inode) *inode {
	if done := c.copies[ino]; done != nil {
		return done
	}
	if !ino.isDir() {
		left := newFile(ino.perm, ino.number)
		left.disk = ino.disk
		if c.rng != nil {
			left.disk = tear(ino.disk, ino.cur, c.rng)
		}
		left.cur, left.clean = left.disk.clone(), left.disk
		c.copies[ino] = left
		return left
	}
	left := newDir(ino.perm)
	c.copies[ino] = left
	entries := maps.Clone(ino.durable)
	for _, change := range c.kept[ino] {
		change.apply(entries)
	}
	// In order of the names, so that a seed always gives the same disk.
	for _, name := range slices.Sorted(maps.Keys(entries)) {
		left.entries[name] = c.copy(entries[name])
	}
	left.durable = maps.Clone(left.entries)
	return left
}

// tear returns a random mixture of a file's safe and its current content. It
// shares only safe pages, which never change.
func tear(disk, cur image, rng *rand.Rand) image {
	torn := image{size: disk.size}
	switch rng.IntN(3) {
	case 0:
		torn.size = cur.size
	case 1:
		torn.size += rng.Int64N(cur.size - disk.size + 1)
	}
	torn.pages = make([]*page, pagesOf(torn.size))
	share := drawShare(rng)
	for i := range torn.pages {
		torn.pages[i] = tearPage(disk.page(i), cur.page(i), share, rng)
	}
	// A length between may cut a new page: what is behind it is not there.
	last := len(torn.pages) - 1
	if end := torn.size % pageSize; end > 0 && torn.pages[last] != disk.page(last) {
		torn.pages[last] = torn.pages[last].copyFor(nil)
		clear(torn.pages[last].data[end:])
	}
	return torn
}

// drawShare draws how probable it is that a sector survives. All and none are
// frequent: of a thousand sectors a fair coin would never show either.
func drawShare(rng *rand.Rand) float64 {
	switch rng.IntN(4) {
	case 0:
		return 0
	case 1:
		return 1
	}
	return rng.Float64()
}

func tearPage(disk, cur *page, share float64, rng *rand.Rand) *page {
	if disk == cur {
		return disk
	}
	torn := disk
	for at := 0; at < pageSize; at += sectorSize {
		sector := cur.bytes()[at : at+sectorSize]
		if bytes.Equal(disk.bytes()[at:at+sectorSize], sector) || rng.Float64() >= share {
			continue
		}
		if torn == disk {
			torn = disk.copyFor(nil)
		}
		copy(torn.data[at:], sector)
	}
	return torn
}

// copyAll returns a copy of ino and of all it leads to, with everything that is
// pending, once for all names. A nil inode gives nil.
func (ino *inode) copyAll(copies map[*inode]*inode) *inode {
	if ino == nil {
		return nil
	}
	if done := copies[ino]; done != nil {
		return done
	}
	if !ino.isDir() {
		c := newFile(ino.perm, ino.number)
		c.cur, c.disk, c.clean = ino.cur.clone(), ino.disk, ino.clean
		ino.freeze()
		copies[ino] = c
		return c
	}
	c := newDir(ino.perm)
	copies[ino] = c
	for name, to := range ino.entries {
		c.entries[name] = to.copyAll(copies)
	}
	for name, to := range ino.durable {
		c.durable[name] = to.copyAll(copies)
	}
	return c
}
