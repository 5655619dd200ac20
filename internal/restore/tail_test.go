package restore

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/segment"
)

func TestTailOfTheSpool(t *testing.T) {
	n := seg(1, 5)
	for _, length := range []int64{1_000, testPage, 300_000, full - 1, full} {
		bothModes(t, func(t *testing.T, w *world) {
			w.withSpool()
			w.put(seg(1, 4), wal(seg(1, 4), full))
			w.write("/spool/"+name(n)+".partial", wal(n, length))
			w.wantBytes(n, wal(n, length))
			w.o.Tail = TailNever
			w.want(name(n), CodeAbsent)
		})
	}
}

// Odd lengths are what a crash leaves. What is there is WAL all the same.
func TestTailOfOddLength(t *testing.T) {
	n := seg(1, 5)
	tests := []struct {
		name string
		data []byte
		want []byte // nil: absent
	}{
		{"empty", nil, nil},
		{"zeros", make([]byte, full), nil},
		{"few zeros", make([]byte, 10), nil},
		{"short", wal(n, full)[:70_000], wal(n, 70_000)},
		{"long", append(wal(n, 70_000), make([]byte, 100)...), wal(n, 70_000)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bothModes(t, func(t *testing.T, w *world) {
				w.withSpool()
				w.write("/spool/"+name(n)+".partial", tt.data)
				if tt.want == nil {
					w.want(name(n), CodeAbsent)
					return
				}
				w.wantBytes(n, tt.want)
			})
		})
	}
}

// TestTailRule: PostgreSQL replaces its own copy by what is delivered.
func TestTailRule(t *testing.T) {
	n := seg(1, 5)
	const length = 300_000
	changed := wal(n, 400_000)
	changed[length-1] ^= 2
	tests := []struct {
		name string
		own  []byte
		want int
	}{
		{"none", nil, CodeDelivered},
		{"longer", wal(n, 400_000), CodeAbsent},
		{"equal", wal(n, length), CodeAbsent},
		{"full", wal(n, full), CodeAbsent},
		{"shorter", wal(n, length-1), CodeDelivered},
		{"empty", []byte{}, CodeDelivered},
		{"file ends where the tail does", wal(n, full)[:length], CodeAbsent},
		{"file ends before", wal(n, full)[:length-1], CodeDelivered},
		{"differs in the last byte", changed, CodeDelivered},
		{"differs beyond", append(wal(n, full)[:length], bytes.Repeat([]byte{7}, 100)...), CodeAbsent},
		{"recycled", wal(seg(1, 2), full), CodeDelivered},
	}
	for _, tt := range tests {
		for _, place := range []string{"spool", "archive"} {
			t.Run(tt.name+"/"+place, func(t *testing.T) {
				bothModes(t, func(t *testing.T, w *world) {
					w.withSpool()
					if place == "spool" {
						w.write("/spool/"+name(n)+".partial", wal(n, length))
					} else {
						w.putPartial(n, wal(n, length))
					}
					if tt.own != nil {
						w.write("/data/pg_wal/"+name(n), tt.own)
					}
					w.want(name(n), tt.want)
					if tt.own != nil && !bytes.Equal(w.read("/data/pg_wal/"+name(n)), tt.own) {
						t.Error("the server's own copy was touched")
					}
				})
			})
		}
	}
}

// A sealed segment is delivered also over a longer copy: it is the whole truth.
func TestSealedWinsOverPartialAndOwnCopy(t *testing.T) {
	n := seg(1, 5)
	bothModes(t, func(t *testing.T, w *world) {
		w.withSpool()
		w.putPartial(n, wal(n, 300_000))
		w.write("/spool/"+name(n)+".partial", wal(n, 400_000))
		w.put(n, wal(n, full))
		w.write("/data/pg_wal/"+name(n), wal(n, 500_000))
		w.wantBytes(n, wal(n, full))
	})
}

// The receiver goes on writing while the partial is read.
func TestTailThatGrows(t *testing.T) {
	n := seg(1, 5)
	inMode(t, recoverySignal, func(t *testing.T, w *world) {
		w.withSpool()
		w.write("/spool/"+name(n)+".partial", wal(n, 10_000))
		f, err := w.fs.OpenWrite("/spool/" + name(n) + ".partial")
		w.must(err)
		length := int64(10_000)
		w.spoolHook = func(op vfs.Op) error {
			if op.Kind == vfs.OpReadAt && length < full-10_000 {
				more := wal(n, length+10_000)
				_, err := f.WriteAt(more[length:length+10_000], length)
				w.must(err)
				length += 10_000
			}
			return nil
		}
		w.want(name(n), CodeDelivered)
		got := w.read("/data/pg_wal/RECOVERYXLOG")
		end := firstDifference(got, wal(n, full))
		if end < 10_000 || !bytes.Equal(got, wal(n, end)) {
			t.Errorf("WAL up to %d was delivered, then something else", end)
		}
	})
}

// A server leaves in its partials what the file held before.
func TestPartialOfARecycledFile(t *testing.T) {
	n := seg(1, 5)
	const length = 4*testPage + 100
	recycled := wal(seg(1, 2), full)
	copy(recycled, wal(n, length)[:5*testPage]) // the server writes whole pages
	bothModes(t, func(t *testing.T, w *world) {
		w.putPartial(n, recycled)
		w.wantBytes(n, wal(n, length))
		w.write("/data/pg_wal/"+name(n), wal(n, length+1))
		w.want(name(n), CodeAbsent)
	})
}

func TestDamagedPartial(t *testing.T) {
	n := seg(1, 5)
	for _, tt := range []struct {
		name  string
		spoil func(d []byte)
	}{
		{"first page", func(d []byte) { d[8] ^= 1 }},
		{"another cluster", func(d []byte) { copy(d, walOf(otherSystem, n, 1, testPage)[:testPage]) }},
		{"page address too high", func(d []byte) { d[3*testPage+13] ^= 1 }},
		{"flags", func(d []byte) { d[3*testPage+2] = 0xFF }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bothModes(t, func(t *testing.T, w *world) {
				w.withSpool()
				data := wal(n, 300_000)
				tt.spoil(data)
				w.write("/spool/"+name(n)+".partial", data)
				w.want(name(n), w.pick(CodeDamaged, CodeAbsent))
			})
		})
	}
}

// A partial is not served while more is known to exist behind it.
func TestPartialThatIsNotTheLast(t *testing.T) {
	n := seg(1, 5)
	bothModes(t, func(t *testing.T, w *world) {
		w.withSpool()
		w.put(n.Next(), wal(n.Next(), full))
		w.write("/spool/"+name(n)+".partial", wal(n, 300_000))
		a := w.want(name(n), w.pick(CodeDamaged, CodeAbsent))
		if !w.standby() && !strings.Contains(a.Message, "ends at offset 300000") {
			t.Errorf("message %q", a.Message)
		}
		// A full one only waits for its seal.
		w.write("/spool/"+name(n)+".partial", wal(n, full))
		w.wantBytes(n, wal(n, full))
	})
}

func TestSeveralPartials(t *testing.T) {
	n := seg(1, 5)
	const fork = 200_000
	other := func(upto, from int64) []byte { // like the segment, but for what is behind from
		data := wal(n, upto)
		for i := from; i < upto; i++ {
			if i%testPage > 64 {
				data[i] ^= 0x80
			}
		}
		return data
	}
	tests := []struct {
		name     string
		partials [][]byte
		spool    []byte
		forked   bool   // the archive knows of the fork
		want     []byte // nil: damage
	}{
		{"equal", [][]byte{wal(n, 300_000), wal(n, 300_000)}, nil, false, wal(n, 300_000)},
		{"one is longer", [][]byte{wal(n, 300_000), wal(n, 250_000)}, nil, false, wal(n, 300_000)},
		{"the spool's is the longest", [][]byte{wal(n, 300_000), wal(n, 250_000)}, wal(n, 400_000), false, wal(n, 400_000)},
		{"three of them", [][]byte{wal(n, 210_000), wal(n, 400_000), wal(n, 300_000)}, wal(n, 250_000), true, wal(n, 400_000)},
		{"they differ, no fork is known", [][]byte{wal(n, 300_000), other(250_000, 240_000)}, nil, false, nil},
		{"they differ behind the fork", [][]byte{wal(n, 300_000), other(250_000, 240_000)}, nil, true, wal(n, 300_000)},
		{"they differ behind the fork, the longer one is another", [][]byte{wal(n, 300_000), other(350_000, 240_000)}, nil, true, other(350_000, 240_000)},
		{"they differ before the fork", [][]byte{wal(n, 300_000), other(250_000, 190_000)}, nil, true, nil},
		{"the spool's differs before the fork", [][]byte{wal(n, 300_000)}, other(400_000, 100_000), true, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bothModes(t, func(t *testing.T, w *world) {
				w.withSpool()
				for _, p := range tt.partials {
					w.putPartial(n, p)
				}
				if tt.spool != nil {
					w.write("/spool/"+name(n)+".partial", tt.spool)
				}
				if tt.forked {
					w.putHistory(2, history(1, at(5, fork)))
				}
				if tt.want == nil {
					w.want(name(n), w.pick(CodeDamaged, CodeAbsent))
					return
				}
				w.wantBytes(n, tt.want)
				// On the way to timeline 2 it does not matter what they have
				// behind the fork.
				w.write("/data/pg_wal/00000002.history", []byte(history(1, at(5, fork))))
				w.wantBytes(n, cutAt(wal(n, full), fork))
			})
		})
	}
}

func TestWALEnd(t *testing.T) {
	n := seg(3, 5)
	id := segment.Identity{SystemID: testSystem, Size: testSize}
	with := func(data []byte, change func(d []byte)) []byte {
		data = slices.Clone(data)
		change(data)
		return data
	}
	tests := []struct {
		name string
		data []byte
		want int64
		bad  bool
	}{
		{"zeros", make([]byte, full), 0, false},
		{"full", wal(n, full), full, false},
		{"in a page", wal(n, 5*testPage+99), 5*testPage + 99, false},
		{"at a page", wal(n, 5*testPage), 5 * testPage, false},
		{"behind a header", wal(n, 5*testPage+24), 5*testPage + 11, false}, // its last bytes are zeros
		{"page lost", with(wal(n, full), func(d []byte) { clear(d[4*testPage : 5*testPage]) }), 4 * testPage, false},
		{"recycled", with(wal(seg(3, 1), full), func(d []byte) { copy(d, wal(n, full)[:2*testPage]) }), 2 * testPage, false},
		{"recycled, page half full", with(wal(seg(3, 1), full), func(d []byte) { copy(d, wal(n, testPage+99)[:2*testPage]) }), testPage + 99, false},
		{"page of a later segment", with(wal(seg(3, 9), full), func(d []byte) { copy(d, wal(n, full)[:2*testPage]) }), 0, true},
		{"first page lost", with(wal(n, full), func(d []byte) { clear(d[:testPage]) }), 0, true},
		{"record goes on in a page of zeros", with(wal(n, 3*testPage), func(d []byte) {
			d[2*testPage+2], d[2*testPage+17] = 1, 0xFF
		}), 3 * testPage, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := walEnd(bytes.NewReader(tt.data), n, id)
			if (err != nil) != tt.bad || got != tt.want {
				t.Errorf("end %d, %v; want %d", got, err, tt.want)
			}
			if err != nil && judge(err).verdict != damaged {
				t.Errorf("%v is not damage", err)
			}
		})
	}
}

func TestCovers(t *testing.T) {
	for _, tt := range []struct {
		end, until int64
		want       bool
	}{
		{0, 0, true},
		{0, 1, false},
		{1, 1, true},
		{1, testPage, true},
		{0, testPage, false},
		{testPage, testPage, true},
		{testPage, testPage + 1, false},
		{testPage + 1, testPage + 1, true},
		{testPage + 1, 2 * testPage, true},
		{full, full, true},
		{full - testPage, full, false},
	} {
		if got := covers(tt.end, tt.until); got != tt.want {
			t.Errorf("WAL up to %d covers %d: %v", tt.end, tt.until, got)
		}
	}
}

func TestDifference(t *testing.T) {
	long := bytes.Repeat([]byte{1}, 3*chunkLen)
	for _, tt := range []struct {
		a, b []byte
		n    int64
		want int64
	}{
		{nil, nil, 0, 0},
		{nil, long, 5, 0},
		{long, nil, 5, 0},
		{long, long, 3 * chunkLen, 3 * chunkLen},
		{long, long[:chunkLen+7], 3 * chunkLen, chunkLen + 7},
		{long[:9], long[:9], 20, 9},
		{long, append(slices.Clone(long[:2*chunkLen-1]), 2), 2 * chunkLen, 2*chunkLen - 1},
		{long, append(slices.Clone(long[:2*chunkLen-1]), 2), 2*chunkLen - 1, 2*chunkLen - 1},
	} {
		got, err := difference(bytes.NewReader(tt.a), bytes.NewReader(tt.b), tt.n)
		if err != nil || got != tt.want {
			t.Errorf("%d and %d bytes, the first %d: differ at %d, %v; want %d", len(tt.a), len(tt.b), tt.n, got, err, tt.want)
		}
	}
}
