package archive

import (
	"errors"
	"io/fs"
	"path"
	"slices"
	"sync"
	"time"

	"github.com/walrecv/walrecv/segment"
)

// scan looks into the spool. It returns what is neither archived nor in flight,
// in order, and removes what can go.
func (u *Uploader) scan(flight []job) ([]item, error) {
	l, err := u.spool.Scan()
	if err != nil {
		return nil, err
	}
	items := plan(l)
	u.keep = keepers(items)
	done := map[itemID]bool{}
	var queue, left []item
	for _, i := range items {
		if u.done[i.id()] {
			done[i.id()] = true
			u.remove(i)
			continue
		}
		left = append(left, i)
		if !slices.ContainsFunc(flight, func(j job) bool { return j.item.id() == i.id() }) {
			queue = append(queue, i)
		}
	}
	u.done = done // so that it does not grow for ever
	u.waiting.seen(left, time.Now())
	return queue, nil
}

// settle takes note that an item is archived, and everything before it.
func (u *Uploader) settle(i item) {
	u.done[i.id()] = true
	u.waiting.over(i)
	if i.kind != itemSealed {
		return
	}
	at := segment.Position{Timeline: i.name.Timeline, LSN: i.name.End(u.archive.id.SegmentSize)}
	if was, ok := u.Archived(); !ok || at.Timeline > was.Timeline || at.Timeline == was.Timeline && at.LSN > was.LSN {
		u.archived.Store(&at)
	}
	u.remove(i)
}

// remove removes the files of an archived segment from the spool, unless they
// have to stay. The removal is not synced: a file that comes back is found to be
// archived.
func (u *Uploader) remove(i item) {
	if i.kind != itemSealed || u.keep[i.name] {
		return
	}
	for _, base := range i.bases {
		err := u.spool.FS().Remove(path.Join(u.spool.Dir(), base))
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			delete(u.told, base)
			continue
		}
		if !u.told[base] {
			u.told[base] = true
			u.log.Error("cannot remove an archived segment from the spool", "file", base, "error", err)
		}
	}
}

// waiting remembers since when things wait to be archived.
type waiting struct {
	mu    sync.Mutex
	since map[itemID]time.Time
}

// seen says what is waiting.
func (w *waiting) seen(items []item, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
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
