package verify_test

import (
	"bytes"
	"context"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/verify"
	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage/storagetest"
)

func (w *world) chunkKey(n segment.Name, from, to int64) string {
	return archive.Object{
		System: w.id.SystemID, Kind: archive.KindTail, Timeline: n.Timeline,
		Segment: n.Format(w.id.SegmentSize), From: from, To: to,
	}.Key()
}

func (w *world) putChunk(n segment.Name, from, to int64, plain []byte) {
	w.store.Set(w.chunkKey(n, from, to), pack(w.t, plain))
}

// withTail is an archive whose newest segment is there in overlapping pieces.
func withTail(t *testing.T) (w *world, n segment.Name, data []byte) {
	t.Helper()
	r, w := sample(t)
	on := r.on(5)
	n = on[len(on)-1]
	data = r.segments[n]
	w.remove(w.key(n))
	w.putChunk(n, 0, 300_000, data[:300_000])
	w.putChunk(n, 250_000, 600_000, data[250_000:600_000])
	w.putChunk(n, 600_000, 700_000, data[600_000:700_000])
	return w, n, data
}

func TestTail(t *testing.T) {
	w, n, data := withTail(t)
	tailDir := strings.TrimSuffix(w.chunkKey(n, 0, 1), "00000000-00000001.zst")
	first, second := w.chunkKey(n, 0, 300_000), w.chunkKey(n, 250_000, 600_000)
	changed := func(from, to, at int64) []byte {
		plain := bytes.Clone(data[from:to])
		plain[at-from] ^= 1
		return plain
	}
	for what, c := range map[string]struct {
		do     func(w *world)
		kind   verify.Kind // "": sound
		object string
		lsn    int64 // offset in the segment
		finds  int   // without --deep
	}{
		"sound": {func(*world) {}, "", "", 0, 0},
		"replaced by one": {func(w *world) {
			w.putChunk(n, 0, 700_000, data[:700_000])
			w.remove(first)
			w.remove(second)
		}, "", "", 0, 0},
		"whole":               {func(w *world) { w.putChunk(n, 700_000, int64(mib), data[700_000:]) }, "", "", 0, 0},
		"too few bytes":       {func(w *world) { w.removeTail(n); w.putChunk(n, 0, 30, data[:30]) }, "", "", 0, 0},
		"cut":                 {func(w *world) { w.store.Set(second, w.get(second)[:1000]) }, verify.KindDamaged, second, 0, 1},
		"other content":       {func(w *world) { w.putChunk(n, 250_000, 600_000, data[:350_000]) }, verify.KindTail, second, 250_000, 1},
		"they differ":         {func(w *world) { w.putChunk(n, 250_000, 600_000, changed(250_000, 600_000, 299_999)) }, verify.KindTail, second, 250_000, 1},
		"too short":           {func(w *world) { w.putChunk(n, 250_000, 600_000, data[250_000:500_000]) }, verify.KindDamaged, second, 0, 1},
		"one is missing":      {func(w *world) { w.remove(second) }, verify.KindTail, tailDir, 300_000, 1},
		"the first is lost":   {func(w *world) { w.remove(first) }, verify.KindTail, tailDir, 0, 1},
		"a record is damaged": {func(w *world) { w.putChunk(n, 250_000, 600_000, changed(250_000, 600_000, 450_000)) }, verify.KindRecord, tailDir, -1, 0},
		"of another segment":  {func(w *world) { w.putChunk(n, 0, 300_000, w.another(n)[:300_000]); w.remove(second) }, verify.KindMisplaced, tailDir, 0, 2},
		"encrypted":           {func(w *world) { w.encrypt(second) }, verify.KindDamaged, second + ".age", 0, 1},
		"a later one":         {func(w *world) { w.putChunk(n.Next(), 0, 100, make([]byte, 100)) }, verify.KindHole, w.key(n), 0, 2},
		"after a hole": {func(w *world) {
			w.removeTail(n)
			w.putChunk(n.Next(), 0, 30, make([]byte, 30))
		}, verify.KindHole, w.key(n), 0, 1},
	} {
		t.Run(what, func(t *testing.T) {
			w := w.clone(t)
			c.do(w)
			for _, deep := range []bool{false, true} {
				got := w.verify(verify.Options{Deep: deep, Since: n.Start(mib)}) // the rest takes longer
				if c.kind == "" {
					wantSound(t, got)
					continue
				}
				if !deep && len(got.Findings) != c.finds {
					t.Errorf("%d findings, want %d: %q", len(got.Findings), c.finds, spelled(got.Findings))
				}
				if !deep && c.finds == 0 {
					continue
				}
				wantFound(t, got, c.kind, c.object)
				i := slices.IndexFunc(got.Findings, func(f verify.Finding) bool { return f.Kind == c.kind })
				if want := n.Start(mib) + segment.LSN(c.lsn); i >= 0 && c.lsn >= 0 && got.Findings[i].LSN != want {
					t.Errorf("at %s, want %s", got.Findings[i].LSN, want)
				}
			}
		})
	}
}

// another is a segment that is not n.
func (w *world) another(n segment.Name) []byte {
	w.t.Helper()
	plain, err := unpack(w.get(w.key(segment.Name{Timeline: n.Timeline, Number: n.Number - 1})))
	if err != nil {
		w.t.Fatal(err)
	}
	return plain
}

func (w *world) removeTail(n segment.Name) {
	for _, key := range w.store.Keys() {
		if strings.Contains(key, "/tail/"+n.Format(mib)+"/") {
			w.remove(key)
		}
	}
}

func TestReportOfATail(t *testing.T) {
	w, n, data := withTail(t)
	got := w.verify(verify.Options{Deep: true})
	wantSound(t, got)
	last := got.Timelines[len(got.Timelines)-1]
	if got.Chunks != 3 || last.Tail != n.Start(mib)+700_000 || last.End != n.Start(mib) {
		t.Errorf("%d pieces, %+v", got.Chunks, last)
	}
	w.put(n, data)
	got = w.verify(verify.Options{})
	if !got.Sound() || got.Chunks != 0 || len(got.Notices) != 1 || got.Notices[0].Kind != verify.KindLeftover ||
		!strings.HasPrefix(got.Notices[0].Message, "3 pieces") {
		t.Errorf("%d pieces, findings %q, notices %q", got.Chunks, spelled(got.Findings), spelled(got.Notices))
	}
}

// TestEveryBitOfATail samples: no flipped bit of an object goes unnoticed.
func TestEveryBitOfATail(t *testing.T) {
	w, n, _ := withTail(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	key := w.chunkKey(n, 600_000, 700_000)
	sound := w.get(key)
	since := verify.Options{Since: n.Start(mib)}
	for range 40 {
		data := bytes.Clone(sound)
		bit := r.IntN(8 * len(data))
		data[bit/8] ^= 1 << (bit % 8)
		w.store.Set(key, data)
		if got := w.verify(since); got.Sound() {
			// What says nothing about the content: the trailer ignores what it does not know.
			if plain, err := unpack(data); err != nil || !bytes.Equal(pack(t, plain), sound) {
				t.Errorf("bit %d of byte %d of %d went unnoticed", bit%8, bit/8, len(data))
			}
		}
	}
}

// The writer replaces pieces, and completes the segment, while they are read.
func TestTailOnTheMove(t *testing.T) {
	sound, n, data := withTail(t)
	for what, step := range map[string]func(w *world){
		"replaced": func(w *world) {
			w.removeTail(n)
			w.putChunk(n, 0, 800_000, data[:800_000])
		},
		"completed": func(w *world) {
			w.removeTail(n)
			w.put(n, data)
		},
	} {
		w := sound.clone(t)
		done := false
		store := storagetest.NewFaulty(w.store, func(r storagetest.Request) storagetest.Fault {
			if !done && r.Op == storagetest.OpOpen && strings.Contains(r.Key, "/tail/") {
				done = true
				step(w)
			}
			return storagetest.Fault{}
		})
		got := w.verifyOn(store, verify.Options{})
		if !done || !got.Sound() || !got.Complete() {
			t.Errorf("%s: %t, findings %q", what, done, spelled(got.Findings))
		}
	}
	// A hole is looked at again: what was in flight has come.
	w := sound.clone(t)
	second := w.get(w.chunkKey(n, 250_000, 600_000))
	w.remove(w.chunkKey(n, 250_000, 600_000))
	got := w.verify(verify.Options{Pause: func(context.Context) error {
		w.store.Set(w.chunkKey(n, 250_000, 600_000), second)
		return nil
	}})
	wantSound(t, got)
	// One that cannot be had, whatever the listing says.
	w = sound.clone(t)
	store := storagetest.NewFaulty(w.store, func(r storagetest.Request) storagetest.Fault {
		if r.Op == storagetest.OpOpen && r.Key == w.chunkKey(n, 250_000, 600_000) {
			return storagetest.Fault{Before: fs.ErrNotExist}
		}
		return storagetest.Fault{}
	})
	if got := w.verifyOn(store, verify.Options{}); got.Sound() {
		t.Error("a piece that is listed and not there is sound")
	}
}
