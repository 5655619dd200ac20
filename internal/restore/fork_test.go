package restore

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/walrecv/walrecv/internal/pgdata"
	"github.com/walrecv/walrecv/segment"
)

// parsed is a history from pairs of timeline and position.
func parsed(t *testing.T, timeline segment.TimelineID, entries ...any) segment.History {
	t.Helper()
	h, err := pgdata.ParseHistory(timeline, []byte(history(entries...)))
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestForkLimit(t *testing.T) {
	h := func(timeline segment.TimelineID, entries ...any) segment.History {
		return parsed(t, timeline, entries...)
	}
	a, b, c := at(5, 30000), at(5, 60000), at(9, 0)
	tests := []struct {
		name      string
		asked     segment.TimelineID
		histories []segment.History
		broken    []segment.TimelineID
		want      segment.LSN
		damaged   bool
	}{
		{name: "none", asked: 1, want: segment.MaxLSN},
		{name: "child", asked: 1, histories: []segment.History{h(2, 1, a)}, want: a},
		{name: "the timeline itself", asked: 2, histories: []segment.History{h(2, 1, a)}, want: segment.MaxLSN},
		{name: "no relation", asked: 2, histories: []segment.History{h(3, 1, a)}, want: segment.MaxLSN},
		{name: "grandchild", asked: 1, histories: []segment.History{h(3, 1, a, 2, b)}, want: a},
		{name: "parent of the goal", asked: 2, histories: []segment.History{h(3, 1, a, 2, b)}, want: b},
		{name: "the whole line", asked: 1, histories: []segment.History{h(2, 1, a), h(3, 1, a, 2, b)}, want: a},
		{name: "newer sibling forks later", asked: 1, histories: []segment.History{h(2, 1, a), h(3, 1, c)}, want: c},
		{name: "newer sibling forks earlier", asked: 1, histories: []segment.History{h(3, 1, a), h(2, 1, c)}, want: a},
		{name: "newest has nothing to do with it", asked: 2, histories: []segment.History{h(3, 1, a, 2, b), h(4, 1, a)}, want: b},
		{name: "goal leaves its parent before that began", asked: 1, histories: []segment.History{h(2, 1, b), h(3, 1, b, 2, a)}, want: a},
		{name: "and so the parent", asked: 2, histories: []segment.History{h(3, 1, b, 2, a)}, want: a},
		{name: "contradiction", asked: 1, histories: []segment.History{h(2, 1, a), h(3, 1, b, 2, c)}, damaged: true},
		{name: "newest is broken", asked: 1, histories: []segment.History{h(2, 1, a)}, broken: []segment.TimelineID{3}, damaged: true},
		{name: "only a broken one", asked: 1, broken: []segment.TimelineID{2}, damaged: true},
		{name: "a broken one below the goal", asked: 1, histories: []segment.History{h(3, 1, a)}, broken: []segment.TimelineID{2}, want: a},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := pgdata.Histories{Sound: slices.Clone(tt.histories), Broken: map[segment.TimelineID]error{}}
			for _, timeline := range tt.broken {
				l.Broken[timeline] = errNothing
			}
			got, err := forkLimit(tt.asked, l)
			if tt.damaged {
				if judge(err).verdict != damaged {
					t.Fatalf("limit %s, %v; want damage", got, err)
				}
				return
			}
			if err != nil || got != tt.want {
				t.Errorf("limit %s, %v; want %s", got, err, tt.want)
			}
		})
	}
}

// fakeHoldings is what a place holds in tests of pure functions.
type fakeHoldings struct {
	histories []segment.TimelineID
	last      map[segment.TimelineID]uint64
}

func (f fakeHoldings) Timelines() []segment.TimelineID {
	all := slices.Clone(f.histories)
	for t := range f.last {
		all = append(all, t)
	}
	return all
}

func (f fakeHoldings) HasHistory(t segment.TimelineID) bool { return slices.Contains(f.histories, t) }

func (f fakeHoldings) Has(n segment.Name) bool { return f.last[n.Timeline] == n.Number }

func (f fakeHoldings) After(n segment.Name) bool { return f.last[n.Timeline] > n.Number }

func TestOwed(t *testing.T) {
	h := func(timeline segment.TimelineID, entries ...any) segment.History {
		return parsed(t, timeline, entries...)
	}
	n := seg(2, 5)
	tests := []struct {
		name      string
		last      map[segment.TimelineID]uint64
		histories []segment.History
		want      segment.LSN
	}{
		{"nothing", nil, nil, at(5, 0)},
		{"the segment itself", map[segment.TimelineID]uint64{2: 5}, nil, at(5, 0)},
		{"a later segment", map[segment.TimelineID]uint64{2: 6}, nil, at(6, 0)},
		{"a later segment of another timeline", map[segment.TimelineID]uint64{1: 6, 3: 7}, nil, at(5, 0)},
		{"its own history", nil, []segment.History{h(2, 1, at(9, 0))}, at(5, 0)},
		{"fork in it", nil, []segment.History{h(3, 1, at(1, 0), 2, at(5, 77))}, at(5, 77)},
		{"fork at its start", nil, []segment.History{h(3, 1, at(1, 0), 2, at(5, 0))}, at(5, 0)},
		{"fork at its end", nil, []segment.History{h(3, 1, at(1, 0), 2, at(6, 0))}, at(6, 0)},
		{"fork far behind", nil, []segment.History{h(3, 1, at(1, 0), 2, at(60, 0))}, at(6, 0)},
		{"two forks in it", nil, []segment.History{h(4, 1, at(1, 0), 2, at(5, 99)), h(3, 1, at(1, 0), 2, at(5, 77))}, at(5, 99)},
		{"no descendant", nil, []segment.History{h(3, 1, at(60, 0))}, at(5, 0)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, why := owed(n, testSize, everything{fakeHoldings{last: tt.last}}, tt.histories)
			if got != tt.want {
				t.Errorf("owed %s, want %s", got, tt.want)
			}
			if (why != "") != (got > n.Start(testSize)) {
				t.Errorf("owed %s because %q", got, why)
			}
		})
	}
}

func TestFirstFork(t *testing.T) {
	h := func(timeline segment.TimelineID, entries ...any) segment.History {
		return parsed(t, timeline, entries...)
	}
	n := seg(1, 5)
	for _, tt := range []struct {
		histories []segment.History
		want      segment.LSN
	}{
		{nil, segment.MaxLSN},
		{[]segment.History{h(2, 1, at(5, 0)), h(3, 1, at(6, 0)), h(4, 1, at(9, 9))}, segment.MaxLSN},
		{[]segment.History{h(2, 1, at(5, 88)), h(3, 1, at(5, 77)), h(4, 1, at(5, 99))}, at(5, 77)},
	} {
		if got := firstFork(n, testSize, tt.histories); got != tt.want {
			t.Errorf("first fork of %v: %s, want %s", tt.histories, got, tt.want)
		}
	}
}

// cutAt is a segment with zeros from an offset on.
func cutAt(data []byte, offset int64) []byte {
	data = slices.Clone(data)
	clear(data[offset:])
	return data
}

func TestAncestorIsDeliveredUpToTheFork(t *testing.T) {
	for _, place := range []string{"archive", "flat"} {
		for _, offset := range []int64{testPage, 100_000, full - 8} {
			t.Run(fmt.Sprint(place, offset), func(t *testing.T) {
				bothModes(t, func(t *testing.T, w *world) {
					for number := uint64(4); number < 7; number++ {
						w.putAt(place, seg(1, number), wal(seg(1, number), full))
					}
					// Its segments are not archived yet, its history is nowhere else.
					w.write("/data/pg_wal/00000002.history", []byte(history(1, at(5, offset))))
					w.wantBytes(seg(1, 4), wal(seg(1, 4), full))
					w.wantBytes(seg(1, 5), cutAt(wal(seg(1, 5), full), offset))
					w.want(name(seg(1, 6)), CodeAbsent)
					w.want(name(seg(2, 5)), CodeAbsent)
				})
			})
		}
	}
}

// putAt stores a sealed segment in an archive of format 1 or in a flat one.
func (w *world) putAt(place string, n segment.Name, data []byte) {
	if place == "archive" {
		w.put(n, data)
		return
	}
	w.o.Archive = w.flat("/spool")
	w.write("/spool/"+name(n), data)
}

func TestForkOnTheBorder(t *testing.T) {
	bothModes(t, func(t *testing.T, w *world) {
		w.put(seg(1, 5), wal(seg(1, 5), full))
		w.put(seg(1, 6), wal(seg(1, 6), full))
		w.write("/data/pg_wal/00000002.history", []byte(history(1, at(6, 0))))
		w.wantBytes(seg(1, 5), wal(seg(1, 5), full))
		w.want(name(seg(1, 6)), CodeAbsent)
	})
}

func TestTwoForksInOneSegment(t *testing.T) {
	bothModes(t, func(t *testing.T, w *world) {
		w.put(seg(1, 5), wal(seg(1, 5), full))
		w.put(seg(2, 5), walOf(testSystem, seg(2, 5), 1, full))
		w.write("/data/pg_wal/00000003.history", []byte(history(1, at(5, 30000), 2, at(5, 60000))))
		w.wantBytes(seg(1, 5), cutAt(wal(seg(1, 5), full), 30000))
		w.wantBytes(seg(2, 5), cutAt(walOf(testSystem, seg(2, 5), 1, full), 60000))
		w.want(name(seg(3, 5)), CodeAbsent)
	})
}

func TestContradictingHistories(t *testing.T) {
	bothModes(t, func(t *testing.T, w *world) {
		w.put(seg(1, 5), wal(seg(1, 5), full))
		w.write("/data/pg_wal/00000002.history", []byte(history(1, at(5, 30000))))
		w.write("/data/pg_wal/00000003.history", []byte(history(1, at(5, 40000), 2, at(7, 0))))
		a := w.want(name(seg(1, 5)), w.pick(CodeDamaged, CodeAbsent))
		if !w.standby() && !strings.Contains(a.Message, "disagree") {
			t.Errorf("message %q", a.Message)
		}
	})
}

// A partial of an ancestor is cut, too, and replaces the server's own copy where
// it reaches the fork: what that copy has beyond is of the abandoned branch.
func TestPartialOfAnAncestor(t *testing.T) {
	n := seg(1, 5)
	bothModes(t, func(t *testing.T, w *world) {
		w.putPartial(n, wal(n, 300_000))
		w.write("/data/pg_wal/00000002.history", []byte(history(1, at(5, 200_000))))
		w.write("/data/pg_wal/"+name(n), wal(n, 400_000))
		w.wantBytes(n, cutAt(wal(n, full), 200_000))
	})
}

// Where a partial ends long before the fork, WAL is missing.
func TestPartialThatEndsBeforeTheFork(t *testing.T) {
	n := seg(1, 5)
	bothModes(t, func(t *testing.T, w *world) {
		w.putPartial(n, wal(n, 300_000))
		w.putHistory(2, history(1, at(5, 300_008))) // records may end with zeros
		w.wantBytes(n, wal(n, 300_000))
		w.putHistory(3, history(1, at(5, 400_000)))
		w.want(name(n), w.pick(CodeDamaged, CodeAbsent))
	})
}

// With a target above, set by hand, the server asks for the histories in between,
// and can do without them.
func TestHistoryInBetween(t *testing.T) {
	bothModes(t, func(t *testing.T, w *world) {
		w.putHistory(3, history(1, at(5, 100)))
		w.want("00000002.history", w.pick(CodeDamaged, CodeAbsent))
		w.want("00000003.history", CodeDelivered)
		w.write("/data/pg_wal/00000003.history", w.read("/data/pg_wal/RECOVERYHISTORY"))
		w.remove("/data/pg_wal/RECOVERYHISTORY")
		w.want("00000002.history", CodeAbsent)
		if w.exists("/data/" + noteFile) {
			t.Error("the note of a history that is proven to be absent stays")
		}
	})
}
