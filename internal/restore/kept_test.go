package restore

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	mathbits "math/bits"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/storage"
	"github.com/walrecv/walrecv/storage/storagetest"
)

// following is a standby that keeps what it reads of the tail, and counts that.
type following struct {
	*world
	reads int   // chunks
	bytes int64 // of their objects
}

// follow has a standby keep files in /kept.
func follow(t *testing.T, test func(f *following)) {
	t.Helper()
	inMode(t, standbySignal, func(_ *testing.T, w *world) {
		w.must(w.fs.Mkdir("/kept", 0o700))
		w.o.PrefetchDir = func(pgWAL string) (string, error) {
			if pgWAL != "/data/pg_wal" {
				t.Errorf("pg_wal is %s", pgWAL)
			}
			return "/kept", nil
		}
		f := &following{world: w}
		w.archiveHook = f.count
		test(f)
	})
}

func (f *following) count(r storagetest.Request) storagetest.Fault {
	if data, ok := f.store.Get(r.Key); ok && r.Op == storagetest.OpOpen && strings.Contains(r.Key, "/tail/") {
		f.reads++
		f.bytes += int64(len(data))
	}
	return storagetest.Fault{}
}

// during counts the chunks that a call reads.
func (f *following) during(call func()) (reads int) {
	before := f.reads
	call()
	return f.reads - before
}

// kept are the names of the files that are kept.
func (f *following) kept() (names []string) {
	entries, err := f.fs.ReadDir("/kept")
	f.must(err)
	for _, e := range entries {
		names = append(names, e.Name)
	}
	return names
}

// TestFollowingReadsOnlyWhatIsNew follows uploads as the receiver makes them, with
// and without the right to delete what is superseded.
func TestFollowingReadsOnlyWhatIsNew(t *testing.T) {
	n := seg(1, 5)
	const uploads, each = 40, 20_000
	for _, deletes := range []bool{true, false} {
		follow(t, func(f *following) {
			ends := []int64{0}
			for k := 1; k <= uploads; k++ {
				to := int64(k) * each
				from := ends[k-(1<<mathbits.TrailingZeros(uint(k)))]
				ends = append(ends, to)
				f.putChunk(n, from, to)
				for j := 1; j < k && deletes; j++ {
					if old := ends[j-(1<<mathbits.TrailingZeros(uint(j)))]; old >= from {
						f.removeChunk(n, old, ends[j])
					}
				}
				if got := f.during(func() { f.wantBytes(n, wal(n, to)) }); got != 1 {
					t.Errorf("upload %d: %d chunks were read", k, got)
				}
				if got := f.during(func() { f.wantBytes(n, wal(n, to)) }); got != 0 {
					t.Errorf("upload %d: %d chunks were read again", k, got)
				}
			}
			last := int64(uploads * each)
			t.Logf("deletes %t: %d chunks of %d KiB for %d KiB of WAL in %d uploads", deletes, f.reads, f.bytes>>10, last>>10, uploads)
			if most := last * int64(mathbits.Len(uploads)); f.bytes > most {
				t.Errorf("%d bytes were read of %d", f.bytes, last)
			}
			// As PostgreSQL has it after a call: the same file again tells it nothing.
			f.write("/data/pg_wal/"+name(n), wal(n, last))
			if got := f.during(func() { f.want(name(n), CodeAbsent) }); got != 0 {
				t.Errorf("%d chunks were read for nothing", got)
			}
		})
	}
}

// What is kept is never an answer by itself.
func TestKeptIsNoAnswer(t *testing.T) {
	n := seg(1, 5)
	follow(t, func(f *following) {
		f.putChunks(n, spans{{0, 100_000}, {100_000, 300_000}})
		f.wantBytes(n, wal(n, 300_000))
		f.removeChunk(n, 100_000, 300_000) // behind our back
		f.wantBytes(n, wal(n, 100_000))
		f.archiveHook = dead
		f.want(name(n), CodeAbsent)
		if !f.exists("/data/" + noteFile) {
			t.Error("no note was left")
		}
		f.archiveHook = nil
		f.removeChunk(n, 0, 100_000)
		time.Sleep(time.Minute)
		f.want(name(n), CodeAbsent)
		f.write("/data/pg_wal/00000002.history", []byte(history(1, at(5, 50_000))))
		f.putHistory(2, history(1, at(5, 50_000)))
		f.putChunks(n, spans{{0, 100_000}, {100_000, 300_000}})
		f.wantBytes(n, cutAt(wal(n, full), 50_000))
	})
}

// TestKeptIsWrong spoils what is kept in many ways. Nothing of it is delivered.
func TestKeptIsWrong(t *testing.T) {
	n := seg(1, 5)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	const end = 40_000
	flip := func(lo, hi int64) func([]byte) []byte {
		return func(data []byte) []byte {
			data[lo+r.Int64N(min(hi, int64(len(data)))-lo)] ^= 1 << r.IntN(8)
			return data
		}
	}
	index := func(change func(*keptIndex)) func([]byte) []byte {
		return func(data []byte) []byte {
			var i keptIndex
			if err := json.NewDecoder(bytes.NewReader(data[full:])).Decode(&i); err != nil {
				t.Fatal(err)
			}
			change(&i)
			text, err := json.Marshal(i)
			if err != nil {
				t.Fatal(err)
			}
			return append(data[:full], text...)
		}
	}
	for what, change := range map[string]func([]byte) []byte{
		"empty":             func([]byte) []byte { return nil },
		"short":             func(data []byte) []byte { return data[:end/2] },
		"without index":     func(data []byte) []byte { return data[:full] },
		"half an index":     func(data []byte) []byte { return data[:full+20] },
		"a bit of the WAL":  flip(0, end),
		"a bit of the rest": flip(full, 2*full),
		"another segment":   index(func(i *keptIndex) { i.Segment = name(seg(1, 4)) }),
		"another archive":   index(func(i *keptIndex) { i.Place = "elsewhere" }),
		"another version":   index(func(i *keptIndex) { i.Format++ }),
		"no pieces":         index(func(i *keptIndex) { i.Pieces = nil }),
		"senseless pieces":  index(func(i *keptIndex) { i.Pieces = append(i.Pieces, keptPiece{-5, 1 << 40, "x"}, keptPiece{7, 3, ""}) }),
		"more than there is": index(func(i *keptIndex) {
			i.Pieces = append(i.Pieces, keptPiece{0, full, i.Pieces[0].SHA256})
		}),
	} {
		follow(t, func(f *following) {
			f.putChunks(n, spans{{0, end / 2}, {end / 2, end}})
			f.wantBytes(n, wal(n, end))
			file := "/kept/" + f.kept()[0]
			f.write(file, change(f.read(file)))
			f.putChunk(n, end, end+5_000)
			f.wantBytes(n, wal(n, end+5_000))
			if got := f.during(func() { f.wantBytes(n, wal(n, end+5_000)) }); got != 0 {
				t.Errorf("%s: it was not made good: %d chunks were read", what, got)
			}
		})
	}
}

// An archive that was made anew has other bytes under the same names: what is kept
// and what is new differ, and the archive counts.
func TestKeptOfAnotherArchive(t *testing.T) {
	n := seg(1, 5)
	follow(t, func(f *following) {
		other := wal(n, full)
		other[testPage+100] ^= 0x80
		f.putChunkOf(n, 0, 100_000, other[:100_000])
		f.wantBytes(n, cutAt(other, 100_000))
		f.putChunk(n, 0, 100_000)
		f.putChunk(n, 50, 200_000)
		f.wantBytes(n, wal(n, 200_000))
	})
}

func TestKeptIsCleanedUp(t *testing.T) {
	n := seg(1, 5)
	follow(t, func(f *following) {
		strangers := []string{"7710755342863415827.0000000000000001." + name(n) + ".tail", "else"}
		for _, name := range strangers {
			f.write("/kept/"+name, []byte("foreign"))
		}
		step := func(what string, want int) {
			t.Helper()
			names := f.kept()
			for _, s := range strangers {
				if !slices.Contains(names, s) {
					t.Errorf("%s: %s is gone", what, s)
				}
			}
			if len(names)-len(strangers) != want {
				t.Errorf("%s: %v", what, names)
			}
		}
		f.putChunk(n, 0, 100_000)
		f.wantBytes(n, wal(n, 100_000))
		step("kept", 1)
		f.put(seg(1, 4), wal(seg(1, 4), full))
		f.wantBytes(seg(1, 4), wal(seg(1, 4), full)) // after a restart
		step("an earlier segment", 1)
		f.put(n, wal(n, full))
		f.wantBytes(n, wal(n, full))
		step("complete", 0)
		f.putChunk(n.Next(), 0, 100_000)
		f.wantBytes(n.Next(), wal(n.Next(), 100_000))
		step("the next one", 1)
		// The primary was promoted elsewhere: the standby goes on with timeline 2.
		f.putHistory(2, history(1, at(6, 100_000)))
		f.write("/data/pg_wal/00000002.history", []byte(history(1, at(6, 100_000))))
		f.putChunk(seg(2, 6), 0, 120_000)
		f.wantBytes(seg(2, 6), wal(seg(2, 6), 120_000))
		if names := f.kept(); len(names) != len(strangers)+1 || !strings.Contains(fmt.Sprint(names), name(seg(2, 6))) {
			t.Errorf("on timeline 2: %v", names)
		}
	})
}

// Where nothing can be kept, all is as without.
func TestNothingCanBeKept(t *testing.T) {
	n := seg(1, 5)
	errFull := errors.New("no space left on device")
	for k := 0; ; k++ {
		done := false
		follow(t, func(f *following) {
			f.putChunk(n, 0, 100_000)
			f.wantBytes(n, wal(n, 100_000))
			f.putChunk(n, 100_000, 200_000)
			ops := 0
			f.localHook = func(op vfs.Op) error {
				if strings.HasPrefix(op.Name, "/kept") {
					if ops++; ops > k {
						return errFull
					}
				}
				return nil
			}
			f.wantBytes(n, wal(n, 200_000))
			done = ops <= k
			f.localHook = nil
			f.wantBytes(n, wal(n, 200_000))
		})
		if done {
			break
		}
	}
	follow(t, func(f *following) {
		f.o.PrefetchDir = func(string) (string, error) { return "", errFull }
		f.putChunk(n, 0, 100_000)
		f.wantBytes(n, wal(n, 100_000))
	})
	inMode(t, recoverySignal, func(t *testing.T, w *world) {
		w.o.PrefetchDir = func(string) (string, error) {
			t.Error("a recovery keeps something")
			return "", errFull
		}
		w.putChunk(n, 0, 100_000)
		w.wantBytes(n, wal(n, 100_000))
	})
}

// TestRequestsOfAFollower counts what a call costs that finds nothing new, in an
// archive with much in it.
func TestRequestsOfAFollower(t *testing.T) {
	n := seg(1, 900)
	follow(t, func(f *following) {
		for i := uint64(1); i < n.Number; i++ {
			f.store.Set(f.key(seg(1, i)), nil)
			f.store.Set(chunkKey(seg(1, i), 0, 10), nil)
		}
		f.putChunk(n, 0, 100_000)
		counted := map[storage.Op]int{}
		f.o.Archive.Open = func(context.Context) (storage.Store, error) {
			return storage.WithMeter(f.store, func(op storage.Op, _ error) { counted[op]++ }), nil
		}
		f.wantBytes(n, wal(n, 100_000))
		f.write("/data/pg_wal/"+name(n), wal(n, 100_000))
		clear(counted)
		f.want(name(n), CodeAbsent)
		t.Logf("a call that finds nothing new: %v", counted)
		if total := counted[storage.OpOpen] + counted[storage.OpList] + counted[storage.OpStat]; total > 12 || counted[storage.OpList] > 4 {
			t.Errorf("%v requests", counted)
		}
	})
}
