package archive

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/walrecv/walrecv/internal/crypt"
	"github.com/walrecv/walrecv/storage"
	"github.com/walrecv/walrecv/storage/storagetest"
)

// testKeys are a writer's and a reader's.
func testKeys(t testing.TB, digestKey string) (writer, reader Keys) {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	var key crypt.DigestKey
	if digestKey != "" {
		key = crypt.DigestKey(strings.Repeat(digestKey, 32))
	}
	enc, err := crypt.NewEncryption([]age.Recipient{id.Recipient()}, key)
	if err != nil {
		t.Fatal(err)
	}
	return Keys{Encryption: enc}, Keys{Identities: crypt.Identities{id}}
}

// with opens the same archive with other keys.
func (a *Archive) with(keys Keys) *Archive { return opened(a.store, a.id, keys) }

// encryptedArchive is one archive for who writes and who reads.
func encryptedArchive(t *testing.T, store storage.Store) (writer, reader *Archive, scratch *Scratch) {
	t.Helper()
	a, scratch, _ := newArchive(t, store)
	w, r := testKeys(t, "k")
	return a.with(w), a.with(r), scratch
}

func TestEncryptedRoundTrip(t *testing.T) {
	for _, sequential := range []bool{false, true} {
		store := storagetest.NewMem()
		store.Sequential = sequential
		writer, reader, scratch := encryptedArchive(t, store)
		n := name(1, 7)
		data := wal(n, 100, 0)
		mustPut(t, writer, scratch, n, data)
		mustPut(t, writer, scratch, n, data) // another nonce, the same content
		if got := keys(store); len(got) != 1 || got[0] != "000000010000000000000007.zst.age" {
			t.Fatal(got)
		}
		if got, err := readSegment(t.Context(), reader, n); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		info, err := reader.SegmentInfo(t.Context(), n)
		if err != nil || info.Digest != sha256.Sum256(data) || !info.Known {
			t.Errorf("%+v, %v", info, err)
		}
		var conflict *ConflictError
		err = writer.PutSegment(t.Context(), scratch, n, opener(wal(n, 100, 1)))
		if !errors.As(err, &conflict) || conflict.OtherKey || conflict.Key != writer.segmentKey(n)+".age" {
			t.Errorf("another content: %v", err)
		}
		if err := writer.PutPartial(t.Context(), scratch, n, opener(data)); err != nil {
			t.Error(err)
		}
		partials, err := reader.Partials(t.Context(), n)
		if err != nil || len(partials) != 1 || !partials[0].Encrypted {
			t.Fatal(partials, err)
		}
		p, err := reader.OpenPartial(t.Context(), partials[0])
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(p); err != nil || !bytes.Equal(got, data) {
			t.Errorf("partial: %d bytes, %v", len(got), err)
		}
		p.Close()
	}
}

// The digest in the clear must say nothing of the content without the key.
func TestDigestInTheClear(t *testing.T) {
	store := storagetest.NewMem()
	writer, _, scratch := encryptedArchive(t, store)
	n := name(1, 7)
	data := wal(n, 3, 0)
	mustPut(t, writer, scratch, n, data)
	object, _ := store.Get(writer.segmentKey(n) + ".age")
	if sum := Digest(sha256.Sum256(data)).String(); bytes.Contains(object, []byte(sum)) {
		t.Error("the SHA-256 stands in the object")
	}
	if err := writer.PutPartial(t.Context(), scratch, n, opener(data)); err != nil {
		t.Fatal(err)
	}
	short := Digest(sha256.Sum256(data)).short()
	for _, key := range store.Keys() {
		if strings.Contains(key, short) {
			t.Errorf("the beginning of the SHA-256 stands in %s", key)
		}
	}
	// Under another key nobody knows, which is neither success nor a conflict.
	w, _ := testKeys(t, "o")
	var conflict *ConflictError
	err := writer.with(w).PutSegment(t.Context(), scratch, n, opener(data))
	if !errors.As(err, &conflict) || !conflict.OtherKey || !strings.Contains(err.Error(), "--digest-key") {
		t.Error(err)
	}
}

// Everybody must be able to read the archive without this program.
func TestToolsReadAnEncryptedObject(t *testing.T) {
	store := storagetest.NewMem()
	a, scratch, _ := newArchive(t, store)
	w, r := testKeys(t, "")
	n := name(1, 7)
	data := wal(n, 100, 0)
	mustPut(t, a.with(w), scratch, n, data)
	object, _ := store.Get(a.segmentKey(n) + ".age")
	plain, err := age.Decrypt(bytes.NewReader(object), r.Identities[0])
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "segment.zst")
	content, err := io.ReadAll(plain)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := exec.Command("zstd", "-dc", file).Output(); err != nil || !bytes.Equal(got, data) {
		t.Errorf("zstd -d: %d bytes, %v", len(got), err)
	}
	if _, err := exec.LookPath("age"); err != nil {
		return // the library has read it
	}
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte(r.Identities[0].(*age.X25519Identity).String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tool := exec.Command("age", "-d", "-i", key)
	tool.Stdin = bytes.NewReader(object)
	if got, err := tool.Output(); err != nil || !bytes.Equal(got, content) {
		t.Errorf("age -d: %d bytes, %v", len(got), err)
	}
}

func TestReadingWithoutTheRightIdentity(t *testing.T) {
	store := storagetest.NewMem()
	writer, _, scratch := encryptedArchive(t, store)
	n := name(1, 7)
	mustPut(t, writer, scratch, n, small(n))
	if err := writer.PutPartial(t.Context(), scratch, n, opener(small(n))); err != nil {
		t.Fatal(err)
	}
	_, stranger := testKeys(t, "")
	for what, a := range map[string]*Archive{"none": writer.with(Keys{}), "another": writer.with(stranger), "the writer": writer} {
		partials, err := a.Partials(t.Context(), n)
		if err != nil || len(partials) != 1 {
			t.Fatal(partials, err)
		}
		_, segmentErr := readSegment(t.Context(), a, n)
		_, infoErr := a.SegmentInfo(t.Context(), n)
		_, partialErr := a.OpenPartial(t.Context(), partials[0])
		for _, err := range []error{segmentErr, infoErr, partialErr} {
			if !errors.Is(err, ErrEncrypted) || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), ".zst.age: ") {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
}

// An archive that was plain first, and then encrypted.
func TestMixedArchive(t *testing.T) {
	store := storagetest.NewMem()
	writer, reader, scratch := encryptedArchive(t, store)
	plain := writer.with(Keys{})
	old, both := wal(name(1, 7), 3, 0), wal(name(1, 8), 3, 0)
	mustPut(t, plain, scratch, name(1, 7), old)
	mustPut(t, plain, scratch, name(1, 8), both)
	// The segment is there: not once more.
	mustPut(t, writer, scratch, name(1, 8), both)
	var conflict *ConflictError
	if err := writer.PutSegment(t.Context(), scratch, name(1, 8), opener(wal(name(1, 8), 3, 1))); !errors.As(err, &conflict) || conflict.Key != plain.segmentKey(name(1, 8)) {
		t.Error(err)
	}
	fresh := wal(name(1, 9), 3, 0)
	mustPut(t, writer, scratch, name(1, 9), fresh)
	if got := strings.Join(keys(store), " "); got != "000000010000000000000007.zst 000000010000000000000008.zst 000000010000000000000009.zst.age" {
		t.Error(got)
	}
	for range 2 {
		for number, want := range map[uint64][]byte{7: old, 8: both, 9: fresh} {
			if got, err := readSegment(t.Context(), reader, name(1, number)); err != nil || !bytes.Equal(got, want) {
				t.Errorf("segment %d: %d bytes, %v", number, len(got), err)
			}
		}
	}
	if _, err := readSegment(t.Context(), reader, name(1, 10)); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// A run of segments of one form takes one request each, and writing takes one
// more for many.
func TestRequestsWithEncryption(t *testing.T) {
	mem := storagetest.NewMem()
	count := map[storagetest.Op]int{}
	store := storagetest.NewFaulty(mem, func(r storagetest.Request) storagetest.Fault {
		count[r.Op]++
		return storagetest.Fault{}
	})
	writer, reader, scratch := encryptedArchive(t, store)
	clear(count)
	for i := range uint64(10) {
		mustPut(t, writer, scratch, name(1, i+1), small(name(1, i+1)))
	}
	if count[storagetest.OpPut] != 10 || count[storagetest.OpList] != 1 || len(count) != 2 {
		t.Errorf("writing: %v", count)
	}
	clear(count)
	for _, a := range []*Archive{reader, reader.with(Keys{Identities: reader.keys.Identities})} {
		for i := range uint64(10) {
			if _, err := readSegment(t.Context(), a, name(1, i+1)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if count[storagetest.OpOpen] != 20 || len(count) != 1 {
		t.Errorf("reading: %v", count)
	}
}

// What was altered is never taken for what was put, and never for absent: not by
// who reads, nor by a writer that removes its own copy if it is equal.
func TestDamagedEncryptedObjects(t *testing.T) {
	store := storagetest.NewMem()
	writer, reader, scratch := encryptedArchive(t, store)
	n := name(1, 7)
	data := wal(n, 20, 0)
	mustPut(t, writer, scratch, n, data)
	key := writer.segmentKey(n) + ".age"
	object, _ := store.Get(key)
	object = bytes.Clone(object)
	head := bytes.Index(object, []byte("\n--- ")) + 49
	// What it says of itself can be altered so that it is another key's or another
	// content's, and then it is at least not equal.
	try := func(what string, bad []byte, inHeader, inMAC bool) {
		t.Helper()
		store.Set(key, bad)
		var damaged *DamagedError
		_, err := readSegment(t.Context(), reader, n)
		_, infoErr := reader.SegmentInfo(t.Context(), n)
		if !errors.As(err, &damaged) && !(inHeader && errors.Is(err, ErrEncrypted)) {
			t.Fatalf("%s: %v", what, err)
		}
		if infoErr != nil && !errors.As(infoErr, &damaged) && !errors.Is(infoErr, ErrEncrypted) {
			t.Fatalf("%s: info: %v", what, infoErr)
		}
		err = writer.PutSegment(t.Context(), scratch, n, opener(data))
		if err == nil && !inMAC {
			t.Fatalf("%s: taken for what was to be put", what)
		}
		if errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("%s: %v", what, err)
		}
	}
	const seed = 42
	rng := rand.New(rand.NewPCG(seed, seed))
	for range 60 {
		at := rng.IntN(len(object))
		if rng.IntN(2) == 0 {
			at = rng.IntN(head)
		}
		bad := bytes.Clone(object)
		bad[at] ^= 1 << rng.IntN(8)
		try("a bit", bad, at < head, at < head && at >= head-45)
	}
	for range 30 {
		try("cut short", object[:rng.IntN(len(object))], false, false)
	}
	try("twice", append(bytes.Clone(object), object...), false, false)
	try("empty", nil, false, false)
	plain, _ := encoded(t, data)
	try("no age file", plain, false, false)
}

// A connection that breaks is not a damaged object, nor one for somebody else.
func TestBrokenReadsOfEncryptedObjects(t *testing.T) {
	mem := storagetest.NewMem()
	writer, reader, scratch := encryptedArchive(t, mem)
	n := name(1, 7)
	data := small(n)
	mustPut(t, writer, scratch, n, data)
	object, _ := mem.Get(writer.segmentKey(n) + ".age")
	for _, sequential := range []bool{false, true} {
		mem.Sequential = sequential
		for _, end := range []error{io.EOF, io.ErrUnexpectedEOF, storagetest.ErrInjected, fs.ErrNotExist} {
			for at := int64(0); at < int64(len(object)); at += 29 {
				cut := storagetest.Fault{Cut: &storagetest.Cut{At: at, Err: end}}
				store := storagetest.NewFaulty(mem, func(storagetest.Request) storagetest.Fault { return cut })
				broken := opened(store, testIdentity, reader.keys)
				_, err := readSegment(t.Context(), broken, n)
				_, infoErr := broken.SegmentInfo(t.Context(), n)
				_, clearErr := broken.readClear(t.Context(), Object{System: testSystem, Kind: KindSegment, Timeline: 1, Segment: n.Format(testSize), Encrypted: true})
				for what, err := range map[string]error{"read": err, "info": infoErr, "clear": clearErr} {
					expectUnknown(t, what, at, end, err)
					if errors.Is(err, ErrEncrypted) {
						t.Fatalf("%s cut after %d bytes with %v: %v", what, at, end, err)
					}
				}
			}
		}
	}
}

// Whoever writes knows no more than what went through its own hands.
func TestEncryptedIndex(t *testing.T) {
	ctx := context.Background()
	store := storagetest.NewMem()
	writer, reader, scratch := encryptedArchive(t, store)
	var infos []SegmentInfo
	for i := range uint64(3) {
		n := name(1, i+1)
		mustPut(t, writer, scratch, n, small(n))
		info, err := reader.SegmentInfo(ctx, n)
		if err != nil {
			t.Fatal(err)
		}
		infos = append(infos, info)
	}
	for range 2 {
		if err := writer.putIndex(ctx, infos); err != nil {
			t.Fatal(err)
		}
	}
	for what, a := range map[string]*Archive{"reader": reader, "writer": writer} {
		index, err := a.Index(ctx)
		if err != nil || len(index.blocks) != 1 {
			t.Fatal(index, err)
		}
		l, err := a.Listing(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if lost, err := a.Lost(ctx, &Listing{size: testSize}, index); err != nil || (len(lost) > 0) != (what == "reader") {
			t.Errorf("%s: %v, %v", what, lost, err)
		}
		known := 0
		err = a.Infos(ctx, l, index, func(i SegmentInfo, err error) error {
			if err == nil && i.Known {
				known++
			} else if !errors.Is(err, ErrEncrypted) {
				t.Errorf("%s: %v", what, err)
			}
			return nil
		})
		if err != nil || known > 0 && known != 3 || (known == 3) != (what == "reader") || len(index.Damaged()) > 0 {
			t.Errorf("%s: %d known, %v, %v", what, known, err, index.Damaged())
		}
	}
	for _, objects := range must(t, reader).blocks {
		key := objects[0].Key()
		object, _ := store.Get(key)
		if bytes.Contains(object, []byte("sha256")) && !bytes.HasPrefix(object, []byte("age-encryption.org/v1\n")) {
			t.Error("the index is not encrypted")
		}
		bad := bytes.Clone(object)
		bad[len(bad)-1] ^= 1
		store.Set(key, bad)
		var damaged *DamagedError
		if _, err := reader.readIndex(ctx, objects[0]); !errors.As(err, &damaged) {
			t.Error(err)
		}
	}
}

func must(t *testing.T, a *Archive) *Index {
	t.Helper()
	x, err := a.Index(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func TestEncryptedChunks(t *testing.T) {
	store := storagetest.NewMem()
	writer, reader, scratch := encryptedArchive(t, store)
	n := name(1, 7)
	data := wal(n, 100, 0)
	c := Chunk{Name: n, From: 5, To: 9000}
	for range 2 {
		if err := putChunk(t, writer, scratch, c, opener(data[c.From:c.To])); err != nil {
			t.Fatal(err)
		}
	}
	var conflict *ConflictError
	if err := putChunk(t, writer, scratch, c, opener(data[c.From+1:c.To+1])); !errors.As(err, &conflict) {
		t.Error(err)
	}
	chunks, err := reader.Chunks(t.Context(), n)
	c.Encrypted = true
	if err != nil || len(chunks) != 1 || chunks[0] != c {
		t.Fatal(chunks, err)
	}
	if got, err := readChunk(t, reader, c); err != nil || !bytes.Equal(got, data[c.From:c.To]) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if _, err := readChunk(t, writer, c); !errors.Is(err, ErrEncrypted) {
		t.Error(err)
	}
}
