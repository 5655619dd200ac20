package verify_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/walrecv/walrecv/internal/verify"
)

// TestForeignObjects are named, and do not make an archive unsound.
func TestForeignObjects(t *testing.T) {
	r, sound := sample(t)
	w := sound.clone(t)
	system := fmt.Sprint(r.id.SystemID)
	names := []string{
		system + "/README", system + "/wal/00000001/notes.txt", system + "/wal/00000001/000000010000000000FFFFFF.zst",
		system + "/wal/00000001/" + r.on(1)[0].Format(mib) + ".gz", system + "/wal/00000001.history",
	}
	for _, key := range names {
		w.store.Set(key, []byte("hello"))
	}
	w.store.Set("1/wal/00000001/x", nil) // another cluster's
	got := w.verify(verify.Options{})
	if !got.Sound() || !got.Complete() || len(got.Notices) != len(names) {
		t.Errorf("findings %q, notices %q", spelled(got.Findings), spelled(got.Notices))
	}
	for _, f := range got.Notices {
		if f.Kind != verify.KindForeign || f.Advice != "" || !slices.Contains(names, f.Object) {
			t.Errorf("%+v", f)
		}
	}
	for i := range 500 {
		w.store.Set(fmt.Sprintf("%s/mail/%d", system, i), nil)
	}
	if got := w.verify(verify.Options{}); !got.Sound() || len(got.Notices) != 102 {
		t.Errorf("%d notices", len(got.Notices))
	}
}
