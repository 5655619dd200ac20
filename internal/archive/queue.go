package archive

import (
	"cmp"
	"slices"

	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/segment"
)

// Spool is the directory whose files are to be archived. [segment.Spool] is one.
type Spool interface {
	FS() vfs.FS
	Dir() string
	Size() segment.Size // of its segments

	// View calls see with what the directory holds, while no segment gets its name.
	View(see func(segment.Listing)) error

	// Remove deletes a complete segment that View has listed, while it does.
	Remove(base string) error
}

// itemKind orders what belongs to one timeline: its history comes before its
// segments, so that no segment is archived whose place in the history of the
// cluster is not.
type itemKind int

const (
	itemHistory itemKind = iota
	itemGap
	itemMark
	itemSealed
	itemPartial // the last segment of a timeline that has ended
)

var itemKinds = [...]string{"history", "gap", "mark", "segment", "partial"}

// String is the kind as [UploaderOptions] has it.
func (k itemKind) String() string { return itemKinds[k] }

// item is one thing to be archived.
type item struct {
	kind  itemKind
	name  segment.Name // has a number only for itemSealed and itemPartial
	bases []string     // files in the spool that hold it; the first one is read

	file vfs.FileID // of the file that is read, for itemSealed

	// archived is the digest it was archived with, if it was: then it is to be
	// compared once more before it is removed.
	archived *Digest
}

// itemID tells items apart, also over several looks at the spool.
type itemID struct {
	kind itemKind
	name segment.Name
	base string // of the kinds whose name does not say it
}

func (i item) id() itemID {
	id := itemID{kind: i.kind, name: i.name}
	if i.kind == itemGap || i.kind == itemMark {
		id.base = i.bases[0]
	}
	return id
}

// order is the order of archiving: everything of a timeline before everything of
// the next one. What a timeline begins with is then archived before it, the
// partial in which its parent ended too.
func (i item) order(j item) int {
	// A history goes before the segments of its timeline whatever their number,
	// a final partial has a number after all complete ones or one of its own.
	return cmp.Or(
		cmp.Compare(i.name.Timeline, j.name.Timeline),
		cmp.Compare(min(i.kind, itemSealed), min(j.kind, itemSealed)),
		cmp.Compare(i.name.Number, j.name.Number),
		cmp.Compare(i.kind, j.kind),
		cmp.Compare(i.bases[0], j.bases[0]),
	)
}

// plan lists what of a spool is to be archived, in order. Files are chosen by
// what they are, never by what they are not: complete segments, history files,
// what was found out about the WAL, and the partials of timelines that have ended.
//
// A partial is final if a newer timeline's history is in the spool: a receiver
// writes that after it has synced the old partial, and never comes back to it. So
// is one that an accepted gap begins with.
func plan(l segment.Listing, size segment.Size) []item {
	// Not grown piece by piece: after a long outage these are many.
	items := make([]item, 0, len(l.BadSize)+len(l.Sealed)+len(l.Partials)+len(l.Histories)+len(l.Gaps)+len(l.Marks))
	newest := segment.TimelineID(0)
	for _, t := range l.Histories {
		newest = max(newest, t)
		items = append(items, item{
			kind:  itemHistory,
			name:  segment.Name{Timeline: t},
			bases: []string{segment.HistoryName(t)},
		})
	}
	begun := map[segment.Name]bool{}
	for _, f := range l.Partials {
		begun[f.Name] = true
		if f.Name.Timeline < newest && f.Name.Timeline != l.Live || inGap(l, f.Name, size) {
			items = append(items, item{kind: itemPartial, name: f.Name, bases: []string{f.Base}})
		}
	}
	items = append(items, planFindings(itemGap, l.Gaps)...)
	items = append(items, planFindings(itemMark, l.Marks)...)
	items = appendSealed(items, l, begun)
	slices.SortFunc(items, item.order)
	return onceEach(items)
}

// inGap tells whether a segment is one of those that are not waited for.
func inGap(l segment.Listing, n segment.Name, size segment.Size) bool {
	return slices.ContainsFunc(l.Gaps, func(base string) bool {
		g, ok := segment.GapOfName(base)
		return ok && g.Timeline >= n.Timeline && g.Covers(n.Number, size)
	})
}

func planFindings(kind itemKind, bases []string) []item {
	var items []item
	for _, base := range bases {
		if t, ok := timelineFrom(base[:timelineDigits]); ok {
			items = append(items, item{kind: kind, name: segment.Name{Timeline: t}, bases: []string{base}})
		}
	}
	return items
}

// appendSealed appends the files of complete segments. A compressed one whose
// segment is being streamed again is left out: it must have been found damaged. One
// of the wrong size is not: it would be a hole that nobody sees.
func appendSealed(items []item, l segment.Listing, begun map[segment.Name]bool) []item {
	bases := make([]string, 0, len(l.BadSize)+len(l.Sealed))
	for _, files := range [][]segment.File{l.BadSize, l.Sealed} {
		for _, f := range files {
			if f.Suffix != "" && begun[f.Name] {
				continue
			}
			bases = append(bases, f.Base)
			n := len(bases)
			items = append(items, item{kind: itemSealed, name: f.Name, bases: bases[n-1 : n : n], file: f.ID})
		}
	}
	return items
}

// onceEach makes one item of the files of a segment that is there both plain and
// compressed. The plain one, which sorts first, is read.
func onceEach(items []item) []item {
	once := items[:0]
	for _, i := range items {
		if n := len(once); n > 0 && i.kind == itemSealed && once[n-1].kind == itemSealed && once[n-1].name == i.name {
			once[n-1].bases = append(once[n-1].bases, i.bases...)
			continue
		}
		once = append(once, i)
	}
	return once
}

// keepers names the complete segments that stay in the spool after they were
// archived: where streaming goes on when the archive does not answer and the
// slot is gone. That is the newest one, and the newest one of the newest
// timeline, which is another one while an abandoned branch reaches further.
func keepers(items []item) map[segment.Name]bool {
	var newest, current segment.Name
	for _, i := range items {
		if i.kind != itemSealed {
			continue
		}
		if i.name.Compare(newest) > 0 {
			newest = i.name
		}
		if c := cmp.Compare(i.name.Timeline, current.Timeline); c > 0 || c == 0 && i.name.Number > current.Number {
			current = i.name
		}
	}
	return map[segment.Name]bool{newest: true, current: true}
}
