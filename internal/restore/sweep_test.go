package restore

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/walrecv/walrecv/internal/pgtest"
	"github.com/walrecv/walrecv/segment"
)

// model is an archive with branches, and what a recovery from a backup in segment
// 2 of timeline 1 to the newest timeline should replay.
type model struct {
	truth branch
	end   segment.LSN
	taken segment.TimelineID // the first timeline that is free

	// needed are the objects without which the end is not reached, by key, with
	// where the archive truly ends without each: nil for those in front of
	// something later, without which no end can be told.
	needed map[string]*segment.LSN

	// trace is the only object that tells of the newest timeline. Without it the
	// archive is one of timeline 1, to whose end past is; and a history with WAL
	// nowhere can say what it likes.
	trace string
	past  *model
}

// line is the way of a model: its timelines and where each of them was left.
type line []segment.HistoryEntry

// along makes the segments of the true branch: each byte is of the timeline that
// the line has at its position.
func along(l line, last segment.TimelineID) branch {
	h := segment.History{Timeline: last, Entries: l}
	return branch{start: at(2, 0), wal: func(number uint64) []byte {
		data := make([]byte, 0, full)
		for _, t := range h.Segment(number, testSize) {
			_, end, _ := h.Bounds(t)
			upto := int64(min(end, at(number+1, 0)) - at(number, 0))
			data = append(data, wal(seg(t, number), full)[len(data):upto]...)
		}
		return data
	}}
}

// needs says what a model's end rests on: all of it but the last segment, without
// which the archive ends earlier.
func (m *model) needs(w *world, last segment.Name, names ...segment.Name) {
	m.needed = map[string]*segment.LSN{identityKey: nil}
	for _, n := range names {
		m.needed[w.key(n)] = nil
	}
	begin := last.Start(testSize)
	m.needed[w.key(last)] = &begin
}

// oldPrimaryLivedOn is the archive of a primary that wrote on after its standby
// was promoted: timeline 1 has complete segments behind the fork.
func oldPrimaryLivedOn(w *world) *model {
	fork := at(4, 30_000)
	m := &model{truth: along(line{{Timeline: 1, End: fork}}, 2), end: at(7, 0), taken: 3}
	for n := uint64(1); n <= 6; n++ {
		w.put(seg(1, n), wal(seg(1, n), full))
	}
	w.putPartial(seg(1, 7), wal(seg(1, 7), 50_000))
	w.putHistory(2, history(1, fork))
	for n := uint64(4); n <= 6; n++ {
		w.put(seg(2, n), m.truth.wal(n))
	}
	m.needs(w, seg(2, 6), seg(1, 2), seg(1, 3), seg(2, 4), seg(2, 5))
	m.needed[w.historyKey(2)] = nil
	return m
}

// endedInAPartial is what a receiver leaves that follows: timeline 1 ends with a
// partial, and so does timeline 2.
func endedInAPartial(w *world) *model {
	fork := at(4, 30_000)
	m := &model{truth: along(line{{Timeline: 1, End: fork}}, 2), end: at(6, 70_000), taken: 3}
	for n := uint64(1); n <= 3; n++ {
		w.put(seg(1, n), wal(seg(1, n), full))
	}
	w.putPartial(seg(1, 4), wal(seg(1, 4), 30_000))
	w.putHistory(2, history(1, fork))
	w.put(seg(2, 4), m.truth.wal(4))
	w.put(seg(2, 5), m.truth.wal(5))
	w.putPartial(seg(2, 6), wal(seg(2, 6), 70_000))
	m.needs(w, seg(2, 6), seg(1, 2), seg(1, 3), seg(2, 4), seg(2, 5))
	m.needed[w.historyKey(2)] = nil
	m.needed[w.partialKey(seg(2, 6))] = m.needed[w.key(seg(2, 6))]
	delete(m.needed, w.key(seg(2, 6)))
	return m
}

// endsInTheTail is the archive of a cluster that is lost with its receiver: the last
// segment is there in chunks, and one before has some that were not deleted.
func endsInTheTail(w *world) *model {
	fork := at(4, 30_000)
	m := &model{truth: along(line{{Timeline: 1, End: fork}}, 2), end: at(6, 70_000), taken: 3}
	for n := uint64(1); n <= 3; n++ {
		w.put(seg(1, n), wal(seg(1, n), full))
	}
	w.putPartial(seg(1, 4), wal(seg(1, 4), 30_000))
	w.putHistory(2, history(1, fork))
	w.put(seg(2, 4), m.truth.wal(4))
	w.put(seg(2, 5), m.truth.wal(5))
	w.putChunk(seg(2, 5), 0, 9_000)
	w.putChunk(seg(2, 6), 0, 40_000)
	w.putChunk(seg(2, 6), 40_000, 70_000)
	m.needs(w, seg(2, 6), seg(1, 2), seg(1, 3), seg(2, 4), seg(2, 5))
	m.needed[w.historyKey(2)] = nil
	delete(m.needed, w.key(seg(2, 6)))
	for from, to := range map[int64]int64{0: 40_000, 40_000: 70_000} {
		end := at(6, from)
		m.needed[chunkKey(seg(2, 6), from, to)] = &end
	}
	return m
}

// threeInARow has two promotions, the second one exactly on a border, and each
// old primary lived on for a while.
func threeInARow(w *world) *model {
	one, two := at(3, 9_000), at(5, 0)
	m := &model{truth: along(line{{Timeline: 1, End: one}, {Timeline: 2, End: two}}, 3), end: at(7, 0), taken: 4}
	for n := uint64(1); n <= 5; n++ {
		w.put(seg(1, n), wal(seg(1, n), full))
	}
	w.putHistory(2, history(1, one))
	w.putHistory(3, history(1, one, 2, two))
	for n := uint64(3); n <= 4; n++ {
		w.put(seg(2, n), m.truth.wal(n))
	}
	w.put(seg(2, 5), wal(seg(2, 5), full))
	for n := uint64(5); n <= 6; n++ {
		w.put(seg(3, n), m.truth.wal(n))
	}
	m.needs(w, seg(3, 6), seg(1, 2), seg(2, 3), seg(2, 4), seg(3, 5))
	m.needed[w.historyKey(2)], m.needed[w.historyKey(3)] = nil, nil
	return m
}

// notYetArchived is the archive a moment after a promotion: the history is there,
// nothing of the new timeline is, and the old primary lived on.
func notYetArchived(w *world) *model {
	fork := at(4, 30_000)
	m := &model{truth: along(line{{Timeline: 1, End: fork}}, 2), end: fork, taken: 3}
	for n := uint64(1); n <= 5; n++ {
		w.put(seg(1, n), wal(seg(1, n), full))
	}
	w.putHistory(2, history(1, fork))
	m.needs(w, seg(1, 4), seg(1, 2), seg(1, 3))
	m.needed[w.key(seg(1, 4))] = nil // timeline 2 says that it must be there
	m.trace, m.past = w.historyKey(2), &model{truth: along(nil, 1), end: at(6, 0), taken: 2}
	return m
}

// siblings is an archive after a point-in-time recovery to before a promotion:
// timelines 2 and 3 both leave timeline 1, and the newest counts.
func siblings(w *world) *model {
	two, three := at(4, 60_000), at(3, 20_000)
	m := &model{truth: along(line{{Timeline: 1, End: three}}, 3), end: at(6, 0), taken: 4}
	for n := uint64(1); n <= 4; n++ {
		w.put(seg(1, n), wal(seg(1, n), full))
	}
	abandoned := along(line{{Timeline: 1, End: two}}, 2)
	w.putHistory(2, history(1, two))
	w.put(seg(2, 4), abandoned.wal(4))
	w.put(seg(2, 5), abandoned.wal(5))
	w.putHistory(3, history(1, three))
	for n := uint64(3); n <= 5; n++ {
		w.put(seg(3, n), m.truth.wal(n))
	}
	m.needs(w, seg(3, 5), seg(1, 2), seg(3, 3), seg(3, 4))
	m.needed[w.historyKey(3)] = nil
	m.needed[w.historyKey(2)] = nil // the server's search for the newest goes over it
	return m
}

var models = map[string]func(*world) *model{
	"the old primary lived on":   oldPrimaryLivedOn,
	"ended in a partial":         endedInAPartial,
	"ends in the tail":           endsInTheTail,
	"three in a row":             threeInARow,
	"the child is not there yet": notYetArchived,
	"siblings":                   siblings,
}

func (w *world) historyKey(t segment.TimelineID) string {
	return path.Join(path.Dir(identityKey), "wal", segment.HistoryName(t))
}

// partialKey is the key of the only partial of a segment.
func (w *world) partialKey(n segment.Name) string {
	for _, key := range w.store.Keys() {
		if strings.Contains(key, "/"+name(n)+".") && strings.Contains(key, ".partial") {
			return key
		}
	}
	w.t.Fatalf("no partial of %s", name(n))
	return ""
}

// TestEveryObject harms every object of every archive in every way, and recovers; in
// the short form a sample of both.
// The server either stops, or ends where the archive ends without the object; it
// is never given a byte of another branch and takes no timeline that is taken.
func TestEveryObject(t *testing.T) {
	for title, build := range models {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			m, objects := modelAndObjects(t, build)
			cases, ends := 0, map[string]int{}
			chosen := sample(t, m, objects)
			for key := range objects {
				for _, h := range chosen[key] {
					m := m
					if key == m.trace && h.altered {
						continue
					}
					if key == m.trace && h.deleted {
						m = m.past
					}
					inMode(t, recoverySignal, func(t *testing.T, w *world) {
						w.fill(objects)
						h.do(w, key)
						s := newServer(w, m.truth)
						s.recover()
						cases++
						end, err := m.judge(s, key, h)
						ends[end]++
						if err != nil {
							t.Logf("%s %s: %v", key, h.name, err)
						}
					})
				}
			}
			t.Logf("%d objects, %d cases: %v", len(objects), cases, ends)
			if ends["wrong"] > 0 {
				t.Error("some of them ended in a way that they must not")
			}
		})
	}
}

// modelAndObjects makes a model once: to make it takes longer than to use it.
func modelAndObjects(t *testing.T, build func(*world) *model) (m *model, objects map[string][]byte) {
	t.Helper()
	objects = map[string][]byte{}
	inMode(t, recoverySignal, func(_ *testing.T, w *world) {
		m = build(w)
		for _, key := range w.store.Keys() {
			objects[key], _ = w.store.Get(key)
		}
	})
	return m, objects
}

func (w *world) fill(objects map[string][]byte) {
	w.archiveHook = nil
	for key, data := range objects {
		w.store.Set(key, data)
	}
}

// TestEveryObjectOnAStandby does the same to a standby that has nothing but the
// archive. It waits, whatever is wrong, and goes on to the end once the archive is
// good again.
func TestEveryObjectOnAStandby(t *testing.T) {
	for title, build := range models {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			m, objects := modelAndObjects(t, build)
			for i, key := range slices.Sorted(maps.Keys(objects)) {
				all := harms(objects[key], false)
				some := []harm{all[0], all[1], all[2], all[len(all)-1]}
				if !pgtest.Long() {
					some = some[i%len(some):][:1]
				}
				for _, h := range some {
					if key == m.trace && (h.altered || h.deleted) {
						continue // it may have gone to the end of timeline 1
					}
					inMode(t, standbySignal, func(t *testing.T, w *world) {
						w.fill(objects)
						h.do(w, key)
						s := newServer(w, m.truth)
						s.follow()
						before := s.pos
						w.fill(objects)
						s.follow()
						if s.code != 0 || s.strayed || s.pos != m.end {
							t.Errorf("%s %s: code %d %s, strayed %v, at %s and then at %s, want %s",
								key, h.name, s.code, s.message, s.strayed, before, s.pos, m.end)
						}
					})
				}
			}
		})
	}
}

// judge says how a recovery with one object harmed has ended.
func (m *model) judge(s *server, key string, h harm) (end string, err error) {
	without, needed := m.needed[key]
	switch {
	case s.strayed:
		return "wrong", fmt.Errorf("WAL of another branch was delivered, at %s", s.pos)
	case s.code != 0 && !slices.Contains(h.codes, s.code):
		return "wrong", fmt.Errorf("ended with %d, want one of %d: %s", s.code, h.codes, s.message)
	case s.code != 0:
		return "stopped", nil
	case s.taken < m.taken:
		return "wrong", fmt.Errorf("it took timeline %d, which is there", s.taken)
	case h.deleted && needed && without != nil && s.pos == *without:
		return "ended earlier", nil
	case s.pos != m.end || h.deleted && needed:
		return "wrong", fmt.Errorf("ended at %s, which is neither the end without the object nor %s", s.pos, m.end)
	}
	return "complete", nil
}
