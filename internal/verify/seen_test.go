package verify_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
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
	w.remove(w.key(n))
	wantFound(t, w.verify(verify.Options{}), verify.KindMarked, key)
	if got := w.verify(verify.Options{Since: n.End(mib)}); !got.Sound() {
		t.Errorf("from behind it: %q", spelled(got.Findings))
	}
}

// putAll archives a recording as the uploader does, with what it finds out about
// each segment.
func (r *recording) putAll(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, r.id)
	a, err := archive.Open(t.Context(), w.store, r.id.SystemID)
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
	a, err := archive.Open(t.Context(), w.store, r.id.SystemID)
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

// TestIndexRemembers: a segment that was replaced by another sound one is found by
// the index, also where its records cannot tell.
func TestIndexRemembers(t *testing.T) {
	r, sound := sample(t)
	w := sound.clone(t)
	n := r.on(1)[1]
	text := fmt.Sprintf(`{"format":1,"segments":[{"name":"%s","sha256":"%s"}]}`, n.Format(mib), strings.Repeat("ab", 32))
	object := pack(t, []byte(text))
	at := bytes.Index(object, []byte(`"sha256":"`)) + 10
	w.store.Set(archive.Object{
		System: r.id.SystemID, Kind: archive.KindIndex, Timeline: 1, Segment: n.Format(mib), Last: n.Format(mib), Digest: string(object[at : at+8]),
	}.Key(), object)
	got := w.verify(verify.Options{})
	wantFound(t, got, verify.KindDamaged, w.key(n))
	if len(got.Findings) != 1 || len(got.Notices) != 0 {
		t.Errorf("findings %q, notices %q", spelled(got.Findings), spelled(got.Notices))
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
		a, err := archive.Open(t.Context(), sound.store, r.id.SystemID)
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
