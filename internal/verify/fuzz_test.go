package verify_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"os"
	"slices"
	"testing"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/codec"
	"github.com/walrecv/walrecv/internal/verify"
	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage"
)

// samples are the real segments of package segment's tests: no server is needed
// for them.
func samples(t testing.TB) *recording {
	t.Helper()
	const dir = "../../segment/testdata/wal/"
	r := &recording{
		id:        archive.Identity{SystemID: 7710755342863415827, SegmentSize: mib, Major: 15},
		segments:  map[segment.Name][]byte{},
		partials:  map[segment.Name][]byte{},
		histories: map[segment.TimelineID][]byte{},
	}
	read := func(base string, method codec.Method) []byte {
		file, err := os.Open(dir + base)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		plain, err := codec.NewReader(file, method, int64(mib))
		if err != nil {
			t.Fatal(err)
		}
		defer plain.Close()
		var data bytes.Buffer
		if _, err := data.ReadFrom(plain); err != nil {
			t.Fatal(err)
		}
		return data.Bytes()
	}
	r.histories[3] = read("00000003.history", codec.None)
	r.histories[2] = r.histories[3][:bytes.IndexByte(r.histories[3], '\n')+1]
	for _, base := range []string{"00000001000000000000000B", "00000002000000000000000C", "00000003000000000000000D"} {
		n, err := segment.ParseName(base, mib)
		if err != nil {
			t.Fatal(err)
		}
		r.segments[n] = read(base+".gz", codec.Gzip)
	}
	last := segment.Name{Timeline: 1, Number: 0xC}
	r.partials[last] = read("00000001000000000000000C.partial.gz", codec.Gzip)
	return r
}

// FuzzVerify changes the objects of an archive, their plain content, and their
// keys: whatever is there, verifying it ends, without a panic.
func FuzzVerify(f *testing.F) {
	r := samples(f)
	sound := r.world(f, nil)
	keys := sound.store.Keys()
	identity := archive.Object{System: r.id.SystemID, Kind: archive.KindIdentity}.Key()
	keys = slices.DeleteFunc(keys, func(key string) bool { return key == identity })
	f.Add([]byte{})
	f.Add([]byte{0, 0, 0, 10, 0, 1, 0xFF})
	f.Add([]byte{1, 1, 0, 0, 16, 4, 0xFF, 2, 2, 0, 0, 16, 4, 0xFF, 3, 3, 0, 1, 0, 4, 0x80})
	f.Fuzz(func(t *testing.T, changes []byte) {
		w := sound.clone(t)
		// Seven bytes are a change: of which object, how, where (three), how much, to what.
		for c := range slices.Chunk(changes[:min(len(changes), 70)], 7) {
			if len(c) == 7 {
				w.mutate(keys, c)
			}
		}
		a, err := archive.Open(context.Background(), w.store, r.id.SystemID, archive.Keys{})
		if err != nil {
			t.Fatal(err)
		}
		for _, deep := range []bool{false, true} {
			got, err := verify.New(a, w.store, verify.Options{Deep: deep, Workers: 1, Pause: noPause}).Run(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			if !got.Complete() {
				t.Fatalf("a store that answers was not read: %q", spelled(got.Unread))
			}
			if len(changes) < 7 && !got.Sound() {
				t.Fatalf("nothing was changed: %q", spelled(got.Findings))
			}
		}
	})
}

// mutate does one change.
func (w *world) mutate(keys []string, c []byte) {
	key := keys[int(c[0])%len(keys)]
	object, ok := w.store.Get(key)
	if !ok {
		return
	}
	where, n, to := int(binary.BigEndian.Uint32([]byte{0, c[2], c[3], c[4]})), int(c[5]), c[6]
	fill := func(data []byte) []byte {
		data = bytes.Clone(data)
		if len(data) > 0 {
			from := where % len(data)
			for i := from; i < min(from+n, len(data)); i++ {
				data[i] ^= to
			}
		}
		return data
	}
	switch c[1] % 6 {
	case 0: // the object
		w.store.Set(key, fill(object))
	case 1: // its plain content, with the right digest
		if plain, err := unpack(object); err == nil {
			w.store.Set(key, pack(w.t, fill(plain)))
		}
	case 2: // cut off
		w.store.Set(key, object[:where%(len(object)+1)])
	case 3: // gone
		w.remove(key)
	case 4: // exchanged
		other := keys[int(to)%len(keys)]
		if theirs, ok := w.store.Get(other); ok {
			w.store.Set(key, theirs)
			w.store.Set(other, object)
		}
	case 5: // under another name, with changed characters
		if name := string(fill([]byte(key))); storage.CheckKey(name) == nil {
			w.store.Set(name, object)
		}
	}
}
