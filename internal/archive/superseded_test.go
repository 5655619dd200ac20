package archive

import (
	"fmt"
	"testing"

	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage/storagetest"
)

// A partial that ends before its timeline does, and of which the archive has more,
// is not put beside that.
func TestPartialOfAReceiverThatWasAway(t *testing.T) {
	n := name(1, 3)
	const fork = 3*pageSize - 12 // in the segment: where the third page ends, but for zeros
	ours := wal(n, 1, 0)         // one page of it
	for _, test := range []struct {
		name     string
		ours     []byte
		partial  []byte // in the archive; nil: none
		complete []byte // in the archive; nil: none
		damage   bool   // to what is there
		want     int    // partials in the end
	}{
		{"more of it is there", ours, wal(n, 3, 0), nil, false, 1},
		{"the segment is complete there", ours, nil, wal(n, 128, 0), false, 0},
		{"it reaches the fork", wal(n, 3, 0), wal(n, 4, 0), nil, false, 2},
		{"something else is there", ours, wal(n, 3, 1), nil, false, 2},
		{"another segment is complete there", ours, nil, wal(n, 128, 1), false, 1},
		{"what is there is damaged", ours, wal(n, 3, 0), nil, true, 2},
		{"nothing is there", ours, nil, nil, false, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t)
			r.file(n.Format(testSize)+".partial", test.ours)
			r.file("00000002.history", fmt.Appendf(nil, "1\t%s\tno recovery target specified\n", n.Start(testSize)+fork))
			scratch := NewScratch(vfs.NewMem(), "/")
			if test.partial != nil {
				if err := r.archive.PutPartial(t.Context(), scratch, n, opener(test.partial)); err != nil {
					t.Fatal(err)
				}
			}
			if test.complete != nil {
				mustPut(t, r.archive, scratch, n, test.complete)
			}
			if test.damage {
				for _, key := range r.mem.Keys() {
					if o, err := ParseKey(key); err == nil && o.Kind == KindPartial {
						r.mem.Set(key, []byte("damaged"))
					}
				}
			}
			// An answer that does not come is waited for.
			var listed bool
			store := storagetest.NewFaulty(r.mem, func(q storagetest.Request) storagetest.Fault {
				first := q.Op == storagetest.OpList && !listed
				listed = listed || first
				if first {
					return storagetest.Fault{Before: storagetest.ErrInjected}
				}
				return storagetest.Fault{}
			})
			if err := r.uploader(r.disk, store, 1).Drain(t.Context()); err != nil {
				t.Fatal(err)
			}
			partials, err := r.archive.Partials(t.Context(), n)
			if err != nil || len(partials) != test.want {
				t.Errorf("partials: %v, %v, want %d", partials, err, test.want)
			}
			if _, err := r.archive.History(t.Context(), segment.TimelineID(2)); err != nil {
				t.Errorf("the history that waits for the partial: %v", err)
			}
		})
	}
}
