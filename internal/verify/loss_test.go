package verify_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/verify"
	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage"
	"github.com/walrecv/walrecv/storage/storagetest"
)

// putIndex puts an object of the index about segments, with their digests, or else
// with a digest that none has.
func (w *world) putIndex(digest string, names ...segment.Name) string {
	w.t.Helper()
	var entries []string
	for _, n := range names {
		d := digest
		if d == "" {
			object := w.get(w.key(n))
			d = between(object, `"sha256":"`, 64)
		}
		entries = append(entries, fmt.Sprintf(`{"name":"%s","sha256":"%s"}`, n.Format(mib), d))
	}
	object := pack(w.t, fmt.Appendf(nil, `{"format":1,"segments":[%s]}`, strings.Join(entries, ",")))
	key := archive.Object{
		System: w.id.SystemID, Kind: archive.KindIndex, Timeline: names[0].Timeline,
		Segment: names[0].Format(mib), Last: names[len(names)-1].Format(mib), Digest: between(object, `"sha256":"`, 8),
	}.Key()
	w.store.Set(key, object)
	return key
}

// between is the text of a length behind the last mark in an object.
func between(object []byte, mark string, length int) string {
	at := bytes.LastIndex(object, []byte(mark)) + len(mark)
	return string(object[at : at+length])
}

// TestIndexRemembers: a segment that was replaced by another sound one is found by
// the index, also where its records cannot tell; and is told once.
func TestIndexRemembers(t *testing.T) {
	r, sound := sample(t)
	w := sound.clone(t)
	n := r.on(1)[1]
	w.putIndex(strings.Repeat("ab", 32), n)
	got := w.verify(verify.Options{})
	wantFound(t, got, verify.KindDamaged, w.key(n))
	if len(got.Findings) != 1 || len(got.Notices) != 0 {
		t.Errorf("findings %q, notices %q", spelled(got.Findings), spelled(got.Notices))
	}
	w.put(n, r.segments[r.other(n)])
	if got := w.verify(verify.Options{}); len(got.Findings) != 1 || got.Findings[0].Kind != verify.KindMisplaced {
		t.Errorf("misplaced, too: %q", spelled(got.Findings))
	}
}

// TestIndexRemembersWhatIsLost: what the index names was there once.
func TestIndexRemembersWhatIsLost(t *testing.T) {
	r, sound := sample(t)
	indexed := sound.clone(t)
	for timeline := range segment.TimelineID(5) {
		if on := r.on(timeline + 1); len(on) > 0 {
			indexed.putIndex("", on...)
		}
	}
	wantSound(t, indexed.verify(verify.Options{}))
	first, newest := r.on(1), r.on(5)
	all := func(keep func(key string) bool) func(*world) {
		return func(w *world) {
			for _, key := range w.store.Keys() {
				if strings.Contains(key, "/wal/") && !keep(key) {
					w.remove(key)
				}
			}
		}
	}
	for what, c := range map[string]struct {
		do             func(w *world)
		kinds, notices []verify.Kind
	}{
		"all WAL": {all(func(string) bool { return false }), []verify.Kind{verify.KindEmpty, verify.KindHole, verify.KindHole, verify.KindHole, verify.KindHole}, nil},
		"the newest timeline and its history": {
			all(func(key string) bool { return !strings.Contains(key, "/00000005") }), []verify.Kind{verify.KindHole}, nil,
		},
		"its last segment":   {func(w *world) { w.remove(w.key(newest[len(newest)-1])) }, []verify.Kind{verify.KindHole}, nil},
		"one in the middle":  {func(w *world) { w.remove(w.key(first[2])) }, []verify.Kind{verify.KindHole}, nil},
		"the oldest segment": {func(w *world) { w.remove(w.key(first[0])) }, nil, []verify.Kind{verify.KindRemoved}},
		"the oldest and a later one": {
			func(w *world) { w.remove(w.key(first[0])); w.remove(w.key(first[2])) }, []verify.Kind{verify.KindHole}, []verify.Kind{verify.KindRemoved},
		},
		"all of timeline 1": {
			all(func(key string) bool { return !strings.Contains(key, "/00000001/") }), nil, []verify.Kind{verify.KindRemoved},
		},
	} {
		w := indexed.clone(t)
		c.do(w)
		got := w.verify(verify.Options{})
		if !slices.Equal(kinds(got.Findings), c.kinds) || !slices.Equal(kinds(got.Notices), c.notices) {
			t.Errorf("%s: findings %q, notices %q", what, spelled(got.Findings), spelled(got.Notices))
		}
		for _, f := range got.Findings {
			if f.Kind == verify.KindHole && !strings.Contains(f.Message, "the index of the archive has it") {
				t.Errorf("%s: %q", what, f.Message)
			}
		}
	}
}

func kinds(list []verify.Finding) (kinds []verify.Kind) {
	for _, f := range list {
		kinds = append(kinds, f.Kind)
	}
	slices.Sort(kinds)
	return kinds
}

// TestEmptyArchive: what holds nothing is not sound.
func TestEmptyArchive(t *testing.T) {
	r, _ := sample(t)
	got := newWorld(t, r.id).verify(verify.Options{})
	if len(got.Findings) != 1 || got.Findings[0].Kind != verify.KindEmpty || got.Findings[0].Advice == "" {
		t.Errorf("%q", spelled(got.Findings))
	}
}

// TestIndexIsACache: an index that is damaged, or not to be had, is no reason not
// to verify the archive.
func TestIndexIsACache(t *testing.T) {
	r, sound := sample(t)
	w := sound.clone(t)
	key := w.putIndex("", r.on(1)...)
	w.store.Set(key, w.get(key)[:100])
	got := w.verify(verify.Options{})
	if !got.Sound() || len(got.Notices) != 1 || got.Notices[0].Kind != verify.KindIndex || got.Notices[0].Object != key || !strings.Contains(got.Notices[0].Advice, "cache") {
		t.Errorf("damaged: findings %q, notices %q", spelled(got.Findings), spelled(got.Notices))
	}
	bad := storagetest.NewFaulty(w.store, func(r storagetest.Request) storagetest.Fault {
		if r.Op == storagetest.OpList && strings.HasSuffix(r.Key, "/index/") {
			return storagetest.Fault{Before: storagetest.ErrInjected}
		}
		return storagetest.Fault{}
	})
	got = w.verifyOn(bad, verify.Options{})
	if !got.Sound() || !got.Complete() || len(got.Notices) != 1 || got.Notices[0].Kind != verify.KindIndex || !strings.Contains(got.Notices[0].Message, "not checked") {
		t.Errorf("not to be listed: findings %q, notices %q", spelled(got.Findings), spelled(got.Notices))
	}
}

// leaving is a store that leaves keys out when they are listed: before the first
// look these, before the second those.
type leaving struct {
	storage.Store
	looks *int
	out   [][]string
}

func (l leaving) List(ctx context.Context, prefix string, fn func(storage.Info) error) error {
	return l.Store.List(ctx, prefix, func(info storage.Info) error {
		if *l.looks < len(l.out) && slices.Contains(l.out[*l.looks], info.Key) {
			return nil
		}
		return fn(info)
	})
}

// TestWhileAReceiverUploads: segments need not arrive in order.
func TestWhileAReceiverUploads(t *testing.T) {
	r, sound := sample(t)
	on := r.on(5)
	last := len(on) - 1
	key := func(i int) string { return sound.key(on[last-i]) }
	for what, c := range map[string]struct {
		out            [][]string
		looks          int
		kinds, notices []verify.Kind
	}{
		"one came late":       {[][]string{{key(1)}}, 2, nil, nil},
		"one after another":   {[][]string{{key(0), key(2)}, {key(1)}}, 3, nil, nil},
		"another and another": {[][]string{{key(0), key(1), key(3)}, {key(0), key(2)}, {key(1)}}, 3, nil, []verify.Kind{verify.KindArriving}},
		"lost":                {[][]string{{key(1)}, {key(1)}, {key(1)}}, 2, []verify.Kind{verify.KindHole}, nil},
		"a history":           {[][]string{{sound.historyKey(5)}}, 2, nil, nil},
	} {
		looks := 1
		got := sound.verifyOn(leaving{sound.store, &looks, append([][]string{nil}, c.out...)}, verify.Options{
			Pause: func(context.Context) error { looks++; return nil },
		})
		if looks != c.looks || !slices.Equal(kinds(got.Findings), c.kinds) || !slices.Equal(kinds(got.Notices), c.notices) {
			t.Errorf("%s: %d looks, findings %q, notices %q", what, looks, spelled(got.Findings), spelled(got.Notices))
		}
	}
}

// TestWrongSize: one thing is wrong, and not every segment.
func TestWrongSize(t *testing.T) {
	r, sound := sample(t)
	for _, size := range []segment.Size{2 << 20, 16 << 20, 64 << 20} {
		w := sound.clone(t)
		key := archive.Object{System: r.id.SystemID, Kind: archive.KindIdentity}.Key()
		w.store.Set(key, bytes.Replace(w.get(key), []byte(`:1048576`), fmt.Appendf(nil, ":%d", int64(size)), 1))
		got := w.verify(verify.Options{Deep: true})
		wantFound(t, got, verify.KindDamaged, key)
		if len(got.Findings) != 1 || got.Segments != 0 {
			t.Errorf("%s: %q", size, spelled(got.Findings))
		}
	}
}
