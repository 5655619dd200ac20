package restore

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/codec"
	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage/storagetest"
)

// chunkKey is the key of a chunk.
func chunkKey(n segment.Name, from, to int64) string {
	return archive.Object{
		System: testSystem, Kind: archive.KindTail, Timeline: n.Timeline, Segment: name(n), From: from, To: to,
	}.Key()
}

// putChunk archives a piece of a segment.
func (w *world) putChunk(n segment.Name, from, to int64) {
	w.t.Helper()
	w.putChunkOf(n, from, to, wal(n, full)[from:to])
}

// putChunkOf archives a piece with bytes that may be wrong.
func (w *world) putChunkOf(n segment.Name, from, to int64, plain []byte) {
	w.t.Helper()
	w.store.Set(chunkKey(n, from, to), chunkObject(w.t, plain))
}

// chunkObject makes the object of a chunk, as docs/format.md says.
func chunkObject(t *testing.T, plain []byte) []byte {
	t.Helper()
	text := fmt.Sprintf(`{"sha256":"%x","size":%d}`, sha256.Sum256(plain), len(plain))
	length := uint32(len(text) + 4)
	out := packed(t, codec.Zstd, plain)
	out = binary.LittleEndian.AppendUint32(out, 0x184D2A5E)
	out = binary.LittleEndian.AppendUint32(out, length)
	return binary.LittleEndian.AppendUint32(append(out, text...), length)
}

func (w *world) removeChunk(n segment.Name, from, to int64) {
	w.t.Helper()
	w.must(w.store.Delete(w.t.Context(), chunkKey(n, from, to)))
}

// spans are pairs of offsets.
type spans [][2]int64

func (w *world) putChunks(n segment.Name, all spans) {
	w.t.Helper()
	for _, s := range all {
		w.putChunk(n, s[0], s[1])
	}
}

func TestChunksAreDelivered(t *testing.T) {
	n := seg(1, 5)
	for _, tt := range []struct {
		name   string
		chunks spans
		end    int64 // 0: absent
	}{
		{"one", spans{{0, 300_000}}, 300_000},
		{"two", spans{{0, 100_000}, {100_000, 300_001}}, 300_001},
		{"overlapping", spans{{0, 100_000}, {50_000, 200_000}, {0, 150_000}, {199_999, 300_000}}, 300_000},
		{"with a hole", spans{{0, 100_000}, {100_001, 300_000}}, 100_000},
		{"without the beginning", spans{{1, 100_000}}, 0},
		{"too few to tell whose they are", spans{{0, 39}}, 0},
		{"in a page header", spans{{0, 3*testPage + 7}}, 3*testPage + 7},
		{"behind a page header", spans{{0, 3*testPage + 24}}, 3*testPage + 24},
		{"at a page", spans{{0, 3 * testPage}}, 3 * testPage},
		{"whole", spans{{0, 100_000}, {100_000, full}}, full},
		{"whole but for a byte", spans{{0, full - 1}}, full - 1},
		{"many", manySpans(40, 3_000), 120_000},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bothModes(t, func(t *testing.T, w *world) {
				w.put(seg(1, 4), wal(seg(1, 4), full))
				w.putChunks(n, tt.chunks)
				if tt.end == 0 {
					w.want(name(n), CodeAbsent)
					return
				}
				w.wantBytes(n, wal(n, tt.end))
				w.o.Tail = TailNever
				w.want(name(n), CodeAbsent)
			})
		})
	}
}

func manySpans(n int, each int64) (all spans) {
	for i := range int64(n) {
		all = append(all, [2]int64{i * each, (i + 1) * each})
	}
	return all
}

// What is known to exist and is not all there is a hole, to the byte.
func TestChunksAndWhatIsLater(t *testing.T) {
	n := seg(1, 5)
	for _, tt := range []struct {
		name   string
		chunks spans
		later  func(w *world)
		end    int64 // 0: a hole
		says   string
	}{
		{"a later chunk, nothing before it", nil, func(w *world) { w.putChunk(n.Next(), 0, 100) }, 0, "later segments of timeline 1 are there"},
		{"a later chunk, not all before it", spans{{0, full - 1}}, func(w *world) { w.putChunk(n.Next(), 0, 100) }, 0, "ends at offset 1048575"},
		{"a later chunk, all before it", spans{{0, full}}, func(w *world) { w.putChunk(n.Next(), 0, 100) }, full, ""},
		{"a later segment, all before it", spans{{0, 9}, {0, full}}, func(w *world) { w.put(n.Next(), wal(n.Next(), full)) }, full, ""},
		{"a child that left at its end", spans{{0, 70_000}}, func(w *world) { w.putHistory(2, history(1, at(5, 70_000))) }, 70_000, ""},
		{"a child that left behind its end", spans{{0, 69_999}}, func(w *world) { w.putHistory(2, history(1, at(5, 70_000))) }, 0, "timeline 2 goes on"},
		{"a child without a history", nil, func(w *world) { w.putChunk(seg(2, 5), 0, 100) }, 0, "00000002.history is missing"},
		{"an older chunk", spans{{0, 70_000}}, func(w *world) { w.putChunk(seg(1, 4), 0, 100) }, 70_000, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bothModes(t, func(t *testing.T, w *world) {
				w.putChunks(n, tt.chunks)
				tt.later(w)
				if tt.end > 0 {
					w.wantBytes(n, wal(n, tt.end))
					return
				}
				a := w.want(name(n), w.pick(CodeDamaged, CodeAbsent))
				if !strings.Contains(a.Message+w.log.String(), tt.says) {
					t.Errorf("%q does not say %q; log: %s", a.Message, tt.says, w.log)
				}
			})
		})
	}
}

// A history of which only chunks tell is missed, too.
func TestHistoryAndChunks(t *testing.T) {
	bothModes(t, func(t *testing.T, w *world) {
		w.putChunk(seg(2, 5), 0, 100)
		a := w.want("00000002.history", w.pick(CodeDamaged, CodeAbsent))
		if !w.standby() && !strings.Contains(a.Message, "there is WAL of timeline 2") {
			t.Errorf("message %q", a.Message)
		}
		w.putHistory(2, history(1, at(6, 100))) // behind the chunk
		w.want("00000002.history", w.pick(CodeDamaged, CodeAbsent))
	})
}

// Damage is done without where other chunks have the same bytes.
func TestDamagedChunks(t *testing.T) {
	n := seg(1, 5)
	flipped := func(at int64) func(w *world, from, to int64) {
		return func(w *world, from, to int64) {
			plain := wal(n, full)[from:to]
			plain[at-from] ^= 1
			w.putChunkOf(n, from, to, plain)
		}
	}
	spoiled := func(w *world, from, to int64) { // a bit of the object
		data, _ := w.store.Get(chunkKey(n, from, to))
		data = slices.Clone(data)
		data[len(data)/2] ^= 1
		w.store.Set(chunkKey(n, from, to), data)
	}
	cut := func(w *world, from, to int64) {
		data, _ := w.store.Get(chunkKey(n, from, to))
		w.store.Set(chunkKey(n, from, to), data[:len(data)-1])
	}
	moved := func(w *world, from, to int64) { // it holds other bytes of the same length
		w.putChunkOf(n, from, to, wal(n, full)[from+testPage:to+testPage])
	}
	for _, tt := range []struct {
		name   string
		chunks spans
		which  int
		wrong  func(w *world, from, to int64)
		end    int64 // 0: damage
		says   string
	}{
		{"a bit, alone", spans{{0, 300_000}}, 0, spoiled, 0, "bytes 0 to 300000"},
		{"a bit, the last of two", spans{{0, 100_000}, {100_000, 300_000}}, 1, spoiled, 0, "bytes 100000 to 300000"},
		{"a bit, another cover", spans{{0, 300_000}, {0, 100_000}, {90_000, 300_000}}, 0, spoiled, 300_000, ""},
		{"a bit, another cover that is shorter", spans{{0, 300_000}, {0, 100_000}, {90_000, 299_999}}, 0, spoiled, 0, "bytes 0 to 300000"},
		{"a bit, not needed", spans{{0, 300_000}, {0, 100_000}}, 1, spoiled, 300_000, ""},
		{"cut, alone", spans{{0, 300_000}}, 0, cut, 0, "bytes 0 to 300000"},
		{"cut, another cover", spans{{0, 300_000}, {0, 200_000}, {200_000, 300_000}}, 0, cut, 300_000, ""},
		{"they differ", spans{{0, 200_000}, {100_000, 300_000}}, 1, flipped(150_000), 0, "differ at offset 150000"},
		{"one that is not needed differs", spans{{0, 200_000}, {50_000, 150_000}}, 1, flipped(100_000), 0, "differ at offset 100000"},
		{"they differ in the last byte that both have", spans{{0, 200_000}, {100_000, 300_000}}, 1, flipped(199_999), 0, "differ at offset 199999"},
		{"out of place", spans{{0, 100_000}, {100_000, 300_000}}, 1, moved, 0, "corrupt at offset"},
		{"another page header", spans{{0, 300_000}}, 0, flipped(3*testPage + 9), 0, "corrupt at offset"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bothModes(t, func(t *testing.T, w *world) {
				w.putChunks(n, tt.chunks)
				w.o.Archive = slowly(w.o.Archive, time.Millisecond)
				tt.wrong(w, tt.chunks[tt.which][0], tt.chunks[tt.which][1])
				if tt.end > 0 {
					w.wantBytes(n, wal(n, tt.end))
					return
				}
				a := w.want(name(n), w.pick(CodeDamaged, CodeAbsent))
				if !strings.Contains(a.Message+w.log.String(), tt.says) {
					t.Errorf("%q does not say %q; log: %s", a.Message, tt.says, w.log)
				}
				w.put(n, wal(n, full)) // the complete segment needs none of it
				w.wantBytes(n, wal(n, full))
			})
		})
	}
}

// TestEveryBitOfAChunk samples: whatever flips, no wrong byte is delivered.
func TestEveryBitOfAChunk(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	n := seg(1, 5)
	const end = 20_000
	for range 60 {
		inMode(t, recoverySignal, func(t *testing.T, w *world) {
			w.putChunk(n, 0, end)
			w.putChunk(n, 0, end/2)
			data, _ := w.store.Get(chunkKey(n, 0, end))
			bit := r.IntN(8 * len(data))
			data = slices.Clone(data)
			data[bit/8] ^= 1 << (bit % 8)
			w.store.Set(chunkKey(n, 0, end), data)
			if w.ask(name(n)).Code != CodeDelivered {
				return
			}
			if got := w.read("/data/pg_wal/RECOVERYXLOG"); !bytes.Equal(got, wal(n, end)) {
				t.Errorf("bit %d of byte %d: something else was delivered", bit%8, bit/8)
			}
		})
	}
}

// The server goes to a timeline that left this one in the segment: nothing behind
// the fork is delivered, and what is there does not matter.
func TestChunksAndForks(t *testing.T) {
	n := seg(1, 5)
	const fork = 150_000
	bothModes(t, func(t *testing.T, w *world) {
		w.write("/data/pg_wal/00000002.history", []byte(history(1, at(5, fork))))
		w.putHistory(2, history(1, at(5, fork)))
		w.putChunks(n, spans{{0, 100_000}, {100_000, 300_000}})
		w.wantBytes(n, cutAt(wal(n, full), fork))
		w.putChunks(n.Next(), spans{{0, 100_000}})
		w.want(name(n.Next()), CodeAbsent)
		// They differ, but only behind the fork.
		other := wal(n, full)[fork+1 : 400_000]
		other[0] ^= 1
		w.putChunkOf(n, fork+1, 400_000, other)
		w.wantBytes(n, cutAt(wal(n, full), fork))
	})
}

// The tail, the spool, and partials are compared with each other.
func TestChunksBesideOthers(t *testing.T) {
	n := seg(1, 5)
	other := func(upto, from int64) []byte {
		data := wal(n, upto)
		data[from+64] ^= 0x80
		return data
	}
	for _, tt := range []struct {
		name    string
		chunks  spans
		spool   []byte
		partial []byte
		want    []byte // nil: damage
	}{
		{"the spool is ahead", spans{{0, 100_000}}, wal(n, 200_000), nil, wal(n, 200_000)},
		{"the tail is ahead", spans{{0, 200_000}}, wal(n, 100_000), nil, wal(n, 200_000)},
		{"a partial is ahead", spans{{0, 200_000}}, wal(n, 100_000), wal(n, 300_000), wal(n, 300_000)},
		{"the tail is ahead of all", spans{{0, 200_000}, {100_000, 400_000}}, wal(n, 100_000), wal(n, 300_000), wal(n, 400_000)},
		{"the spool has another branch", spans{{0, 200_000}}, other(100_000, 5*testPage), nil, nil},
		{"a partial has another branch", spans{{0, 200_000}}, nil, other(300_000, 5*testPage), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bothModes(t, func(t *testing.T, w *world) {
				w.withSpool()
				w.putChunks(n, tt.chunks)
				if tt.spool != nil {
					w.write("/spool/"+name(n)+".partial", tt.spool)
				}
				if tt.partial != nil {
					w.putPartial(n, tt.partial)
				}
				if tt.want == nil {
					w.want(name(n), w.pick(CodeDamaged, CodeAbsent))
					return
				}
				w.wantBytes(n, tt.want)
			})
		})
	}
}

// TestChunksOnTheMove replaces two chunks by one, and that by the complete segment,
// at every pair of requests of a look. What is there is always found.
func TestChunksOnTheMove(t *testing.T) {
	n := seg(1, 5)
	object := objectOf(t, n)
	longer := chunkObject(t, wal(n, full)[:400_000])
	runs := 0
	for replace, reached := 1, true; reached; replace++ {
		for seal := replace; ; seal++ {
			requests := 0
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, recoverySignal)
				w.putChunks(n, spans{{0, 200_000}, {200_000, 300_000}})
				w.archiveHook = func(r storagetest.Request) storagetest.Fault {
					if requests++; requests == replace {
						w.store.Set(chunkKey(n, 0, 400_000), longer)
						w.removeChunk(n, 0, 200_000)
						w.removeChunk(n, 200_000, 300_000)
					}
					if requests == seal {
						w.store.Set(w.key(n), object)
						w.removeChunk(n, 0, 400_000)
					}
					return storagetest.Fault{}
				}
				w.want(name(n), CodeDelivered)
				got := w.read("/data/pg_wal/RECOVERYXLOG")
				if !slices.ContainsFunc([]int64{300_000, 400_000, full}, func(end int64) bool { return bytes.Equal(got, wal(n, end)) }) {
					t.Errorf("replaced at request %d, sealed at %d: %d bytes of WAL", replace, seal, firstDifference(got, wal(n, full)))
				}
			})
			if t.Failed() {
				t.Fatalf("replaced at request %d, sealed at %d", replace, seal)
			}
			runs++
			reached = requests >= replace
			if requests < seal {
				break
			}
		}
	}
	t.Logf("%d runs", runs)
	if runs < 20 {
		t.Error("too few")
	}
}

// A chunk that is listed and cannot be had proves nothing.
func TestChunkThatIsNotThere(t *testing.T) {
	n := seg(1, 5)
	bothModes(t, func(t *testing.T, w *world) {
		w.putChunk(n, 0, 1000)
		w.archiveHook = func(r storagetest.Request) storagetest.Fault {
			if r.Op == storagetest.OpOpen && r.Key == chunkKey(n, 0, 1000) {
				return storagetest.Fault{Before: fs.ErrNotExist}
			}
			return storagetest.Fault{}
		}
		w.want(name(n), w.pick(CodeUnknown, CodeAbsent))
		if w.standby() && !w.exists("/data/"+noteFile) {
			t.Error("no note was left")
		}
	})
}

// TestTailRuleOfChunks: PostgreSQL replaces its own copy by what is delivered.
func TestTailRuleOfChunks(t *testing.T) {
	n := seg(1, 5)
	const end = 300_000
	changed := wal(n, 400_000)
	changed[end-1] ^= 2
	for what, tt := range map[string]struct {
		own  []byte
		want int
	}{
		"longer":  {wal(n, 400_000), CodeAbsent},
		"equal":   {wal(n, end), CodeAbsent},
		"shorter": {wal(n, end-1), CodeDelivered},
		"differs": {changed, CodeDelivered},
	} {
		t.Run(what, func(t *testing.T) {
			bothModes(t, func(t *testing.T, w *world) {
				w.putChunks(n, spans{{0, 200_000}, {100_000, end}})
				w.write("/data/pg_wal/"+name(n), tt.own)
				w.want(name(n), tt.want)
				if !bytes.Equal(w.read("/data/pg_wal/"+name(n)), tt.own) {
					t.Error("the server's own copy was touched")
				}
			})
		})
	}
}
