package archive

import (
	"errors"
	"io/fs"
	"slices"
	"sync"
	"time"

	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/segment"
)

// archivedPerScan says when the spool is looked at again, to remove what is
// archived: when there is more of it than this part of what still waits. So a long
// queue is not listed once for each of its files.
const archivedPerScan = 64

// scanShare is the part of the time that is spent on scans because of what is new,
// while there is enough to do without it.
const scanShare = 50

// archived is what was archived of an item: that is remembered for complete
// segments, which are removed sooner or later. Another file may stand under the
// name then: a server that says something else makes the receiver set the old one
// aside.
type archived struct {
	digest Digest
	file   vfs.FileID // as it was before it was read
}

// scan looks into the spool. It returns, in order, what is not in flight and
// either not archived or perhaps replaced since, and removes what can go: nothing
// can take the name of a file between the look at it and its removal.
func (u *Uploader) scan(flight []job) (queue []item, err error) {
	look := u.looks.Add(1)
	began := time.Now()
	err = u.spool.View(func(l segment.Listing) { queue = u.look(l, flight, look) })
	u.scanned = time.Now()
	u.took, u.stale = u.scanned.Sub(began), false
	u.tail.nudge()
	return queue, err
}

// tooSoon tells whether what is new can wait for the next scan: after a long outage
// a scan takes a second, and there would be one for each new segment.
func (u *Uploader) tooSoon(queue []item) bool {
	return len(queue) > 0 && time.Since(u.scanned) < scanShare*u.took
}

func (u *Uploader) look(l segment.Listing, flight []job, look uint64) []item {
	items := plan(l, u.archive.id.SegmentSize)
	keep := keepers(items)
	done := map[itemID]archived{}
	left := make([]item, 0, len(items))
	queue := items[:0]
	for _, i := range items {
		if was, ok := u.done[i.id()]; ok {
			done[i.id()] = was
			switch {
			case i.kind != itemSealed || keep[i.name]:
				continue
			case i.file == was.file:
				u.remove(i)
				continue
			}
			i.archived = &was.digest
		} else {
			left = append(left, i)
		}
		if !slices.ContainsFunc(flight, func(j job) bool { return j.item.id() == i.id() }) {
			queue = append(queue, i)
		}
	}
	u.done = done // so that it does not grow for ever
	u.removable = 0
	u.waiting.seen(left, time.Now(), look)
	return queue
}

// settle takes note that an item is archived, and everything before it. Its file
// stays until the next scan: it may have been replaced while it was archived.
func (u *Uploader) settle(i item, o outcome) {
	u.done[i.id()] = archived{o.digest, i.file}
	u.waiting.over(i)
	if i.kind != itemSealed {
		u.tail.nudge()
		return
	}
	u.tail.settled(i.name)
	u.removable++
	if i.archived == nil {
		u.indexer.archived(i.name, o.made)
	}
	at := segment.Position{Timeline: i.name.Timeline, LSN: i.name.End(u.archive.id.SegmentSize)}
	if was, ok := u.Archived(); !ok || at.Timeline > was.Timeline || at.Timeline == was.Timeline && at.LSN > was.LSN {
		u.archived.Store(&at)
	}
}

// due tells whether enough is archived that the spool is to be looked at again. It
// always is if nothing else waits.
func (u *Uploader) due(queue []item) bool {
	return u.removable > len(queue)/archivedPerScan
}

// remove removes the files of an archived segment from the spool. The removal is
// not synced: a file that comes back is found to be archived.
func (u *Uploader) remove(i item) {
	for _, base := range i.bases {
		err := u.spool.Remove(base)
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			delete(u.told, base)
			continue
		}
		if !u.told[base] {
			u.told[base] = true
			u.log.Error("cannot remove an archived segment from the spool: correct what the error says, or remove it", "file", base, "error", err)
		}
	}
}

// waiting remembers since when things wait to be archived.
type waiting struct {
	mu    sync.Mutex
	since map[itemID]time.Time
	look  uint64 // the look at the spool that it is from
}

// seen says what is waiting, as a look at the spool has found.
func (w *waiting) seen(items []item, now time.Time, look uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.look = look
	since := make(map[itemID]time.Time, len(items))
	for _, i := range items {
		since[i.id()] = now
		if at, ok := w.since[i.id()]; ok {
			since[i.id()] = at
		}
	}
	w.since = since
}

// over says that an item does not wait any more.
func (w *waiting) over(i item) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.since, i.id())
}

// clear tells whether nothing waits that is to be archived before a stream that
// begins at the start of a segment, after a look at the spool that is later than
// another one.
func (w *waiting) clear(after uint64, at segment.Position, size segment.Size) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.look <= after {
		return false
	}
	first := item{kind: itemSealed, name: segment.Name{Timeline: at.Timeline, Number: size.Number(at.LSN)}, bases: []string{""}}
	for id := range w.since {
		if (item{kind: id.kind, name: id.name, bases: []string{""}}).order(first) < 0 {
			return false
		}
	}
	return true
}

// count is how many things wait.
func (w *waiting) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.since)
}

func (w *waiting) oldest() (oldest time.Time, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, at := range w.since {
		if !ok || at.Before(oldest) {
			oldest, ok = at, true
		}
	}
	return oldest, ok
}
