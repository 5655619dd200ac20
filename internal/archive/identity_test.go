package archive

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage"
	"github.com/walrecv/walrecv/storage/storagetest"
)

const identityKey = "7411122233344455566/walrecv.json"

func TestInitMakesTheIdentityOnce(t *testing.T) {
	store := storagetest.NewMem()
	for range 2 {
		a, err := Init(t.Context(), store, testIdentity, Keys{})
		if err != nil {
			t.Fatal(err)
		}
		if a.Identity() != testIdentity {
			t.Errorf("identity %v", a.Identity())
		}
	}
	const want = `{"format":1,"system_identifier":"7411122233344455566","wal_segment_size":1048576,"postgresql_major":15}` + "\n"
	if got, _ := store.Get(identityKey); string(got) != want {
		t.Errorf("walrecv.json is %q, want %q", got, want)
	}
	a, err := Open(t.Context(), store, testSystem, Keys{})
	if err != nil || a.Identity() != testIdentity {
		t.Errorf("opened %v, %v", a, err)
	}
}

func TestInitRefusesAnotherCluster(t *testing.T) {
	store := storagetest.NewMem()
	if _, err := Init(t.Context(), store, testIdentity, Keys{}); err != nil {
		t.Fatal(err)
	}
	for _, other := range []Identity{
		{SystemID: testSystem, SegmentSize: 16 << 20, Major: 15},
		{SystemID: testSystem, SegmentSize: testSize, Major: 18},
	} {
		_, err := Init(t.Context(), store, other, Keys{})
		var wrong *WrongClusterError
		if !errors.As(err, &wrong) || !errors.Is(err, segment.ErrWrongCluster) {
			t.Fatalf("%v: %v", other, err)
		}
		for _, id := range []Identity{testIdentity, other} {
			if !strings.Contains(err.Error(), id.String()) {
				t.Errorf("%q does not name %v", err, id)
			}
		}
	}
	// The same URL may hold several clusters.
	if _, err := Init(t.Context(), store, Identity{SystemID: 42, SegmentSize: 16 << 20, Major: 18}, Keys{}); err != nil {
		t.Error(err)
	}
}

func TestInitRefusesWhatIsNoIdentity(t *testing.T) {
	store := storagetest.NewMem()
	for _, id := range []Identity{
		{SegmentSize: testSize, Major: 15},
		{SystemID: 1, SegmentSize: 12345, Major: 15},
		{SystemID: 1, SegmentSize: testSize},
	} {
		if _, err := Init(t.Context(), store, id, Keys{}); err == nil {
			t.Errorf("%v was taken", id)
		}
	}
	if len(store.Keys()) > 0 {
		t.Errorf("stored %v", store.Keys())
	}
}

func TestOpenWithoutAnArchive(t *testing.T) {
	if _, err := Open(t.Context(), storagetest.NewMem(), testSystem, Keys{}); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func TestDamagedIdentity(t *testing.T) {
	const whole = `{"format":1,"system_identifier":"7411122233344455566","wal_segment_size":1048576,"postgresql_major":15}`
	damaged := []string{
		"", "{}", "null", "[]", "\x00\x00\x00", whole + "x",
		`{"format":0}`, `{"format":-1}`, `{"format":"1"}`,
		strings.Replace(whole, `"7411122233344455566"`, `7411122233344455566`, 1),
		strings.Replace(whole, "7411122233344455566", "", 1),
		strings.Replace(whole, "1048576", "1048577", 1),
		strings.Replace(whole, "15}", "0}", 1),
	}
	for n := range len(whole) {
		damaged = append(damaged, whole[:n])
	}
	for _, content := range damaged {
		store := storagetest.NewMem()
		store.Set(identityKey, []byte(content))
		_, openErr := Open(t.Context(), store, testSystem, Keys{})
		_, initErr := Init(t.Context(), store, testIdentity, Keys{})
		_, identifyErr := Identify(t.Context(), store)
		for _, err := range []error{openErr, initErr, identifyErr} {
			var d *DamagedError
			if !errors.As(err, &d) || d.Key != identityKey {
				t.Errorf("%q: %v", content, err)
			}
		}
	}
	store := storagetest.NewMem()
	store.Set(identityKey, []byte(strings.Replace(whole, "}", `,"later":[1]}`, 1)))
	if _, err := Open(t.Context(), store, testSystem, Keys{}); err != nil {
		t.Errorf("an unknown field is no damage: %v", err)
	}
}

func TestIdentityOfAnotherCluster(t *testing.T) {
	store := storagetest.NewMem()
	store.Set(identityKey, []byte(`{"format":1,"system_identifier":"7","wal_segment_size":1048576,"postgresql_major":15}`))
	_, openErr := Open(t.Context(), store, testSystem, Keys{})
	_, initErr := Init(t.Context(), store, testIdentity, Keys{})
	_, identifyErr := Identify(t.Context(), store)
	for _, err := range []error{openErr, initErr, identifyErr} {
		if !errors.Is(err, segment.ErrWrongCluster) {
			t.Error(err)
		}
	}
}

func TestUnknownFormatIsRefused(t *testing.T) {
	store := storagetest.NewMem()
	store.Set(identityKey, []byte(`{"format":2,"system_identifier":["later"]}`))
	_, openErr := Open(t.Context(), store, testSystem, Keys{})
	_, initErr := Init(t.Context(), store, testIdentity, Keys{})
	for _, err := range []error{openErr, initErr} {
		var format *FormatError
		if !errors.As(err, &format) || format.Format != 2 {
			t.Error(err)
		}
	}
}

func TestInitOverAFaultyStore(t *testing.T) {
	for _, fault := range []storagetest.Fault{{Before: storagetest.ErrInjected}, {After: storagetest.ErrInjected}} {
		for k := 1; ; k++ {
			mem := storagetest.NewMem()
			if k > 2 {
				t.Fatal("a store that answers is never enough")
			}
			store := storagetest.NewFaulty(mem, storagetest.FailAt(k, fault))
			_, err := Init(t.Context(), store, testIdentity, Keys{})
			if store.Fired() == 0 {
				if err != nil {
					t.Fatal(err)
				}
				break
			}
			if !errors.Is(err, storagetest.ErrInjected) {
				t.Errorf("fault %d was not reported: %v", k, err)
			}
			// The answer may have been lost: the next try must find its own.
			if _, err := Init(t.Context(), store, testIdentity, Keys{}); err != nil {
				t.Errorf("after fault %d: %v", k, err)
			}
		}
	}
}

// dirLister counts what is listed.
type dirLister struct {
	*storagetest.Mem
	listed, dirs int
}

func (d *dirLister) List(ctx context.Context, prefix string, fn func(storage.Info) error) error {
	return d.Mem.List(ctx, prefix, func(info storage.Info) error {
		d.listed++
		return fn(info)
	})
}

func (d *dirLister) ListDirs(ctx context.Context, prefix string, fn func(string) error) error {
	return storage.ListDirs(ctx, d.Mem, prefix, func(name string) error {
		d.dirs++
		return fn(name)
	})
}

func TestIdentify(t *testing.T) {
	mem := storagetest.NewMem()
	want := []Identity{
		{SystemID: 1234, SegmentSize: 64 << 20, Major: 13},
		testIdentity,
	}
	for _, id := range want {
		if _, err := Init(t.Context(), mem, id, Keys{}); err != nil {
			t.Fatal(err)
		}
	}
	a, scratch, _ := newArchive(t, mem)
	for n := range uint64(20) {
		mustPut(t, a, scratch, name(1, n+1), wal(name(1, n+1), 1, 0))
	}
	mem.Set("99/wal/00000001/000000010000000000000001.zst", nil) // no identity
	mem.Set("lost/and/found", nil)
	mem.Set("readme.txt", nil)

	lister := &dirLister{Mem: mem}
	for _, store := range []storage.Store{mem, lister, storage.WithDeadline(lister)} {
		got, err := Identify(t.Context(), store)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%T: %v, %v", store, got, err)
		}
	}
	if lister.listed > 0 || lister.dirs != 8 {
		t.Errorf("%d objects and %d directories were listed for 4 directories, twice", lister.listed, lister.dirs)
	}
}

func TestIdentifyOverAFaultyStore(t *testing.T) {
	mem := storagetest.NewMem()
	if _, err := Init(t.Context(), mem, testIdentity, Keys{}); err != nil {
		t.Fatal(err)
	}
	for k := 1; ; k++ {
		store := storagetest.NewFaulty(mem, storagetest.FailAt(k, storagetest.Fault{Before: storagetest.ErrInjected}))
		ids, err := Identify(t.Context(), store)
		if store.Fired() == 0 {
			if k < 3 || err != nil || len(ids) != 1 {
				t.Errorf("%d requests: %v, %v", k-1, ids, err)
			}
			break
		}
		if !errors.Is(err, storagetest.ErrInjected) {
			t.Errorf("fault %d was not reported: %v, %v", k, ids, err)
		}
	}
}
