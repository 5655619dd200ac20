package segment

import (
	"log/slog"
	"testing"

	"github.com/walrecv/walrecv/internal/vfs"
)

// No segment gets its name, and none is compared with one that has it, while
// somebody looks into the spool and may remove what is there.
func TestNamesDoNotChangeDuringAView(t *testing.T) {
	const size = Size(1 << 20)
	var s *Spool
	seen := map[vfs.OpKind]int{}
	sealing := false
	disk := vfs.NewFault(vfs.NewMem(), func(op vfs.Op) error {
		if sealing && (op.Kind == vfs.OpRename || op.Kind == vfs.OpOpenRead) {
			seen[op.Kind]++
			if s.names.TryLock() {
				s.names.Unlock()
				t.Errorf("%v: somebody can look into the spool", op)
			}
		}
		return nil
	})
	s, err := OpenSpool(disk, "/", slog.New(slog.DiscardHandler), SpoolOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Identify(Cluster{Identity: Identity{SystemID: 1, Size: size}, Major: 18, FileMode: 0o600}); err != nil {
		t.Fatal(err)
	}
	w, err := s.NewWriter(Position{Timeline: 1, LSN: size.Start(1)})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Append(size.Start(1), make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	sealing = true
	if _, err := w.Sync(); err != nil {
		t.Fatal(err)
	}
	if seen[vfs.OpRename] != 1 || seen[vfs.OpOpenRead] != 1 {
		t.Errorf("%v", seen)
	}
	err = s.View(func(l Listing) {
		if len(l.Sealed) != 1 {
			t.Errorf("%+v", l)
		}
		if s.names.TryLock() {
			s.names.Unlock()
			t.Error("a segment could get its name")
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}
