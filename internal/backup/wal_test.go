package backup

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage/storagetest"
)

// wal puts keys below the cluster's directory. Nothing but the names of segments
// counts here; "2@0/3000100<1" is a history file by which timeline 2 left 1 there.
func wal(mem *storagetest.Mem, objects ...string) {
	for _, o := range objects {
		var child, parent segment.TimelineID
		var at string
		if n, _ := fmt.Sscanf(o, "%d@%9s<%d", &child, &at, &parent); n == 3 {
			mem.Set(fmt.Sprintf("%d/wal/%s", uint64(testSystem), segment.HistoryName(child)), fmt.Appendf(nil, "%d\t%s\tno recovery target specified\n", parent, at))
			continue
		}
		mem.Set(fmt.Sprintf("%d/%s", uint64(testSystem), o), unread)
	}
}

// unread is an object that nobody looked into.
var unread = object(`{"sha256":"` + strings.Repeat("0", 64) + `","size":1048576}`)

// object is one without content.
func object(trailer string) []byte {
	length := binary.LittleEndian.AppendUint32(nil, uint32(len(trailer)+4))
	return bytes.Join([][]byte{{0x5E, 0x2A, 0x4D, 0x18}, length, []byte(trailer), length}, nil)
}

// sealed, chunk and partial name objects of the segment with a number.
func sealed(t segment.TimelineID, n uint64) string {
	return fmt.Sprintf("wal/%s/%s.zst", t, segment.Name{Timeline: t, Number: n}.Format(testSize))
}

func chunk(t segment.TimelineID, n uint64, from, to int64) string {
	return fmt.Sprintf("tail/%s/%08X-%08X.zst", segment.Name{Timeline: t, Number: n}.Format(testSize), from, to)
}

func partial(t segment.TimelineID, n uint64) string {
	return fmt.Sprintf("wal/%s/%s.00c0ffee.partial.zst", t, segment.Name{Timeline: t, Number: n}.Format(testSize))
}

// TestNeeded: segments have 1 MB, so 0/300000 is the beginning of number 3.
func TestNeeded(t *testing.T) {
	on1 := Needed{Timeline: 1, EndTimeline: 1, Start: 0x300028, End: 0x500100}
	over2 := Needed{Timeline: 1, EndTimeline: 2, Start: 0x300028, End: 0x500100}
	for _, c := range []struct {
		what    string
		need    Needed
		objects []string
		until   segment.LSN
		says    string // "": complete
		hole    bool
	}{
		{"all complete", on1, []string{sealed(1, 3), sealed(1, 4), sealed(1, 5)}, 0x500100, "", false},
		{"nothing", on1, nil, 0x300000, "000000010000000000000003 is not in the archive yet", false},
		{"older alone", on1, []string{sealed(1, 1), sealed(1, 2)}, 0x300000, "000000010000000000000003 is not in the archive yet", false},
		{"the last one in the tail", on1, []string{sealed(1, 3), sealed(1, 4), chunk(1, 5, 0, 0x80), chunk(1, 5, 0x80, 0x100)}, 0x500100, "", false},
		{"a byte is missing", on1, []string{sealed(1, 3), sealed(1, 4), chunk(1, 5, 0, 0xFF)}, 0x5000FF, "000000010000000000000005 is not in the archive yet", false},
		{"a byte in the tail", on1, []string{sealed(1, 3), sealed(1, 4), chunk(1, 5, 0, 0x80), chunk(1, 5, 0x81, 0x1000)}, 0x500080, "000000010000000000000005 is not in the archive yet", false},
		{"two in the tail", on1, []string{sealed(1, 3), chunk(1, 4, 0, 1<<20), chunk(1, 5, 0, 0x2000)}, 0x500100, "", false},
		{"the first one is lost", on1, []string{sealed(1, 4), sealed(1, 5)}, 0x300000, "000000010000000000000003 is missing in the archive, which has later WAL", true},
		{"one is lost", on1, []string{sealed(1, 3), sealed(1, 5)}, 0x400000, "000000010000000000000004 is missing in the archive, which has later WAL", true},
		{"one is lost before the tail", on1, []string{sealed(1, 3), chunk(1, 5, 0, 0x2000)}, 0x400000, "000000010000000000000004 is missing in the archive, which has later WAL", true},
		{"the last one was never completed", on1, []string{sealed(1, 3), sealed(1, 4), partial(1, 5)}, 0x500000, "000000010000000000000005 is not in the archive yet", false},
		{"its timeline was left behind the end", on1, []string{sealed(1, 3), sealed(1, 4), partial(1, 5), "2@0/0500100<1"}, 0x500100, "", false},
		{"and the child has its beginning", on1, []string{sealed(1, 3), sealed(1, 4), sealed(2, 5), "2@0/0500200<1"}, 0x500100, "", false},
		{"in its tail", on1, []string{sealed(1, 3), sealed(1, 4), chunk(2, 5, 0, 0x100), "2@0/0500200<1"}, 0x500100, "", false},
		{"not all of it", on1, []string{sealed(1, 3), sealed(1, 4), chunk(2, 5, 0, 0xF0), "2@0/0500200<1"}, 0x5000F0, "000000010000000000000005 is not in the archive yet", false},
		{"its timeline was left before the end", on1, []string{sealed(1, 3), sealed(1, 4), partial(1, 5), sealed(2, 5), "2@0/05000F0<1"}, 0x500000, "000000010000000000000005 is not in the archive yet", false},
		{"over a fork", over2, []string{sealed(1, 3), sealed(2, 4), sealed(2, 5), "2@0/0400200<1"}, 0x500100, "", false},
		{"the parent's segment of the fork is no use", over2, []string{sealed(1, 3), sealed(1, 4), sealed(2, 5), "2@0/0400200<1"}, 0x400000, "000000020000000000000004 is missing in the archive, which has later WAL", true},
		{"the parent's are lost", over2, []string{sealed(2, 4), sealed(2, 5), "2@0/0400200<1"}, 0x300000, "000000010000000000000003 is missing in the archive, which has later WAL", true},
		{"the history is missing", over2, []string{sealed(1, 3)}, 0x300000, "00000002.history is not in the archive yet", false},
		{"the history is lost", over2, []string{sealed(1, 3), sealed(2, 4)}, 0x300000, "00000002.history is missing in the archive, which has later WAL", true},
		{"another history", over2, []string{sealed(1, 3), sealed(2, 5), "2@0/0200000<1"}, 0x300000, "by the history of timeline 2 the backup cannot have begun at 0/300028 on timeline 1", false},
		{"a standby of a child alone", Needed{Timeline: 2, EndTimeline: 2, Start: 0x400300, End: 0x400400}, []string{sealed(2, 4), "2@0/0400200<1"}, 0x400400, "", false},
		{"the end is that of a segment", Needed{Timeline: 1, EndTimeline: 1, Start: 0x300000, End: 0x400000}, []string{sealed(1, 3)}, 0x400000, "", false},
	} {
		mem := storagetest.NewMem()
		a := newArchive(t, mem)
		wal(mem, c.objects...)
		got := c.need.In(must[archive.Look](t)(Look(t.Context(), a)), testSize)
		says := ""
		if err := got.Err(); err != nil {
			says = err.Error()
		}
		if got.Until != c.until || says != c.says || got.Hole != c.hole || got.Complete() != (c.says == "") {
			t.Errorf("%s: %+v, %q, want until %s, %q", c.what, got, says, c.until, c.says)
		}
	}
}

// TestDamagedHistory: no waiting mends it.
func TestDamagedHistory(t *testing.T) {
	mem := storagetest.NewMem()
	a := newArchive(t, mem)
	wal(mem, sealed(1, 3), sealed(2, 4))
	mem.Set(fmt.Sprintf("%d/wal/00000002.history", uint64(testSystem)), []byte("x"))
	need := Needed{Timeline: 1, EndTimeline: 2, Start: 0x300028, End: 0x400100}
	got := need.In(must[archive.Look](t)(Look(t.Context(), a)), testSize)
	if got.Problem == nil || got.Complete() || got.Err() != got.Problem {
		t.Errorf("%+v", got)
	}
}
