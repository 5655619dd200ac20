package restore

import (
	"bytes"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/pgdata"
	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage/storagetest"
)

// route is one along timeline t, whose history, if it has one, is text.
func (w *world) route(t segment.TimelineID, text string, from segment.LSN) Route {
	h := segment.History{Timeline: t}
	if text != "" {
		var err error
		h, err = pgdata.ParseHistory(t, []byte(text))
		w.must(err)
	}
	return Route{Cluster: segment.Identity{SystemID: testSystem, Size: testSize}, History: h, From: from}
}

// inPgWAL is what pg_wal holds.
func (w *world) inPgWAL() map[string][]byte {
	w.t.Helper()
	entries, err := w.fs.ReadDir("/data/pg_wal")
	w.must(err)
	files := map[string][]byte{}
	for _, e := range entries {
		files[e.Name] = w.read("/data/pg_wal/" + e.Name)
	}
	return files
}

// wantLaid compares pg_wal with what is wanted, also after a crash.
func (w *world) wantLaid(want map[string][]byte) {
	w.t.Helper()
	for _, when := range []string{"", " after a crash"} {
		got := w.inPgWAL()
		if names := slices.Sorted(maps.Keys(got)); !slices.Equal(names, slices.Sorted(maps.Keys(want))) {
			w.t.Fatalf("laid%s: %q", when, names)
		}
		for name, data := range want {
			if !bytes.Equal(got[name], data) {
				w.t.Errorf("%s%s has %d bytes, which differ from the %d wanted at %d", name, when,
					len(got[name]), len(data), firstDifference(got[name], data))
			}
		}
		w.fs = w.fs.CrashClone(rand.New(rand.NewPCG(1, 2)))
	}
}

// durable makes what a restore has extracted before survive a crash.
func (w *world) durable() {
	w.t.Helper()
	for _, dir := range []string{"/", "/data", "/data/pg_wal", "/data/global"} {
		w.must(w.fs.SyncDir(dir))
	}
}

func TestLay(t *testing.T) {
	const fork = 3*testPage + 40
	second := history(1, at(4, fork))
	onBorder := history(1, at(4, 0))
	third := history(1, at(4, fork), 2, at(4, fork+testPage))
	tests := []struct {
		name string
		put  func(w *world)
		t    segment.TimelineID
		text string
		from segment.LSN
		want map[string][]byte
		laid Laid
	}{
		{
			name: "more than are fetched at a time, and a tail", t: 1, from: at(3, 5*testPage),
			put: func(w *world) {
				for n := range uint64(12) {
					w.put(seg(1, n+1), wal(seg(1, n+1), full))
				}
				w.putPartial(seg(1, 13), wal(seg(1, 13), 2*testPage+100))
			},
			want: func() map[string][]byte {
				want := map[string][]byte{name(seg(1, 13)): wal(seg(1, 13), 2*testPage+100)}
				for n := uint64(3); n <= 12; n++ {
					want[name(seg(1, n))] = wal(seg(1, n), full)
				}
				return want
			}(),
			laid: Laid{Segments: 11, First: name(seg(1, 3)), Last: name(seg(1, 13)), Resume: at(13, 0)},
		},
		{
			name: "the child's copy of the forked segment", t: 2, text: second, from: at(3, 0),
			put: func(w *world) {
				w.putHistory(2, second)
				for n := uint64(1); n <= 6; n++ { // the old primary lived on
					w.put(seg(1, n), wal(seg(1, n), full))
				}
				w.put(seg(2, 4), wal(seg(2, 4), full))
				w.put(seg(2, 5), wal(seg(2, 5), full))
			},
			want: map[string][]byte{
				"00000002.history": []byte(second), name(seg(1, 3)): wal(seg(1, 3), full),
				name(seg(2, 4)): wal(seg(2, 4), full), name(seg(2, 5)): wal(seg(2, 5), full),
			},
			laid: Laid{Segments: 3, First: name(seg(1, 3)), Last: name(seg(2, 5)), Resume: at(5, 0)},
		},
		{
			name: "the ancestor's up to the fork", t: 2, text: second, from: at(3, 0),
			put: func(w *world) {
				w.putHistory(2, second)
				for n := uint64(3); n <= 6; n++ {
					w.put(seg(1, n), wal(seg(1, n), full))
				}
			},
			want: map[string][]byte{
				"00000002.history": []byte(second), name(seg(1, 3)): wal(seg(1, 3), full), name(seg(1, 4)): wal(seg(1, 4), fork),
			},
			laid: Laid{Segments: 2, First: name(seg(1, 3)), Last: name(seg(1, 4)), Resume: at(4, 0)},
		},
		{
			name: "a fork on a border", t: 2, text: onBorder, from: at(3, 0),
			put: func(w *world) {
				w.putHistory(2, onBorder)
				w.put(seg(1, 3), wal(seg(1, 3), full))
				w.put(seg(1, 4), wal(seg(1, 4), full))
				w.putPartial(seg(2, 4), wal(seg(2, 4), testPage))
			},
			want: map[string][]byte{
				"00000002.history": []byte(onBorder), name(seg(1, 3)): wal(seg(1, 3), full), name(seg(2, 4)): wal(seg(2, 4), testPage),
			},
			laid: Laid{Segments: 2, First: name(seg(1, 3)), Last: name(seg(2, 4)), Resume: at(4, 0)},
		},
		{
			name: "two forks in a segment", t: 3, text: third, from: at(3, 0),
			put: func(w *world) {
				w.putHistory(2, second)
				w.putHistory(3, third)
				w.put(seg(1, 3), wal(seg(1, 3), full))
				w.putPartial(seg(1, 4), wal(seg(1, 4), fork))
				w.putPartial(seg(2, 4), wal(seg(2, 4), fork+testPage))
				w.put(seg(3, 4), wal(seg(3, 4), full))
				w.put(seg(3, 5), wal(seg(3, 5), full))
			},
			want: map[string][]byte{
				"00000002.history": []byte(second), "00000003.history": []byte(third), name(seg(1, 3)): wal(seg(1, 3), full),
				name(seg(3, 4)): wal(seg(3, 4), full), name(seg(3, 5)): wal(seg(3, 5), full),
			},
			laid: Laid{Segments: 3, First: name(seg(1, 3)), Last: name(seg(3, 5)), Resume: at(5, 0)},
		},
		{
			name: "on an abandoned timeline", t: 1, from: at(3, 0),
			put: func(w *world) {
				w.putHistory(2, second)
				w.put(seg(1, 3), wal(seg(1, 3), full))
				w.put(seg(1, 4), wal(seg(1, 4), full))
				w.put(seg(2, 4), wal(seg(2, 4), full))
			},
			want: map[string][]byte{name(seg(1, 3)): wal(seg(1, 3), full), name(seg(1, 4)): wal(seg(1, 4), full)},
			laid: Laid{Segments: 2, First: name(seg(1, 3)), Last: name(seg(1, 4)), Resume: at(4, 0)},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			// A standby's directory: the answers of a standby are too lenient here.
			inMode(t, standbySignal, func(t *testing.T, w *world) {
				tt.put(w)
				w.durable()
				laid, err := Lay(t.Context(), w.o, "/data", w.route(tt.t, tt.text, tt.from))
				if err != nil || laid != tt.laid {
					t.Fatalf("%+v, %v", laid, err)
				}
				w.wantLaid(tt.want)
			})
		})
	}
}

func TestLayRefuses(t *testing.T) {
	second := history(1, at(3, 2*testPage))
	tests := []struct {
		name   string
		change func(w *world)
		t      segment.TimelineID
		want   string
	}{
		{"a hole", func(w *world) { w.must(w.store.Delete(t.Context(), w.key(seg(1, 2)))) }, 1, name(seg(1, 2)) + ": it is missing, but later"},
		{"nothing from there on", func(w *world) { w.store = storagetest.NewMem(); w.arch = w.archiveOf(testSystem) }, 1, "there is none from 0/100050 on, timeline 1"},
		{"a damaged segment", func(w *world) {
			data, _ := w.store.Get(w.key(seg(1, 2)))
			data[len(data)/2] ^= 1
			w.store.Set(w.key(seg(1, 2)), data)
		}, 1, name(seg(1, 2))},
		{"the history is gone", func(w *world) { w.must(w.store.Delete(t.Context(), historyKey)) }, 2, "00000002.history: it is missing, but there is WAL"},
		{"no history, nor WAL", func(*world) {}, 3, "00000003.history: it is not there"},
		{"no answer", func(w *world) { w.archiveHook = dead }, 1, "no answer within 5m0s: "},
		{"no space", func(w *world) { w.fs.SetCapacity(w.fs.Used() + full) }, 1, "no space left"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inMode(t, standbySignal, func(t *testing.T, w *world) {
				w.putHistory(2, second)
				w.put(seg(2, 3), wal(seg(2, 3), full))
				for n := uint64(1); n <= 3; n++ {
					w.put(seg(1, n), wal(seg(1, n), full))
				}
				tt.change(w)
				text := ""
				if tt.t > 1 {
					text = second
				}
				laid, err := Lay(t.Context(), w.o, "/data", w.route(tt.t, text, at(1, 80)))
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("%+v, %v", laid, err)
				}
			})
		})
	}
}

// TestLayWhileArchiveGrows lets segments arrive between the looks for them: what was
// found behind one that was not whole yet is of no use, and the primary must still
// have that one.
func TestLayWhileArchiveGrows(t *testing.T) {
	for begun, last := range map[int64]uint64{0: 2, testPage + 100: 3} {
		inMode(t, recoverySignal, func(t *testing.T, w *world) {
			want := map[string][]byte{}
			for n := uint64(1); n <= 2; n++ {
				w.put(seg(1, n), wal(seg(1, n), full))
				want[name(seg(1, n))] = wal(seg(1, n), full)
			}
			if begun > 0 {
				w.putPartial(seg(1, 3), wal(seg(1, 3), begun))
				want[name(seg(1, 3))] = wal(seg(1, 3), begun)
			}
			var arrived sync.Once
			w.archiveHook = func(r storagetest.Request) storagetest.Fault {
				if strings.Contains(r.Key, name(seg(1, 4))) {
					arrived.Do(func() {
						time.Sleep(time.Second) // until all others have their answers
						w.put(seg(1, 3), wal(seg(1, 3), full))
						w.put(seg(1, 4), wal(seg(1, 4), full))
					})
				}
				return storagetest.Fault{}
			}
			w.durable()
			laid, err := Lay(t.Context(), w.o, "/data", w.route(1, "", at(1, 0)))
			if err != nil || laid.Resume != at(last, 0) {
				t.Fatalf("%+v, %v", laid, err)
			}
			w.wantLaid(want)
		})
	}
}
