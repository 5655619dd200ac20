package archive

import (
	"errors"
	"testing"
	"time"

	"github.com/walrecv/walrecv/storage/storagetest"
)

func TestLastDrill(t *testing.T) {
	mem := storagetest.NewMem()
	a, _, _ := newArchive(t, mem)
	if r, err := a.LastDrill(t.Context()); r != nil || err != nil {
		t.Errorf("none: %+v, %v", r, err)
	}
	at := time.Date(2026, 11, 22, 7, 30, 0, 0, time.UTC)
	for _, hours := range []time.Duration{2, 0, 1} {
		if _, err := a.PutDrill(t.Context(), DrillResult{Started: at.Add(hours * time.Hour), Success: hours == 2}); err != nil {
			t.Fatal(err)
		}
	}
	if r, err := a.LastDrill(t.Context()); err != nil || !r.Success || r.ID != "20261122T093000Z" {
		t.Errorf("%+v, %v", r, err)
	}
	mem.Set(Object{System: testSystem, Kind: KindDrill, ID: "20261122T093000Z"}.Key(), []byte("x"))
	r, err := a.LastDrill(t.Context())
	var damaged *DamagedError
	if !errors.As(err, &damaged) || r == nil || r.ID != "20261122T083000Z" {
		t.Errorf("the last is damaged: %+v, %v", r, err)
	}
	a.store = faulty(mem, storagetest.OpOpen, storagetest.Fault{Before: storagetest.ErrInjected})
	if r, err := a.LastDrill(t.Context()); r != nil || !errors.Is(err, storagetest.ErrInjected) {
		t.Errorf("without an answer: %+v, %v", r, err)
	}
}
