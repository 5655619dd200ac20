package integration

import (
	"os"
	"testing"

	"github.com/walrecv/walrecv/internal/pgtest"
	"github.com/walrecv/walrecv/segment"
)

// TestVerifyFollowsPromotions has archives proven that standbys went on with: one
// in which the old primary's abandoned WAL is archived, too, and one over two
// promotions, with the segments that the dead servers had begun.
func TestVerifyFollowsPromotions(t *testing.T) {
	eachMajor(t, func(t *testing.T, major int) {
		t.Run("abandoned", func(t *testing.T) {
			b := newBranch(t, major)
			b.wal.putHistory(b.new, 2)
			b.archiveChild()
			v, text := verifyArchive(t, b.wal.dir, 0, "--deep")
			if len(v.Timelines) != 2 || v.Records == 0 || len(v.Notices) > 0 {
				t.Errorf("%+v: %s", v, text)
			}
		})
		t.Run("two", func(t *testing.T) {
			servers := promoteTwice(t, major)
			w := newWAL(t, servers[2])
			data, err := os.ReadFile(servers[2].WALFile("00000003.history"))
			if err != nil {
				t.Fatal(err)
			}
			h, err := segment.ParseHistory(3, data)
			if err != nil {
				t.Fatal(err)
			}
			w.putHistory(servers[2], 2)
			w.putHistory(servers[2], 3)
			putTimelines(t, w, servers, h)
			v, text := verifyArchive(t, w.dir, 0, "--deep")
			if len(v.Timelines) != 3 || v.Partials != 2 || v.Records < 1000 || len(v.Notices) > 0 {
				t.Errorf("%+v: %s", v, text)
			}
		})
	})
}

// putTimelines archives what each server wrote on its timeline up to where the
// next one left it.
func putTimelines(t *testing.T, w *wal, servers []*pgtest.Cluster, h segment.History) {
	t.Helper()
	size := segment.Size(servers[0].SegmentSize)
	number := size.Number(firstSegment(t, servers[0], size))
	for i, c := range servers {
		timeline := segment.TimelineID(i + 1)
		_, end, _ := h.Bounds(timeline)
		if i == len(servers)-1 {
			end = size.Floor(parseLSN(t, c.FlushLSN()))
		}
		n := segment.Name{Timeline: timeline, Number: number}
		for ; n.End(size) <= end; n = n.Next() {
			w.put(c, n.Format(size))
		}
		if i < len(servers)-1 {
			w.putPartial(c, n.Format(size))
		}
		number = n.Number
	}
}
