package restore

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/walrecv/walrecv/internal/pgtest"
	"github.com/walrecv/walrecv/storage/storagetest"
)

// harm is what happens to one object.
type harm struct {
	name    string
	kind    string // "cut", "flipped" of the many; else the name
	deleted bool
	altered bool  // not so that it cannot be read
	codes   []int // that a recovery may stop with because of it
	do      func(w *world, key string)
}

var errUnreadable = errors.New("input/output error")

// wrongObject are the codes for an object that is missing or not what it was.
var wrongObject = []int{CodeDamaged, CodeMisconfigured}

// harms are those that are tried on an object.
func harms(data []byte, every bool) []harm {
	all := []harm{
		{name: "deleted", kind: "deleted", deleted: true, codes: wrongObject, do: func(w *world, key string) {
			w.must(w.store.Delete(w.t.Context(), key))
		}},
		failing("listed, but not there", storagetest.Fault{Before: fs.ErrNotExist}, CodeUnknown, CodeDamaged, CodeMisconfigured),
		failing("unreadable", storagetest.Fault{Before: errUnreadable}, CodeUnknown),
		failing("unreadable in the middle", storagetest.Fault{Cut: &storagetest.Cut{At: int64(len(data) / 2), Err: errUnreadable}}, CodeUnknown),
	}
	for _, n := range lengths(len(data), every) {
		all = append(all, changing("cut", fmt.Sprintf("cut to %d bytes", n), func(data []byte) []byte { return data[:n] }))
	}
	for _, bit := range bits(data, every) {
		all = append(all, changing("flipped", fmt.Sprintf("bit %d of byte %d flipped", bit%8, bit/8), func(data []byte) []byte {
			data[bit/8] ^= 1 << (bit % 8)
			return data
		}))
	}
	return all
}

// failing is a harm of every request for the object.
func failing(name string, f storagetest.Fault, codes ...int) harm {
	return harm{name: name, kind: name, codes: codes, do: func(w *world, key string) {
		w.archiveHook = func(r storagetest.Request) storagetest.Fault {
			if r.Key == key && (r.Op == storagetest.OpOpen || r.Op == storagetest.OpStat && f.Before != nil) {
				return f
			}
			return storagetest.Fault{}
		}
	}}
}

// changing is a harm of the bytes of the object.
func changing(kind, name string, change func(data []byte) []byte) harm {
	return harm{name: name, kind: kind, altered: true, codes: wrongObject, do: func(w *world, key string) {
		data, _ := w.store.Get(key)
		w.store.Set(key, change(slices.Clone(data)))
	}}
}

const small = 4096 // bytes of an object that is looked at byte by byte

// lengths are those that an object is cut to.
func lengths(length int, every bool) []int {
	switch {
	case length > small && every:
		return []int{0, 1, length / 3, length - 90, length - 1}
	case length > small:
		return []int{length - 90}
	}
	var all []int
	for n := range length {
		if every || n%16 == 0 || n == length-1 {
			all = append(all, n)
		}
	}
	return all
}

// bits are those that are flipped in an object: two of each digit of a number, which
// may still be one then, and some of the rest.
func bits(data []byte, every bool) []int {
	var all []int
	if len(data) > small {
		step := len(data) / 100
		for n := step / 2; n < len(data) && every; n += step {
			all = append(all, n*8+n%8)
		}
		return append(all, len(data)*4, len(data)*8-40*8)
	}
	for n, b := range data {
		number := b >= '0' && b <= '9' || b >= 'A' && b <= 'F' || b == '/' || b == '\t' || b == '\n'
		for bit := range 8 {
			if every || number && (bit == 0 || bit == n%4) || bit == n%8 && n%64 == 0 {
				all = append(all, n*8+bit)
			}
		}
	}
	return all
}

// sampled is how many cases the short form tries of each kind of harm to each kind
// of object in an archive. Those of small objects take little time.
const (
	sampledLarge = 1
	sampledSmall = 4
)

// sample chooses what is done to each object: everything in the long form.
func sample(t *testing.T, m *model, objects map[string][]byte) map[string][]harm {
	t.Helper()
	chosen := map[string][]harm{}
	if pgtest.Long() {
		for key, data := range objects {
			chosen[key] = harms(data, true)
		}
		return chosen
	}
	const seed = 20260131
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	groups := map[string][]func(){}
	for _, key := range slices.Sorted(maps.Keys(objects)) {
		without, needed := m.needed[key]
		for _, h := range harms(objects[key], false) {
			group := fmt.Sprintf("%s of %s, needed %v, an end %v", h.kind, kindOfObject(key), needed, without != nil)
			groups[group] = append(groups[group], func() { chosen[key] = append(chosen[key], h) })
		}
	}
	for _, group := range slices.Sorted(maps.Keys(groups)) {
		take := groups[group]
		rnd.Shuffle(len(take), func(i, j int) { take[i], take[j] = take[j], take[i] })
		most := sampledSmall
		if strings.Contains(group, "segment") || strings.Contains(group, "partial") {
			most = sampledLarge
		}
		for _, choose := range take[:min(most, len(take))] {
			choose()
		}
	}
	return chosen
}

// kindOfObject tells objects apart by what they are for.
func kindOfObject(key string) string {
	switch {
	case strings.HasSuffix(key, ".history"):
		return "history"
	case strings.Contains(key, ".partial."):
		return "partial"
	case strings.HasSuffix(key, ".zst"):
		return "segment"
	}
	return "identity"
}
