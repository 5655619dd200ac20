package archive

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"strings"
	"testing"

	"github.com/walrecv/walrecv/storage/storagetest"
)

const history2 = "1\t0/300000\tno recovery target specified\n"

func TestSegmentRoundTrip(t *testing.T) {
	for _, sequential := range []bool{false, true} {
		store := storagetest.NewMem()
		store.Sequential = sequential
		a, scratch, disk := newArchive(t, store)
		for used := range []int{1, 2, 128} {
			n := name(3, uint64(5000+used))
			data := wal(n, used+1, 0)
			mustPut(t, a, scratch, n, data)
			got, err := readSegment(t.Context(), a, n)
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
			info, err := a.SegmentInfo(t.Context(), n)
			if err != nil || info.Digest != sha256.Sum256(data) || info.Name != n || !info.Known {
				t.Errorf("%+v, %v", info, err)
			}
		}
		expectEmptyDir(t, disk)
	}
}

func TestAbsentIsNotExist(t *testing.T) {
	a, _, _ := newArchive(t, storagetest.NewMem())
	_, segmentErr := a.OpenSegment(t.Context(), name(1, 1))
	_, partialErr := a.OpenPartial(t.Context(), Partial{Name: name(1, 1), Digest: "00000000"})
	_, historyErr := a.History(t.Context(), 2)
	_, infoErr := a.SegmentInfo(t.Context(), name(1, 1))
	for _, err := range []error{segmentErr, partialErr, historyErr, infoErr} {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
	}
}

func TestPutAgain(t *testing.T) {
	store := storagetest.NewMem()
	a, scratch, disk := newArchive(t, store)
	n := name(1, 7)
	data := wal(n, 3, 0)
	mustPut(t, a, scratch, n, data)
	before, _ := store.Get(a.segmentKey(n))
	mustPut(t, a, scratch, n, data)
	if after, _ := store.Get(a.segmentKey(n)); !bytes.Equal(before, after) {
		t.Error("the object was rewritten")
	}

	other := wal(n, 3, 1)
	err := a.PutSegment(t.Context(), scratch, n, opener(other))
	var conflict *ConflictError
	if !errors.As(err, &conflict) {
		t.Fatal(err)
	}
	if conflict.Key != a.segmentKey(n) || conflict.Ours != sha256.Sum256(other) || conflict.Theirs != sha256.Sum256(data) {
		t.Errorf("%+v", conflict)
	}
	if got, err := readSegment(t.Context(), a, n); err != nil || !bytes.Equal(got, data) {
		t.Errorf("after a conflict: %d bytes, %v", len(got), err)
	}
	expectEmptyDir(t, disk)
}

// What is there and not sound is no reason to delete the good copy.
func TestPutOntoADamagedObject(t *testing.T) {
	store := storagetest.NewMem()
	a, scratch, _ := newArchive(t, store)
	n := name(1, 7)
	data := wal(n, 3, 0)
	mustPut(t, a, scratch, n, data)
	object, _ := store.Get(a.segmentKey(n))
	flipped := bytes.Clone(object)
	flipped[len(flipped)/3] ^= 1 // with the digest at its end as it was
	for _, there := range [][]byte{nil, object[:1], object[:len(object)/2], object[:len(object)-1], flipped} {
		store.Set(a.segmentKey(n), there)
		err := a.PutSegment(t.Context(), scratch, n, opener(data))
		var damaged *DamagedError
		if !errors.As(err, &damaged) {
			t.Errorf("%d of %d bytes: %v", len(there), len(object), err)
		}
	}
}

func TestPutOverAFaultyStore(t *testing.T) {
	n := name(1, 7)
	data := wal(n, 3, 0)
	puts := map[string]func(a *Archive, s *Scratch) error{
		"segment": func(a *Archive, s *Scratch) error { return a.PutSegment(t.Context(), s, n, opener(data)) },
		"partial": func(a *Archive, s *Scratch) error { return a.PutPartial(t.Context(), s, n, opener(data)) },
		"history": func(a *Archive, s *Scratch) error { return a.PutHistory(t.Context(), 2, []byte(history2)) },
	}
	for what, put := range puts {
		for _, fault := range []storagetest.Fault{{Before: storagetest.ErrInjected}, {After: storagetest.ErrInjected}} {
			for k := 1; k < 10; k++ {
				mem := storagetest.NewMem()
				a, scratch, disk := newArchive(t, mem)
				store := storagetest.NewFaulty(mem, storagetest.FailAt(k, fault))
				a.store = store
				err := put(a, scratch)
				if store.Fired() > 0 && !errors.Is(err, storagetest.ErrInjected) {
					t.Errorf("%s: fault %d was not reported: %v", what, k, err)
				}
				// A lost answer comes out as success.
				for tries := 0; err != nil && tries < 3; tries++ {
					err = put(a, scratch)
				}
				if err != nil {
					t.Errorf("%s: never succeeds after fault %d: %v", what, k, err)
				}
				expectEmptyDir(t, disk)
				if store.Fired() == 0 {
					break
				}
			}
		}
	}
}

func TestPartials(t *testing.T) {
	store := storagetest.NewMem()
	a, scratch, _ := newArchive(t, store)
	n := name(1, 7)
	ours, theirs := wal(n, 3, 0), wal(n, 2, 1)
	for _, data := range [][]byte{ours, theirs, ours} {
		if err := a.PutPartial(t.Context(), scratch, n, opener(data)); err != nil {
			t.Fatal(err)
		}
	}
	mustPut(t, a, scratch, n, ours)
	partials, err := a.Partials(t.Context(), n)
	if err != nil || len(partials) != 2 {
		t.Fatalf("%v, %v", partials, err)
	}
	found := 0
	for _, p := range partials {
		r, err := a.OpenPartial(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if err != nil {
			t.Error(err)
		}
		if bytes.Equal(got, ours) || bytes.Equal(got, theirs) {
			found++
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	if found != 2 {
		t.Errorf("%d of 2 partials came back", found)
	}
	if p, err := a.Partials(t.Context(), name(1, 8)); err != nil || len(p) > 0 {
		t.Errorf("partials of another segment: %v, %v", p, err)
	}
}

func TestHistory(t *testing.T) {
	store := storagetest.NewMem()
	a, _, _ := newArchive(t, store)
	for range 2 {
		if err := a.PutHistory(t.Context(), 2, []byte(history2)); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := a.History(t.Context(), 2); err != nil || string(got) != history2 {
		t.Errorf("%q, %v", got, err)
	}
	if got, _ := store.Get("7411122233344455566/wal/00000002.history"); string(got) != history2 {
		t.Errorf("stored %q", got)
	}
	var conflict *ConflictError
	if err := a.PutHistory(t.Context(), 2, []byte(strings.Replace(history2, "0/3", "0/4", 1))); !errors.As(err, &conflict) {
		t.Errorf("another history: %v", err)
	}
	var local *LocalError
	if err := a.PutHistory(t.Context(), 3, []byte("")); !errors.As(err, &local) {
		t.Errorf("an empty history: %v", err)
	}
	for _, bad := range []string{"", "3\t0/0\tx\n", strings.Repeat("#", maxSmall+1)} {
		store.Set(a.historyKey(3), []byte(bad))
		var damaged *DamagedError
		if _, err := a.History(t.Context(), 3); !errors.As(err, &damaged) {
			t.Errorf("history of %d bytes: %v", len(bad), err)
		}
	}
}

func TestEncryptedObjectsAreNotAbsent(t *testing.T) {
	store := storagetest.NewMem()
	a, _, _ := newArchive(t, store)
	n := name(1, 7)
	store.Set(a.segmentKey(n)+".age", []byte("age-encryption.org/v1"))
	if _, err := a.OpenSegment(t.Context(), n); !errors.Is(err, ErrEncrypted) || errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if _, err := a.SegmentInfo(t.Context(), n); !errors.Is(err, ErrEncrypted) || errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	store.Set(a.partialKey(Partial{Name: n, Digest: "00000000", Encrypted: true}), nil)
	partials, err := a.Partials(t.Context(), n)
	if err != nil || len(partials) != 1 {
		t.Fatalf("%v, %v", partials, err)
	}
	if _, err := a.OpenPartial(t.Context(), partials[0]); !errors.Is(err, ErrEncrypted) {
		t.Error(err)
	}
}

func TestReadAfterClose(t *testing.T) {
	store := storagetest.NewMem()
	a, scratch, _ := newArchive(t, store)
	n := name(1, 7)
	mustPut(t, a, scratch, n, small(n))
	r, err := a.OpenSegment(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if _, err := r.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Error(err)
	}
}
