package local

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/storage"
)

// object is one of the objects that the sweeps put.
type object struct {
	key    string
	data   []byte
	upload bool // with Create, not with Put
}

// objects are in new directories, in one that is there, and in none. Every other one
// is put with Create.
func objects() []object {
	var all []object
	for i, key := range []string{
		"7/wal/00000001/A", "7/wal/00000001/B", "7/top", "7/wal/00000002/A", "top", "7/wal.history",
	} {
		all = append(all, object{key, bytes.Repeat([]byte{byte('a' + i)}, 10_000+i), i%2 == 1})
	}
	return append(all, object{"empty", []byte{}, false}, object{"empty-too", []byte{}, true})
}

func (o object) putTo(t *testing.T, s storage.Store) error {
	if o.upload {
		return o.uploadTo(t, s)
	}
	return s.Put(t.Context(), o.key, pieces{storage.BytesSource(o.data)})
}

func (o object) uploadTo(t *testing.T, s storage.Store) error {
	u, err := storage.Create(t.Context(), s, o.key)
	if err != nil {
		return err
	}
	defer func() { _ = u.Abort() }()
	for data := o.data; len(data) > 0; {
		n, err := u.Write(data[:min(len(data), 4096)])
		if err != nil {
			return err
		}
		data = data[n:]
	}
	return u.Commit()
}

// pieces is a Source that takes several writes.
type pieces struct{ storage.Source }

func (p pieces) Open() (io.ReadSeekCloser, error) {
	r, err := p.Source.Open()
	return pieceReader{r}, err
}

type pieceReader struct{ io.ReadSeekCloser }

func (r pieceReader) Read(p []byte) (int, error) {
	return r.ReadSeekCloser.Read(p[:min(len(p), 4096)])
}

// there reports whether the object can be read, and fails the test where that
// is anything but whole or absent.
func (o object) there(t *testing.T, s storage.Store) bool {
	t.Helper()
	body, _, err := s.Open(t.Context(), o.key)
	if errors.Is(err, fs.ErrNotExist) {
		return false
	}
	if err != nil {
		t.Fatalf("open %s: %v", o.key, err)
	}
	defer body.Close()
	got, err := io.ReadAll(body)
	if err != nil || !bytes.Equal(got, o.data) {
		t.Fatalf("%s: %d bytes, %v; want %d bytes", o.key, len(got), err, len(o.data))
	}
	return true
}

// TestPowerLoss loses power before each step of a row of Puts and a Delete. What
// was put is whole and there, what was deleted is not, the rest is whole or
// absent, and all of it can be put afterwards.
func TestPowerLoss(t *testing.T) {
	const rounds = 24
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	var crashes, kept, lost, acknowledged int
	for round := range uint64(rounds) {
		rng := rand.New(rand.NewPCG(seed, round))
		if round == 0 {
			rng = nil // exactly what was synced
		}
		for k := 0; ; k++ {
			mem := vfs.NewMem()
			newMemStore(t, mem)
			crasher := vfs.NewCrasher(mem, k, rng)
			put, deleted := runUntilCrash(t, New(crasher.FS(), root, Private))
			disk, crashed := crasher.Crashed()
			if !crashed {
				break
			}
			crashes++
			s := New(disk, root, Private)
			for i, o := range objects() {
				there := o.there(t, s)
				switch {
				case i == 0 && deleted && there:
					t.Fatalf("round %d, crash %d: %s was deleted and is there", round, k, o.key)
				case i == 0 && len(put) == len(objects()): // its Delete may have happened
				case i < len(put) && !there:
					t.Fatalf("round %d, crash %d: %s was put and is lost", round, k, o.key)
				case i < len(put):
					acknowledged++
				case there:
					kept++
				default:
					lost++
				}
			}
			recoverAll(t, s, disk)
		}
	}
	t.Logf("%d crashes; objects: %d acknowledged, %d kept and %d lost otherwise", crashes, acknowledged, kept, lost)
	if crashes < rounds*40 || kept < 10 || lost < 10 || acknowledged < 100 {
		t.Error("too few outcomes to tell anything")
	}
}

// runUntilCrash puts the objects one after the other and then deletes the first
// one. It returns those whose Put was acknowledged.
func runUntilCrash(t *testing.T, s *Store) (put []object, deleted bool) {
	t.Helper()
	for _, o := range objects() {
		if err := o.putTo(t, s); err != nil {
			notAnAnswer(t, err)
			return put, false
		}
		put = append(put, o)
	}
	err := s.Delete(t.Context(), put[0].key)
	notAnAnswer(t, err)
	return put, err == nil
}

// recoverAll puts everything again, as after a restart, and sweeps: then there
// is every object, and nothing else.
func recoverAll(t *testing.T, s *Store, disk *vfs.Mem) {
	t.Helper()
	for _, o := range objects() {
		if err := o.putTo(t, s); err != nil && !errors.Is(err, fs.ErrExist) {
			t.Fatalf("put %s after the crash: %v", o.key, err)
		}
		if !o.there(t, s) {
			t.Fatalf("%s is not there after its put", o.key)
		}
	}
	if _, err := s.Sweep(t.Context(), time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	for _, name := range files(t, disk, root) {
		if strings.Contains(name, "~") {
			t.Fatalf("%s is left", name)
		}
	}
	n := 0
	err := s.List(t.Context(), "", func(storage.Info) error { n++; return nil })
	if err != nil || n != len(objects()) {
		t.Fatalf("list shows %d objects, %v", n, err)
	}
}

// TestKilledWriter ends a process before each step of its Put. A second one
// puts the same; whether that is nil or fs.ErrExist, the object survives the
// loss of power that follows at once: the first process may have come as far
// as to make the names, but not to sync them.
func TestKilledWriter(t *testing.T) {
	answers := map[string]int{}
	for k, done := 0, false; !done; k++ {
		for _, o := range objects()[:3] {
			mem := vfs.NewMem()
			newMemStore(t, mem)
			killer := vfs.NewKiller(mem, k)
			err := o.putTo(t, New(killer.FS(), root, Private))
			disk, killed := killer.Crashed()
			if !killed {
				disk, done = mem, true
			}
			if err == nil {
				answers["the first one succeeded"]++
			}
			err = o.putTo(t, New(disk, root, Private))
			switch {
			case err == nil:
				answers["the second one succeeded"]++
			case errors.Is(err, fs.ErrExist):
				answers["the second one found it"]++
			default:
				t.Fatalf("killed at %d: put %s: %v", k, o.key, err)
			}
			if !o.there(t, New(disk.CrashClone(nil), root, Private)) {
				t.Fatalf("killed at %d: %s is lost though the second put returned %v", k, o.key, err)
			}
		}
	}
	t.Log(answers)
	if len(answers) < 3 {
		t.Errorf("outcomes %v, want all three", answers)
	}
}

// TestDeleteAfterKill: a Delete that finds nothing makes that durable, too.
func TestDeleteAfterKill(t *testing.T) {
	mem := vfs.NewMem()
	s := newMemStore(t, mem)
	o := objects()[0]
	if err := o.putTo(t, s); err != nil {
		t.Fatal(err)
	}
	// As far as a Delete comes before its sync.
	if err := mem.Remove(s.path(o.key)); err != nil {
		t.Fatal(err)
	}
	if err := s.Delete(t.Context(), o.key); err != nil {
		t.Fatal(err)
	}
	if o.there(t, New(mem.CrashClone(nil), root, Private)) {
		t.Error("it is back after a crash")
	}
}

// files returns the paths of all files below dir.
func files(t *testing.T, fsys vfs.FS, dir string) []string {
	t.Helper()
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		name := fmt.Sprintf("%s/%s", dir, e.Name)
		if e.Dir {
			names = append(names, files(t, fsys, name)...)
		} else {
			names = append(names, name)
		}
	}
	return names
}

// notAnAnswer checks that an error, if there is one, says nothing about an
// object.
func notAnAnswer(t *testing.T, err error) {
	t.Helper()
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrExist) {
		t.Errorf("%v is an answer about an object", err)
	}
}
