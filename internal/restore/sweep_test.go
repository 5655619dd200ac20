package restore

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/walrecv/walrecv/internal/pgtest"
	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage/storagetest"
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

// harm is what happens to one object.
type harm struct {
	name    string
	deleted bool
	altered bool  // not so that it cannot be read
	codes   []int // that a recovery may stop with because of it
	do      func(w *world, key string)
}

var errUnreadable = errors.New("input/output error")

// wrongObject are the codes for an object that is missing or not what it was.
var wrongObject = []int{CodeDamaged, CodeMisconfigured}

// harms are those that are tried on an object.
func harms(data []byte, every bool) []harm {
	all := []harm{
		{name: "deleted", deleted: true, codes: wrongObject, do: func(w *world, key string) {
			w.must(w.store.Delete(w.t.Context(), key))
		}},
		failing("listed, but not there", storagetest.Fault{Before: fs.ErrNotExist}, CodeUnknown, CodeDamaged, CodeMisconfigured),
		failing("unreadable", storagetest.Fault{Before: errUnreadable}, CodeUnknown),
		failing("unreadable in the middle", storagetest.Fault{Cut: &storagetest.Cut{At: int64(len(data) / 2), Err: errUnreadable}}, CodeUnknown),
	}
	for _, n := range lengths(len(data), every) {
		all = append(all, changing(fmt.Sprintf("cut to %d bytes", n), func(data []byte) []byte { return data[:n] }))
	}
	for _, bit := range bits(data, every) {
		all = append(all, changing(fmt.Sprintf("bit %d of byte %d flipped", bit%8, bit/8), func(data []byte) []byte {
			data[bit/8] ^= 1 << (bit % 8)
			return data
		}))
	}
	return all
}

// failing is a harm of every request for the object.
func failing(name string, f storagetest.Fault, codes ...int) harm {
	return harm{name: name, codes: codes, do: func(w *world, key string) {
		w.archiveHook = func(r storagetest.Request) storagetest.Fault {
			if r.Key == key && (r.Op == storagetest.OpOpen || r.Op == storagetest.OpStat && f.Before != nil) {
				return f
			}
			return storagetest.Fault{}
		}
	}}
}

// changing is a harm of the bytes of the object.
func changing(name string, change func(data []byte) []byte) harm {
	return harm{name: name, altered: true, codes: wrongObject, do: func(w *world, key string) {
		data, _ := w.store.Get(key)
		w.store.Set(key, change(slices.Clone(data)))
	}}
}

const small = 4096 // bytes of an object that is looked at byte by byte

// lengths are those that an object is cut to.
func lengths(length int, every bool) []int {
	switch {
	case length > small && every:
		return []int{0, 1, length / 3, length - 90, length - 1}
	case length > small:
		return []int{length - 90}
	}
	var all []int
	for n := range length {
		if every || n%16 == 0 || n == length-1 {
			all = append(all, n)
		}
	}
	return all
}

// bits are those that are flipped in an object: two of each digit of a number, which
// may still be one then, and some of the rest.
func bits(data []byte, every bool) []int {
	var all []int
	if len(data) > small {
		step := len(data) / 100
		for n := step / 2; n < len(data) && every; n += step {
			all = append(all, n*8+n%8)
		}
		return append(all, len(data)*4, len(data)*8-40*8)
	}
	for n, b := range data {
		number := b >= '0' && b <= '9' || b >= 'A' && b <= 'F' || b == '/' || b == '\t' || b == '\n'
		for bit := range 8 {
			if every || number && (bit == 0 || bit == n%4) || bit == n%8 && n%64 == 0 {
				all = append(all, n*8+bit)
			}
		}
	}
	return all
}

// TestEveryObject harms every object of every archive in every way, and recovers.
// The server either stops, or ends where the archive ends without the object; it
// is never given a byte of another branch and takes no timeline that is taken.
func TestEveryObject(t *testing.T) {
	for title, build := range models {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			m, objects := modelAndObjects(t, build)
			cases, ends := 0, map[string]int{}
			for key, data := range objects {
				all := harms(data, pgtest.Long())
				if _, needed := m.needed[key]; !needed && !pgtest.Long() {
					all = all[:2]
				}
				for _, h := range all {
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
			for key, data := range objects {
				all := harms(data, false)
				for _, h := range []harm{all[0], all[1], all[2], all[len(all)-1]} {
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
