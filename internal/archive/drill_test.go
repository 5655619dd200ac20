package archive

import (
	"errors"
	"io/fs"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/walrecv/walrecv/storage/storagetest"
)

func TestDrills(t *testing.T) {
	mem := storagetest.NewMem()
	// The first answer is lost: what is there is then found to be the same.
	a, _, _ := newArchive(t, mem)
	a.store = faulty(mem, storagetest.OpPut, storagetest.Fault{After: fs.ErrExist})
	result := DrillResult{Started: time.Date(2026, 11, 22, 23, 59, 59, 1, time.UTC), Success: true, Target: "latest", ReachedLSN: 0x16B374D848}
	var ids []string
	for n := range 3 {
		result.Checks = n
		put, err := a.PutDrill(t.Context(), result)
		if err != nil {
			t.Fatal(err)
		}
		got, err := a.Drill(t.Context(), put.ID)
		if err != nil || !reflect.DeepEqual(got, put) || got.Checks != n || got.Format != 1 {
			t.Errorf("%+v, %v, want %+v", got, err, put)
		}
		ids = append(ids, put.ID)
	}
	got, err := a.Drills(t.Context())
	if want := []string{"20261122T235959Z", "20261123T000000Z", "20261123T000001Z"}; err != nil || !slices.Equal(got, want) || !slices.Equal(ids, want) {
		t.Errorf("%v, %v, put as %v, want %v", got, err, ids, want)
	}
}

func TestBadDrills(t *testing.T) {
	mem := storagetest.NewMem()
	a, _, _ := newArchive(t, mem)
	if _, err := a.Drill(t.Context(), "x"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an absent one: %v", err)
	}
	key := Object{System: testSystem, Kind: KindDrill, ID: "x"}.Key()
	for content, want := range map[string]any{
		``:                            new(*DamagedError),
		`{"format":1,"id":"y"}`:       new(*DamagedError),
		`{"format":1,"id":1}`:         new(*DamagedError),
		`{"format":2,"id":[]}`:        new(*FormatError),
		`{"id":"x","success":"true"}`: new(*FormatError),
	} {
		mem.Set(key, []byte(content))
		if _, err := a.Drill(t.Context(), "x"); err == nil || !errors.As(err, want) {
			t.Errorf("%s: %v", content, err)
		}
	}
}
