package verify_test

import (
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/verify"
)

const startPatience = time.Minute

// TestSoundArchive: there is nothing wrong with what real servers write.
func TestSoundArchive(t *testing.T) {
	eachMajor(t, func(t *testing.T, r *recording) {
		t.Logf("%d segments, %d partials, forks %v", len(r.segments), len(r.partials), r.last.Entries)
		if n := len(r.last.Entries); n != 4 || len(r.partials) != 3 {
			t.Fatalf("%d timelines before the last one, %d partials", n, len(r.partials))
		}
		for i, border := range []bool{false, true, false, false} {
			if (mib.Offset(r.last.Entries[i].End) == 0) != border {
				t.Errorf("fork %d is at %s", i, r.last.Entries[i].End)
			}
		}
		w := r.world(t, nil)
		for _, deep := range []bool{false, true} {
			got := w.verify(verify.Options{Deep: deep, Workers: 3})
			wantSound(t, got)
			if got.Segments != len(r.segments) || got.Partials != len(r.partials) ||
				got.Bytes != int64(len(r.segments)+len(r.partials))<<20 || len(got.Timelines) != 5 {
				t.Errorf("deep %v: %+v", deep, got)
			}
			// Nobody knows how the record began with which the recording begins.
			if deep && (got.Records < 10_000 || got.Unchecked > 8192) {
				t.Errorf("%d records, %d bytes unchecked", got.Records, got.Unchecked)
			}
		}
	})
}

// TestEveryBeginning: wherever an archive begins, and however it is cut into
// stretches, the records at the borders are checked.
func TestEveryBeginning(t *testing.T) {
	fewMajors(t, func(t *testing.T, r *recording) {
		w := r.world(t, nil)
		records := w.verify(verify.Options{Deep: true}).Records
		shorter := 0
		for _, first := range r.names() {
			got := w.verify(verify.Options{Deep: true, Workers: 1})
			wantSound(t, got)
			if got.Records > records {
				t.Errorf("%d records from %s on, %d before", got.Records, first.Format(mib), records)
			} else if got.Records < records {
				shorter++
			}
			records = got.Records
			w.remove(w.key(first))
			for n, data := range r.partials {
				if n.Number <= first.Number {
					w.remove(w.partialKey(n, data))
				}
			}
		}
		if shorter < 10 {
			t.Errorf("only %d segments had records", shorter)
		}
	})
}
