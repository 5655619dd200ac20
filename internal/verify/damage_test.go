package verify_test

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"github.com/walrecv/walrecv/internal/pgtest"
	"github.com/walrecv/walrecv/internal/verify"
	"github.com/walrecv/walrecv/segment"
)

// sample is the recording that damage is done to, and an archive of it that
// nobody changes.
func sample(t *testing.T) (*recording, *world) {
	t.Helper()
	r := record(t, pgtest.Version(t))
	return r, r.world(t, nil)
}

// middle is a segment of timeline 1 whose neighbours are there, too, and that is
// full of records.
func (r *recording) middle() segment.Name {
	on := r.on(1)
	return on[len(on)-1]
}

// TestMisplaced: objects that are sound by themselves, and are not what their
// names say.
func TestMisplaced(t *testing.T) {
	r, sound := sample(t)
	a, b := r.on(1)[1], r.on(1)[2]
	other := r.id
	other.SystemID++
	foreign := bytes.Clone(r.segments[a])
	binary.LittleEndian.PutUint64(foreign[24:], other.SystemID)
	child := r.on(2)[1]
	for what, c := range map[string]struct {
		do     func(w *world)
		kind   verify.Kind
		object string
		finds  int // without --deep
	}{
		"under another's name": {func(w *world) { w.put(a, r.segments[b]) }, verify.KindMisplaced, sound.key(a), 1},
		"exchanged": {func(w *world) {
			w.put(a, r.segments[b])
			w.put(b, r.segments[a])
		}, verify.KindMisplaced, sound.key(b), 2},
		"of another cluster":  {func(w *world) { w.put(a, foreign) }, verify.KindMisplaced, sound.key(a), 1},
		"of a parent":         {func(w *world) { w.put(child, retimed(r.segments[child], 1)) }, verify.KindMisplaced, sound.key(child), 1},
		"of a later timeline": {func(w *world) { w.put(a, retimed(r.segments[a], 2)) }, verify.KindMisplaced, sound.key(a), 1},
		"all zeros":           {func(w *world) { w.put(a, make([]byte, mib)) }, verify.KindMisplaced, sound.key(a), 1},
		"without a digest":    {func(w *world) { w.store.Set(w.key(a), w.get(w.key(a))[:len(w.get(w.key(a)))-20]) }, verify.KindDamaged, sound.key(a), 1},
		"too short":           {func(w *world) { w.put(a, r.segments[a][:mib-1]) }, verify.KindDamaged, sound.key(a), 1},
		"too long":            {func(w *world) { w.put(a, append(bytes.Clone(r.segments[a]), 0)) }, verify.KindDamaged, sound.key(a), 1},
		"empty":               {func(w *world) { w.store.Set(w.key(a), nil) }, verify.KindDamaged, sound.key(a), 1},
		"something else":      {func(w *world) { w.store.Set(w.key(a), []byte("moved to tape")) }, verify.KindDamaged, sound.key(a), 1},
		"no age file":         {func(w *world) { w.encrypt(w.key(a)) }, verify.KindDamaged, sound.key(a) + ".age", 1},
		"missing":             {func(w *world) { w.remove(w.key(a)) }, verify.KindHole, sound.key(a), 1},
		"missing history":     {func(w *world) { w.remove(w.historyKey(3)) }, verify.KindHistory, sound.historyKey(3), 1},
		"empty history":       {func(w *world) { w.putHistory(3, nil) }, verify.KindHistory, sound.historyKey(3), 1},
		"history of another":  {func(w *world) { w.putHistory(3, []byte("9\t0/100\tx\n")) }, verify.KindHistory, sound.historyKey(3), 1},
		"partial of another":  {func(w *world) { w.swapPartials() }, verify.KindDamaged, "", 2},
		"partial no age file": {func(w *world) { w.encrypt(w.aPartial()) }, verify.KindDamaged, sound.aPartial() + ".age", 1},
	} {
		t.Run(what, func(t *testing.T) {
			w := sound.clone(t)
			c.do(w)
			for _, deep := range []bool{false, true} {
				got := w.verify(verify.Options{Deep: deep})
				if c.object != "" {
					wantFound(t, got, c.kind, c.object)
				}
				if n := len(got.Findings); n < c.finds || !deep && n > c.finds {
					t.Errorf("deep %v: %d findings: %q", deep, n, spelled(got.Findings))
				}
				for _, f := range got.Findings {
					if f.Kind != c.kind && f.Kind != verify.KindRecord || f.Advice == "" || f.LSN == 0 && f.Kind != verify.KindHistory {
						t.Errorf("deep %v: %+v", deep, f)
					}
				}
				if len(got.Unread)+len(got.Notices) > 0 {
					t.Errorf("deep %v: unread %q, notices %q", deep, got.Unread, got.Notices)
				}
			}
		})
	}
}

// retimed is a segment with another timeline on every page.
func retimed(data []byte, timeline uint32) []byte {
	data = bytes.Clone(data)
	for page := range slices.Chunk(data, 8192) {
		if !unused(page) {
			binary.LittleEndian.PutUint32(page[4:], timeline)
		}
	}
	return data
}

func (w *world) encrypt(key string) {
	data := w.get(key)
	w.remove(key)
	w.store.Set(key+".age", data)
}

func (w *world) partialKeys() []string {
	return slices.DeleteFunc(w.store.Keys(), func(key string) bool { return !strings.HasSuffix(key, ".partial.zst") })
}

func (w *world) aPartial() string { return w.partialKeys()[0] }

// swapPartials exchanges two partials.
func (w *world) swapPartials() {
	keys := w.partialKeys()
	a, b := w.get(keys[0]), w.get(keys[1])
	w.store.Set(keys[0], b)
	w.store.Set(keys[1], a)
}

// TestForgedHistory moves each fork, within its page, to another page, and to
// another segment. The deep verification finds all of it.
func TestForgedHistory(t *testing.T) {
	fewMajors(t, func(t *testing.T, r *recording) {
		sound := r.world(t, nil)
		for i, e := range r.last.Entries {
			timeline := segment.TimelineID(i + 2)
			moves := []int64{-8, 64, 8192, -int64(mib), 8, 24, -8192, int64(mib), -3 * int64(mib), 3 * int64(mib)}
			for _, by := range moves[:tries(4, len(moves))] {
				forged := segment.LSN(int64(e.End) + by)
				w := sound.clone(t)
				// The forger has thought of all histories.
				for t := timeline; t <= r.last.Timeline; t++ {
					text := strings.ReplaceAll(string(r.histories[t]), "\t"+e.End.String()+"\t", "\t"+forged.String()+"\t")
					w.putHistory(t, []byte(text))
				}
				got := w.verify(verify.Options{Deep: true})
				if got.Sound() || !slices.ContainsFunc(got.Findings, func(f verify.Finding) bool { return f.Timeline >= timeline-1 && f.Advice != "" }) {
					t.Errorf("fork of timeline %d at %s instead of %s: %q", timeline, forged, e.End, spelled(got.Findings))
				}
			}
		}
	})
}

// TestCopiesInFrontOfAFork: the parent's partial and the child's first segment
// have the same bytes there, and if not, not all is well, whatever each says.
func TestCopiesInFrontOfAFork(t *testing.T) {
	r, sound := sample(t)
	n := segment.Name{Timeline: 1, Number: mib.Number(r.last.Entries[0].End)}
	other := bytes.Clone(r.partials[n])
	other[100] ^= 1
	w := sound.clone(t)
	w.putPartial(n, other) // another server's, beside the right one
	got := w.verify(verify.Options{})
	if len(got.Findings) != 1 || got.Findings[0].Kind != verify.KindHistory || !strings.Contains(got.Findings[0].Message, w.partialKey(n, other)) {
		t.Errorf("%q", spelled(got.Findings))
	}
	behind := bytes.Clone(r.partials[n])
	behind[mib.Offset(r.last.Entries[0].End)] ^= 1
	w = sound.clone(t)
	w.putPartial(n, behind)
	wantSound(t, w.verify(verify.Options{}))
}

// TestPartialMustReachTheFork: what a partial holds behind the fork is nobody's
// business; in front of it there is no recovery to it otherwise.
func TestPartialMustReachTheFork(t *testing.T) {
	r, sound := sample(t)
	for n, plain := range r.partials {
		_, fork, _ := r.last.Bounds(n.Timeline)
		end := int(mib.Offset(fork))
		for _, c := range []struct {
			what  string
			do    func(p []byte)
			sound bool
		}{
			{"a byte behind the fork", func(p []byte) { p[end+9] ^= 1 }, true},
			{"garbage behind the fork", func(p []byte) { copy(p[end:], r.segments[r.middle()][end:]) }, true},
			{"the last byte in front", func(p []byte) { p[end-1] ^= 1 }, false},
			{"cut off in front", func(p []byte) { clear(p[end-48:]) }, false},
		} {
			w := sound.clone(t)
			w.remove(w.partialKey(n, plain))
			changed := bytes.Clone(plain)
			c.do(changed)
			w.putPartial(n, changed)
			got := w.verify(verify.Options{Deep: true})
			if got.Sound() != c.sound {
				t.Errorf("timeline %d, %s: %q", n.Timeline, c.what, spelled(got.Findings))
			}
			if !c.sound {
				wantFound(t, got, verify.KindPartial, w.partialKey(n, changed))
			}
		}
	}
}
