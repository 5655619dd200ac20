package verify_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/verify"
	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage/storagetest"
)

func (w *world) putFinding(kind archive.Kind, file string, content []byte, err error) string {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
	key := archive.Object{System: w.id.SystemID, Kind: kind, File: file}.Key()
	w.store.Set(key, content)
	return key
}

// TestGaps: a hole that was accepted is told, and is no fault; one that is larger
// than what was accepted is.
func TestGaps(t *testing.T) {
	r, sound := sample(t)
	on := r.on(1)
	w := sound.clone(t)
	w.remove(w.key(on[2]))
	w.remove(w.key(on[3]))
	gap := segment.Gap{
		Timeline: 1, From: on[2].Start(mib), To: on[3].End(mib), Reason: "the slot was lost",
		Found: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
	}
	content, err := gap.Encode()
	key := w.putFinding(archive.KindGap, gap.FileName(), content, err)
	for _, deep := range []bool{false, true} {
		got := w.verify(verify.Options{Deep: deep})
		if !got.Sound() || len(got.Notices) != 1 || got.Notices[0].Kind != verify.KindGap ||
			!strings.Contains(got.Notices[0].Message, "2 segments are missing") || !strings.Contains(got.Notices[0].Message, "2026-01-02 03:04:05Z: the slot was lost") {
			t.Errorf("findings %q, notices %q", spelled(got.Findings), spelled(got.Notices))
		}
	}
	w.remove(w.key(on[4]))
	got := w.verify(verify.Options{})
	wantFound(t, got, verify.KindHole, w.key(on[4]))
	if len(got.Findings) != 1 || len(got.Notices) != 1 {
		t.Errorf("findings %q, notices %q", spelled(got.Findings), spelled(got.Notices))
	}
	w.store.Set(key, []byte("{"))
	got = w.verify(verify.Options{})
	wantFound(t, got, verify.KindDamaged, key)
	wantFound(t, got, verify.KindHole, w.key(on[2]))
}

// TestMarks: what the receiver saw counts, until the records were read again.
func TestMarks(t *testing.T) {
	r, sound := sample(t)
	n := r.middle()
	w := sound.clone(t)
	mark := segment.Mark{Name: n, LSN: n.Start(mib) + 4096, End: n.Start(mib), Reason: "the checksum of the record does not match", Found: time.Now()}
	content, err := mark.Encode(mib)
	key := w.putFinding(archive.KindMark, mark.FileName(mib), content, err)
	got := w.verify(verify.Options{})
	wantFound(t, got, verify.KindMarked, key)
	if !strings.Contains(got.Findings[0].Message, mark.Reason) {
		t.Errorf("%q", spelled(got.Findings))
	}
	got = w.verify(verify.Options{Deep: true})
	if !got.Sound() || len(got.Notices) != 1 || got.Notices[0].Kind != verify.KindMark || !strings.Contains(got.Notices[0].Message, "sound") {
		t.Errorf("findings %q, notices %q", spelled(got.Findings), spelled(got.Notices))
	}
	changed := bytes.Clone(r.segments[n])
	changed[300_000] ^= 1
	w.put(n, changed)
	got = w.verify(verify.Options{Deep: true})
	wantFound(t, got, verify.KindRecord, w.key(n))
	if len(got.Notices) != 1 || strings.Contains(got.Notices[0].Message, "sound") {
		t.Errorf("notices %q", spelled(got.Notices))
	}
	for what, do := range map[string]func(){
		"damaged":   func() { w.store.Set(w.key(n), nil) },
		"misplaced": func() { w.put(n, r.segments[r.other(n)]) },
		"missing":   func() { w.remove(w.key(n)) },
	} {
		do()
		got := w.verify(verify.Options{Deep: true})
		if len(got.Notices) != 1 || got.Notices[0].Object != key || slices.ContainsFunc(got.Findings, func(f verify.Finding) bool { return f.Object == key }) {
			t.Errorf("%s: findings %q, notices %q", what, spelled(got.Findings), spelled(got.Notices))
		}
	}
	w.remove(w.key(n))
	if got := w.verify(verify.Options{}); len(got.Findings) != 1 || got.Findings[0].Kind != verify.KindHole || len(got.Notices) != 1 {
		t.Errorf("findings %q, notices %q", spelled(got.Findings), spelled(got.Notices))
	}
	if got := w.verify(verify.Options{Since: n.End(mib)}); !got.Sound() {
		t.Errorf("from behind it: %q", spelled(got.Findings))
	}
}

// TestMarkIsCleared: what was archived in the end was read, and is sound.
func TestMarkIsCleared(t *testing.T) {
	r, _ := sample(t)
	w := r.putAll(t)
	a, err := archive.Open(t.Context(), w.store, r.id.SystemID, archive.Keys{})
	if err != nil {
		t.Fatal(err)
	}
	cleared, kept := 0, 0
	for _, n := range r.on(1) {
		info, err := a.SegmentInfo(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		mark := segment.Mark{Name: n, LSN: n.Start(mib) + 4096, End: n.Start(mib), Reason: "a checksum", Found: time.Now()}
		content, err := mark.Encode(mib)
		key := w.putFinding(archive.KindMark, mark.FileName(mib), content, err)
		got := w.verify(verify.Options{})
		if sound := info.Clears(mark); got.Sound() != sound || sound && (len(got.Notices) != 1 || got.Notices[0].Kind != verify.KindMark) {
			t.Errorf("%+v: findings %q, notices %q", info.Summary, spelled(got.Findings), spelled(got.Notices))
		} else if sound {
			cleared++
		} else {
			kept++
			wantFound(t, got, verify.KindMarked, key)
			if !strings.Contains(got.Findings[0].Advice, "--deep") {
				t.Errorf("%q", got.Findings[0].Advice)
			}
		}
		w.remove(key)
	}
	if cleared == 0 || kept == 0 {
		t.Errorf("%d cleared, %d kept", cleared, kept)
	}
}

// putAll archives a recording as the uploader does, with what it finds out about
// each segment.
func (r *recording) putAll(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, r.id)
	a, err := archive.Open(t.Context(), w.store, r.id.SystemID, archive.Keys{})
	if err != nil {
		t.Fatal(err)
	}
	scratch := archive.NewScratch(vfs.NewMem(), "/")
	for n, data := range r.segments {
		open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
		if err := a.PutSegment(t.Context(), scratch, n, open); err != nil {
			t.Fatal(err)
		}
	}
	for timeline, data := range r.histories {
		w.putHistory(timeline, data)
	}
	return w
}

// TestSince: what is before a position or a time is left out, with all that is
// wrong there.
func TestSince(t *testing.T) {
	r, _ := sample(t)
	w := r.putAll(t)
	all := r.names()
	w.remove(w.key(all[1]))
	wantFound(t, w.verify(verify.Options{}), verify.KindHole, w.key(all[1]))
	a, err := archive.Open(t.Context(), w.store, r.id.SystemID, archive.Keys{})
	if err != nil {
		t.Fatal(err)
	}
	times := 0
	for i, n := range all {
		if i < 3 {
			continue
		}
		for _, deep := range []bool{false, true} {
			got := w.verify(verify.Options{Since: n.Start(mib) + 12345, Deep: deep})
			wantSound(t, got)
			for _, l := range got.Timelines {
				if reached := slices.ContainsFunc(all[i:], func(m segment.Name) bool { return m.Timeline == l.ID }); l.Read != reached {
					t.Errorf("since %s: timeline %d was read: %v", got.Since, uint32(l.ID), l.Read)
				}
			}
			if got.Segments != len(all)-i || got.Since != n.Start(mib) || got.Unchecked != 0 && !r.within(n.Number) && !r.within(n.Number-1) {
				t.Errorf("since %s: %d segments of %d, %d bytes unchecked", got.Since, got.Segments, len(all)-i, got.Unchecked)
			}
		}
		info, err := a.SegmentInfo(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		if info.Summary.LastCommit.IsZero() {
			continue
		}
		got := w.verify(verify.Options{SinceTime: info.Summary.LastCommit})
		if got.Since >= n.Start(mib) {
			t.Errorf("since %s: began at %s, the commit is in the segment at %s", info.Summary.LastCommit, got.Since, n.Start(mib))
		}
		if got.Since != 0 && got.Since != all[0].Start(mib) {
			times++
		}
	}
	if times == 0 {
		t.Error("no time left anything out")
	}
	if _, err := verify.New(a, w.store, verify.Options{Since: 1 << 50}).Run(t.Context()); err == nil {
		t.Error("nothing was verified, and nobody was told")
	}
}

// TestStoreThatFails: what passes is tried again, what stays is not called
// damaged, and a store that is gone is not asked for everything.
func TestStoreThatFails(t *testing.T) {
	r, sound := sample(t)
	bad := sound.key(r.on(1)[3])
	for what, c := range map[string]struct {
		faults func() func(storagetest.Request) storagetest.Fault
		unread func(*verify.Report) bool
	}{
		"at first": {
			func() func(storagetest.Request) storagetest.Fault {
				asked := map[string]int{}
				return func(r storagetest.Request) storagetest.Fault {
					if asked[r.Key]++; !strings.Contains(r.Key, "/wal/") {
						return storagetest.Fault{}
					}
					switch asked[r.Key] {
					case 1, 2:
						return storagetest.Fault{Before: storagetest.ErrInjected}
					case 3:
						if r.Op == storagetest.OpOpen {
							return storagetest.Fault{Cut: &storagetest.Cut{At: 3000, Err: io.ErrUnexpectedEOF}}
						}
					}
					return storagetest.Fault{}
				}
			},
			func(r *verify.Report) bool { return r.Complete() },
		},
		"one object": {
			func() func(storagetest.Request) storagetest.Fault {
				return func(r storagetest.Request) storagetest.Fault {
					if r.Key == bad {
						return storagetest.Fault{Before: storagetest.ErrInjected}
					}
					return storagetest.Fault{}
				}
			},
			func(r *verify.Report) bool { return len(r.Unread) == 1 && r.Unread[0].Object == bad },
		},
		"gone": {
			func() func(storagetest.Request) storagetest.Fault {
				return func(r storagetest.Request) storagetest.Fault {
					return storagetest.Fault{Hang: r.N > 40}
				}
			},
			func(r *verify.Report) bool { return len(r.Unread) > 1 },
		},
	} {
		t.Run(what, func(t *testing.T) {
			for _, deep := range []bool{false, true} {
				synctest.Test(t, func(t *testing.T) {
					w := sound.clone(t)
					got := w.verifyOn(storagetest.NewFaulty(w.store, c.faults()), verify.Options{Deep: deep, Workers: 2})
					if !got.Sound() || !c.unread(got) {
						t.Errorf("deep %v: findings %q, unread %q", deep, spelled(got.Findings), spelled(got.Unread))
					}
				})
			}
		})
	}
	_, err := func() (*verify.Report, error) {
		a, err := archive.Open(t.Context(), sound.store, r.id.SystemID, archive.Keys{})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errors.New("enough"))
		return verify.New(a, sound.store, verify.Options{}).Run(ctx)
	}()
	if err == nil || !slices.Contains([]bool{errors.Is(err, context.Canceled), strings.Contains(err.Error(), "enough")}, true) {
		t.Errorf("stopped: %v", err)
	}
}
