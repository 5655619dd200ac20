package archive

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/codec"
	"github.com/walrecv/walrecv/internal/crypt"
	"github.com/walrecv/walrecv/storage/storagetest"
)

// tarObject is the first piece of a data directory.
var tarObject = Object{Kind: KindBaseBackup, ID: "x", File: TarFile(BaseTar, 1)}

// noise is half of it noise, so that it can be compressed, and no two are alike.
func noise(size int, seed uint64) []byte {
	data := make([]byte, size)
	rng := rand.New(rand.NewPCG(seed, 0))
	for i := 0; i < size; i += 2 {
		data[i] = byte(rng.Uint32())
	}
	return data
}

// create writes an object and commits it.
func create(a *Archive, t *testing.T, data []byte) (Stored, error) {
	t.Helper()
	w, err := a.Create(t.Context(), tarObject)
	if err != nil {
		return Stored{}, err
	}
	var s Stored
	if _, err = io.Copy(w, bytes.NewReader(data)); err == nil {
		s, err = w.Commit()
	}
	return s, errors.Join(err, w.Abort())
}

func readStored(a *Archive, t *testing.T, s Stored) ([]byte, error) {
	t.Helper()
	r, err := a.OpenStored(t.Context(), "x", s)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

func TestStoredObjects(t *testing.T) {
	for _, encrypted := range []bool{false, true} {
		for _, size := range []int{0, 1, 300_000} {
			mem := storagetest.NewMem()
			writer, _, _ := newArchive(t, mem)
			reader, file := writer, "base.000001.tar.zst"
			if encrypted {
				writer, reader, _ = encryptedArchive(t, mem)
				file += ".age"
			}
			data := noise(size, 1)
			s, err := create(writer, t, data)
			if err != nil {
				t.Fatal(err)
			}
			raw, _ := mem.Get("7411122233344455566/backup/x/" + file)
			if want := (Stored{File: file, Size: int64(len(raw)), SHA256: sha256.Sum256(raw), PlainSize: int64(size)}); s != want {
				t.Errorf("%+v, want %+v", s, want)
			}
			if s.Name() != tarObject.File || s.Encrypted() != encrypted {
				t.Errorf("%q, %t", s.Name(), s.Encrypted())
			}
			if got, err := readStored(reader, t, s); err != nil || !bytes.Equal(got, data) {
				t.Errorf("%d bytes: read %d, %v", size, len(got), err)
			}
			if err := writer.CheckStored(t.Context(), "x", s); err != nil {
				t.Error(err)
			}
			if encrypted {
				if _, err := readStored(writer, t, s); !errors.Is(err, ErrEncrypted) {
					t.Errorf("without an identity: %v", err)
				}
				plain, outer, err := reader.keys.Identities.NewReader(bytes.NewReader(raw))
				if err != nil || outer != nil {
					t.Fatalf("as an age file: %v, %v", outer, err)
				}
				raw, _ = io.ReadAll(plain)
			}
			frame, err := codec.NewReader(bytes.NewReader(raw), codec.Zstd, int64(size))
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(frame); err != nil || !bytes.Equal(got, data) {
				t.Errorf("as a zstd file: %d bytes, %v", len(got), err)
			}
			if _, err := create(writer, t, data); !errors.Is(err, fs.ErrExist) {
				t.Errorf("a taken key: %v", err)
			}
		}
	}
}

// TestDamagedStored: no reading ends well of what is not what was put.
func TestDamagedStored(t *testing.T) {
	mem := storagetest.NewMem()
	writer, reader, _ := encryptedArchive(t, mem)
	plainWriter, _, _ := newArchive(t, mem)
	for _, a := range []*Archive{writer, plainWriter} {
		s, err := create(a, t, noise(600, 2))
		if err != nil {
			t.Fatal(err)
		}
		key := "7411122233344455566/backup/x/" + s.File
		sound, _ := mem.Get(key)
		expect := func(what string, s Stored) {
			t.Helper()
			var damaged *DamagedError
			if _, err := readStored(reader, t, s); !errors.As(err, &damaged) || damaged.Key != key {
				t.Errorf("%s: read with %v", what, err)
			}
			if err := a.CheckStored(t.Context(), "x", s); !errors.As(err, &damaged) {
				t.Errorf("%s: checked with %v", what, err)
			}
		}
		for at := 0; at < len(sound); at += 7 {
			damaged := bytes.Clone(sound)
			damaged[at] ^= 1
			mem.Set(key, damaged)
			_, err := readStored(reader, t, s)
			// The header of an age file: nobody can tell who it was for.
			if a == writer && errors.Is(err, ErrEncrypted) && at < 300 {
				continue
			}
			expect("a bit", s)
		}
		mem.Set(key, sound[:len(sound)-1])
		expect("a byte less", s)
		mem.Set(key, append(bytes.Clone(sound), 0))
		expect("a byte more", s)
		mem.Set(key, sound)
		other := s
		other.SHA256[0] ^= 1
		expect("another object", other)
		other = s
		other.PlainSize++
		if _, err := readStored(reader, t, other); err == nil {
			t.Error("read with another size")
		}
		if _, err := readStored(reader, t, s); err != nil {
			t.Error(err)
		}
		if err := mem.Delete(t.Context(), key); err != nil {
			t.Fatal(err)
		}
		if _, err := readStored(reader, t, s); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a missing one: %v", err)
		}
	}
}

// TestStoredWithFaults: whatever request of a writer fails, it says so, and nothing is
// there that is not whole.
func TestStoredWithFaults(t *testing.T) {
	data := noise(600_000, 3)
	for _, fault := range []storagetest.Fault{{Before: storagetest.ErrInjected}, {After: storagetest.ErrInjected}} {
		for k := 1; ; k++ {
			mem := storagetest.NewMem()
			a, _, _ := newArchive(t, mem)
			var last storagetest.Op
			fail := storagetest.FailAt(k, fault)
			store := storagetest.NewFaulty(mem, func(r storagetest.Request) storagetest.Fault { last = r.Op; return fail(r) })
			a.store = store
			s, err := create(a, t, data)
			if store.Fired() == 0 {
				if err != nil || k < 5 {
					t.Errorf("request %d: %v", k, err)
				}
				break
			}
			if !errors.Is(err, storagetest.ErrInjected) {
				t.Errorf("request %d: %+v, %v", k, s, err)
			}
			if there := len(mem.Keys()) > 1; there != (fault.After != nil && last == storagetest.OpCommit) {
				t.Errorf("request %d, %s: the object is there: %t", k, last, there)
			}
		}
	}
}

func TestImpossibleStored(t *testing.T) {
	a, _, _ := newArchive(t, storagetest.NewMem())
	for _, file := range []string{"", "start.json", "backup.json", "base.tar.zst", "../x/base.000001.tar.zst", "base.000001.tar"} {
		if _, err := readStored(a, t, Stored{File: file}); err == nil || !strings.Contains(err.Error(), "there can be no") {
			t.Errorf("%q: %v", file, err)
		}
	}
}

// TestNoRecipients: an archive that cannot encrypt stores nothing in the clear.
func TestNoRecipients(t *testing.T) {
	mem := storagetest.NewMem()
	a, _, _ := newArchive(t, mem)
	a = a.with(Keys{Encryption: &crypt.Encryption{}})
	if _, err := create(a, t, nil); err == nil {
		t.Error("created")
	}
	if n := len(mem.Keys()); n != 1 {
		t.Errorf("%d objects", n)
	}
}

// TestAbortOfAHangingStore: what is given up does not wait for what it was on the way to.
func TestAbortOfAHangingStore(t *testing.T) {
	mem := storagetest.NewMem()
	hangs := make(chan struct{})
	store := storagetest.NewFaulty(mem, func(r storagetest.Request) storagetest.Fault {
		if r.Op != storagetest.OpWrite {
			return storagetest.Fault{}
		}
		close(hangs)
		return storagetest.Fault{Hang: true}
	})
	a, _, _ := newArchive(t, store)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	w, err := a.Create(ctx, tarObject)
	if err == nil {
		_, err = w.Write(noise(1<<20, 1))
	}
	if err != nil {
		t.Fatal(err)
	}
	<-hangs
	if err := w.Abort(); err != nil || ctx.Err() != nil {
		t.Errorf("%v; waited for the store: %v", err, ctx.Err())
	}
}
