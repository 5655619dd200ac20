package archive

import "github.com/walrecv/walrecv/segment"

// What to do about segments, for people. Objects are never replaced: one that is
// not what it should be is in the way of the right one.
const (
	// AdviceMissing is about segments that are missing.
	AdviceMissing = "restart walrecv receive, which fills the hole if the server or its directory still has it; " +
		"else copy it from another archive, or take a base backup"
	// AdviceDamaged is about objects that are there and are not what was put, or are
	// not the segments that their names say.
	AdviceDamaged = "move the object away and " + AdviceMissing
	// AdviceIndex is about damaged objects of the index.
	AdviceIndex = "the index is a cache: delete the object, and walrecv receive makes another when it starts"
)

// Clears tells whether what is archived of a segment was read, and found to be
// sound where a mark says that it is damaged: then the server sent it again, in
// order, and the mark is history.
func (i SegmentInfo) Clears(m segment.Mark) bool {
	s := &i.Summary
	checked := m.LSN < s.End && (s.Open == 0 || m.LSN < s.Open)
	return i.Known && i.Name == m.Name && s.Verified() && checked
}
