package push

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/fakepg"
	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage"
	"github.com/walrecv/walrecv/storage/storagetest"
)

func TestSegment(t *testing.T) {
	mem := storagetest.NewMem()
	s := newServer(t, mem, fakepg.Config{})
	file := s.hasWhole()
	s.pushes(file, file) // a crash between archiving and .done repeats the call
	if got := archived(t, mem, 1, 5); !bytes.Equal(got, s.whole(5)) {
		t.Error("another content")
	}
	want := archive.Identity{SystemID: testSystem, SegmentSize: testSize, Major: 15}
	if id := open(t, mem).Identity(); id != want {
		t.Errorf("identity %v", id)
	}
	info, err := open(t, mem).SegmentInfo(t.Context(), segment.Name{Timeline: 1, Number: 5})
	if err != nil || !info.Known || info.Summary.Faults > 0 {
		t.Errorf("%+v, %v", info, err)
	}
	if err := s.pushFrom("/", s.has(1, 6)); err != nil { // as pg_rewind and people do
		t.Error(err)
	}
	if got := archived(t, mem, 1, 6); !bytes.Equal(got, s.wal(1, 6)) {
		t.Error("another content")
	}
}

// A segment that ends with a switch is complete; bytes behind it are not of a log.
func TestSwitchedSegment(t *testing.T) {
	mem := storagetest.NewMem()
	s := newServer(t, mem, fakepg.Config{})
	for number, offset := range map[uint64]int{5: at(0, 0), 6: at(3, 5), 7: at(127, 100)} {
		data := s.whole(number)
		switchAt(data, offset)
		s.write("/data/pg_wal/"+base(1, number), data)
		s.pushes(base(1, number))
		if !bytes.Equal(archived(t, mem, 1, number), data) {
			t.Errorf("segment %d: another content", number)
		}
	}
}

func TestDifferentContent(t *testing.T) {
	mem := storagetest.NewMem()
	s := newServer(t, mem, fakepg.Config{})
	file := s.has(1, 5)
	s.pushes(file)
	data := s.wal(1, 5)
	switchAt(data, at(2, 0))
	s.write("/data/pg_wal/"+file, data)
	var conflict *archive.ConflictError
	if err := s.push(file); !errors.As(err, &conflict) {
		t.Errorf("another content: %v", err)
	}
	if !bytes.Equal(archived(t, mem, 1, 5), s.wal(1, 5)) {
		t.Error("the archive has changed")
	}
}

func TestNotASegment(t *testing.T) {
	tests := []struct {
		name   string
		change func(data []byte) []byte
	}{
		{"short", func(data []byte) []byte { return data[:mib-8192] }},
		{"long", func(data []byte) []byte { return append(data, 0) }},
		{"empty file", func([]byte) []byte { return nil }},
		{"a few bytes", func(data []byte) []byte { return data[:39] }},
		{"zeros", func(data []byte) []byte { return make([]byte, len(data)) }},
		{"of another place", func(data []byte) []byte { data[10] ^= 0x20; return data }},
		{"of a later timeline", func(data []byte) []byte { data[4] = 2; return data }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			mem := storagetest.NewMem()
			s := newServer(t, mem, fakepg.Config{})
			s.pushes(s.has(1, 4))
			before := mem.Keys()
			s.write("/data/pg_wal/"+base(1, 5), tt.change(s.wal(1, 5)))
			err := s.push(base(1, 5))
			if err == nil || !slices.Equal(mem.Keys(), before) {
				t.Errorf("%v; the archive has %v", err, mem.Keys())
			}
		})
	}
}

func TestNames(t *testing.T) {
	mem := storagetest.NewMem()
	s := newServer(t, mem, fakepg.Config{})
	for _, file := range []string{
		"00000001000000000000000a", "000000010000000000000005.zst", "00000000000000000000000A", "000000010000000000000005.partial.partial",
		"00000001.history.tmp", "00000000.history", "x", "000000010000000000000005.00000028.partial", "archive_status",
	} {
		if err := s.push(file); !errors.Is(err, ErrNotWAL) {
			t.Errorf("%s: %v", file, err)
		}
	}
	if err := s.push(base(1, 5)); err == nil || errors.Is(err, ErrNotWAL) {
		t.Errorf("a file that is not there: %v", err)
	}
	if keys := mem.Keys(); len(keys) > 0 {
		t.Errorf("the archive has %v", keys)
	}
}

func TestBackupHistory(t *testing.T) {
	mem := storagetest.NewMem()
	s := newServer(t, mem, fakepg.Config{})
	const file = "000000010000000000000005.00000028.backup"
	content := []byte("START WAL LOCATION: 0/500028 (file 000000010000000000000005)\n")
	s.write("/data/pg_wal/"+file, content)
	foreign := s.wal(1, 4)
	foreign[24]++
	s.write("/data/pg_wal/"+base(1, 4), foreign)
	if err := s.push(file); err == nil || !strings.Contains(err.Error(), "how long") {
		t.Errorf("the first file of all, with no segment of the cluster beside it: %v", err)
	}
	s.has(1, 6) // says how long segments are
	s.pushes(file, file)
	got, ok := mem.Get("7400000000000000001/wal/00000001/" + file)
	if !ok || !bytes.Equal(got, content) {
		t.Errorf("%q, %v", got, ok)
	}
	s.write("/data/pg_wal/"+file, append(content, '\n'))
	var conflict *archive.ConflictError
	if err := s.push(file); !errors.As(err, &conflict) {
		t.Errorf("another content: %v", err)
	}
}

func TestAnotherCluster(t *testing.T) {
	mem := storagetest.NewMem()
	s := newServer(t, mem, fakepg.Config{})
	data := s.wal(1, 5)
	data[24]++
	s.write("/data/pg_wal/"+base(1, 5), data)
	s.refused(mem, base(1, 5), segment.ErrWrongCluster)

	// The same system identifier, and another version or segment size.
	s.pushes(s.has(1, 6))
	s.write("/data/PG_VERSION", []byte("16\n"))
	s.refused(mem, s.has(1, 7), segment.ErrWrongCluster)
	s.write("/data/PG_VERSION", []byte("15\n"))
	big := s.wal(1, 8)
	big[34] = 0x20 // 2 MiB
	s.write("/data/pg_wal/"+base(1, 8), append(big, make([]byte, mib)...))
	s.refused(mem, base(1, 8), segment.ErrWrongCluster)
}

// A WAL directory that was saved from a dead server can be pushed by hand.
func TestWithoutDataDirectory(t *testing.T) {
	mem := storagetest.NewMem()
	s := newServer(t, mem, fakepg.Config{Timeline: 2, History: []fakepg.Fork{{Timeline: 1, End: 5*mib + 8192}}})
	s.must(s.fsys.Remove("/data/global/pg_control"))
	s.must(s.fsys.Remove("/data/PG_VERSION"))
	if err := s.push(s.hasHistory(2)); err == nil {
		t.Error("a history went into the archive of a cluster that nobody knows")
	}
	s.pushes(s.has(2, 5), s.hasHistory(2))
	if got := keysBelow(mem, ""); !slices.Equal(got, []string{"wal/00000002.history", "wal/00000002/000000020000000000000005.zst", "walrecv.json"}) {
		t.Errorf("the archive has %v", got)
	}
	if there, err := vfs.Exists(s.fsys, "/data/"+noteFile); there || err != nil {
		t.Errorf("a note is there: %v, %v", there, err)
	}
	data := make([]byte, mib)
	s.write("/data/pg_wal/"+base(2, 7), data)
	if err := s.push(base(2, 7)); err == nil {
		t.Error("a segment of zeros was archived")
	}
}

// An archive that has lost its identity is not begun anew: its disk may not be
// mounted.
func TestForgottenArchive(t *testing.T) {
	mem := storagetest.NewMem()
	s := newServer(t, mem, fakepg.Config{})
	s.pushes(s.has(1, 5))
	empty := storagetest.NewMem()
	other := newServer(t, empty, fakepg.Config{}).from(s)
	other.refused(empty, s.has(1, 6), segment.ErrWrongCluster)
	if err := other.push(base(1, 6)); err == nil || !strings.HasSuffix(err.Error(), "remove /data/"+noteFile) {
		t.Errorf("%v", err)
	}

	other.o.Location = "/elsewhere" // on purpose
	other.pushes(base(1, 6))
	s.must(s.fsys.Remove("/data/" + noteFile))
	other.o.Location = "/archive"
	other.pushes(base(1, 6))
	s.write("/data/"+noteFile, []byte(`{"format":2,"archives":["/archive"]}`)) // nobody knows what it says
	newServer(t, storagetest.NewMem(), fakepg.Config{}).from(s).pushes(base(1, 6))

	s.write("/data/"+noteFile, []byte("{"))
	s.pushes(s.has(1, 7)) // makes no sense, and is made anew
	if names := s.files("/data"); !slices.Equal(names, []string{"/data/PG_VERSION", "/data/global", "/data/pg_wal", "/data/" + noteFile}) {
		t.Errorf("in the data directory: %v", names)
	}
}

func TestPanicIsNoSuccess(t *testing.T) {
	s := newServer(t, nil, fakepg.Config{})
	s.o.Open = func(context.Context) (storage.Store, error) { panic("no store") }
	if err := s.push(s.has(1, 5)); err == nil || !strings.Contains(err.Error(), "internal error") {
		t.Errorf("without a store: %v", err)
	}
}
