package archive

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/walrecv/walrecv/storage/storagetest"
)

// Who writes without encryption puts nothing beside what is there encrypted.
func TestPlainWriterBesideEncryptedSegments(t *testing.T) {
	for _, key := range []string{"", "k"} {
		store := storagetest.NewMem()
		plain, scratch, _ := newArchive(t, store)
		keys, _ := testKeys(t, key)
		writer := plain.with(keys)
		mustPut(t, plain, scratch, name(1, 9), small(name(1, 9)))
		mustPut(t, writer, scratch, name(1, 7), small(name(1, 7)))
		plain = plain.with(Keys{}) // it has not looked yet
		// The first is found in the list of the block, the second by itself.
		for i, number := range []uint64{7, 8} {
			n := name(1, number)
			if i > 0 {
				mustPut(t, writer, scratch, n, small(n))
			}
			before := store.Keys()
			same := plain.PutSegment(t.Context(), scratch, n, opener(small(n)))
			other := plain.PutSegment(t.Context(), scratch, n, opener(wal(n, 3, 1)))
			var conflict *ConflictError
			if !errors.As(other, &conflict) || conflict.Key != plain.segmentKey(n)+".age" || conflict.OtherKey != (key != "") {
				t.Errorf("digest key %q, segment %d, another content: %v", key, number, other)
			}
			switch {
			case key == "" && same != nil:
				t.Errorf("segment %d, the same content: %v", number, same)
			case key != "" && (!errors.As(same, &conflict) || !strings.Contains(same.Error(), "--encrypt-to and --digest-key")):
				t.Errorf("segment %d, under a digest key: %v", number, same)
			}
			if after := store.Keys(); !slices.Equal(before, after) {
				t.Errorf("digest key %q, segment %d: there is %v, and was %v", key, number, after, before)
			}
		}
	}
}

// An object that is damaged is not taken for the same.
func TestPlainWriterBesideADamagedSegment(t *testing.T) {
	store := storagetest.NewMem()
	plain, scratch, _ := newArchive(t, store)
	keys, _ := testKeys(t, "")
	n := name(1, 7)
	mustPut(t, plain.with(keys), scratch, n, small(n))
	key := plain.segmentKey(n) + ".age"
	object, _ := store.Get(key)
	bad := slices.Clone(object)
	bad[len(bad)-1] ^= 1
	store.Set(key, bad)
	if err := plain.PutSegment(t.Context(), scratch, n, opener(small(n))); err == nil || len(store.Keys()) != 2 {
		t.Errorf("%v, %v", err, store.Keys())
	}
}

// A plain writer pays one request more for a block of segments, who puts one segment
// one for that.
func TestRequestsWithoutEncryption(t *testing.T) {
	mem := storagetest.NewMem()
	count := map[storagetest.Op]int{}
	store := storagetest.NewFaulty(mem, func(r storagetest.Request) storagetest.Fault {
		count[r.Op]++
		return storagetest.Fault{}
	})
	plain, scratch, _ := newArchive(t, store)
	clear(count)
	for i := range uint64(10) {
		mustPut(t, plain, scratch, name(1, i+1), small(name(1, i+1)))
	}
	if count[storagetest.OpPut] != 10 || count[storagetest.OpList] != 1 || len(count) != 2 {
		t.Errorf("a receiver: %v", count)
	}
	clear(count)
	p, err := plain.PrepareSegment(t.Context(), scratch, name(1, 11), opener(small(name(1, 11))))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Remove()
	if err := p.Put(t.Context()); err != nil || count[storagetest.OpPut] != 1 || count[storagetest.OpStat] != 1 || len(count) != 2 {
		t.Errorf("push: %v, %v", count, err)
	}
}
