package push

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/codec"
	"github.com/walrecv/walrecv/internal/crypt"
	"github.com/walrecv/walrecv/internal/fakepg"
	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage/storagetest"
)

// putChunk archives a piece of a segment, as docs/format.md says.
func putChunk(t *testing.T, mem *storagetest.Mem, file string, from int, plain []byte) {
	t.Helper()
	var object bytes.Buffer
	frame, err := codec.NewWriter(&object, codec.Zstd, 0, int64(len(plain)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := frame.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := frame.Close(); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf(`{"sha256":"%x","size":%d}`, sha256.Sum256(plain), len(plain))
	end := binary.LittleEndian.AppendUint32(nil, 0x184D2A5E)
	end = binary.LittleEndian.AppendUint32(end, uint32(len(text)+4))
	end = append(end, text...)
	object.Write(binary.LittleEndian.AppendUint32(end, uint32(len(text)+4)))
	mem.Set(fmt.Sprintf("7400000000000000001/tail/%s/%08X-%08X.zst", file, from, from+len(plain)), object.Bytes())
}

// What a receiver archived of a segment is not replaced by something else.
func TestTailOfAnotherServer(t *testing.T) {
	mem, s := primary(t, 4)
	data := s.whole(5)
	alter(data, at(40, 3))
	putChunk(t, mem, base(1, 5), 0, data[:at(40, 0)])
	putChunk(t, mem, base(1, 5), at(30, 0), data[at(30, 0):at(60, 0)])
	s.refused(mem, s.hasWhole(), segment.ErrBranch)
	s.write("/data/pg_wal/"+base(1, 5), data)
	s.pushes(base(1, 5))

	// What cannot be read says nothing.
	damaged := s.wal(1, 6)
	alter(damaged, at(2, 3))
	putChunk(t, mem, base(1, 6), 0, damaged)
	key := "7400000000000000001/tail/" + base(1, 6) + "/00000000-00100000.zst"
	object, _ := mem.Get(key)
	mem.Set(key, object[:len(object)-1])
	s.pushes(s.has(1, 6))
}

// The tail counts as archived, when a clone is told from a promoted standby.
func TestCloneBelowTheTail(t *testing.T) {
	mem, s := primary(t, 5)
	putChunk(t, mem, base(1, 6), 0, s.wal(1, 6))
	putChunk(t, mem, base(1, 7), 0, s.wal(1, 7)[:4*page])
	clone := forked(t, mem, 2, 6*mib+3*page)
	clone.refused(mem, clone.hasHistory(2), segment.ErrBranch)
	promoted := newServer(t, mem, fakepg.Config{Timeline: 2, History: []fakepg.Fork{{Timeline: 1, End: 6*mib + 4*page}}})
	promoted.pushes(promoted.hasHistory(2))
}

// encrypts makes a server encrypt what it archives.
func (s *server) encrypts(key string) {
	s.t.Helper()
	id, err := age.GenerateX25519Identity()
	s.must(err)
	s.o.Keys.Encryption, err = crypt.NewEncryption([]age.Recipient{id.Recipient()}, crypt.DigestKey(strings.Repeat(key, 32)))
	s.must(err)
}

// encryptChunk encrypts what is there.
func (s *server) encryptChunk(mem *storagetest.Mem, key string, plain []byte) {
	s.t.Helper()
	key = "7400000000000000001/" + key
	object, ok := mem.Get(key)
	if !ok {
		s.t.Fatalf("no %s", key)
	}
	file, err := os.Create(filepath.Join(s.t.TempDir(), "object"))
	s.must(err)
	defer file.Close()
	w, err := s.o.Keys.Encryption.NewWriter(file, int64(len(plain)))
	s.must(err)
	_, err = w.Write(object)
	s.must(err)
	h := s.o.Keys.Encryption.NewHash()
	h.Write(plain)
	_, err = w.Finish(crypt.Sum(h.Sum(nil)))
	s.must(err)
	object, err = os.ReadFile(file.Name())
	s.must(err)
	mem.Set(key+".age", object)
	s.must(mem.Delete(s.t.Context(), key))
}

// Whoever encrypts cannot read what is there, and compares all the same.
func TestEncryptedArchive(t *testing.T) {
	mem := storagetest.NewMem()
	s := newServer(t, mem, fakepg.Config{})
	s.encrypts("k")
	file := s.hasWhole()
	s.pushes(file, file)
	if got := keysBelow(mem, "wal/"); len(got) != 1 || !strings.HasSuffix(got[0], file+".zst.age") {
		t.Fatal(got)
	}
	data := s.whole(5)
	alter(data, at(3, 3))
	s.write("/data/pg_wal/"+file, data)
	var conflict *archive.ConflictError
	if err := s.push(file); !errors.As(err, &conflict) {
		t.Error(err)
	}
	// A file that ends early may be the beginning of what is there, or not: it is kept
	// beside it, and the server is not kept waiting.
	s.pushes(s.hasTail(at(40, 0), zeros))
	if got := keysBelow(mem, "wal/"); len(got) != 2 || !strings.HasSuffix(got[0], ".partial.zst.age") {
		t.Error(got)
	}
	whole := s.whole(6)
	putChunk(t, mem, base(1, 6), 0, whole[:9000])
	s.encryptChunk(mem, "tail/"+base(1, 6)+"/00000000-00002328.zst", whole[:9000])
	data = s.whole(6)
	alter(data, at(0, 3))
	s.write("/data/pg_wal/"+base(1, 6), data)
	s.refused(mem, base(1, 6), segment.ErrBranch)
	s.write("/data/pg_wal/"+base(1, 6), whole)
	s.pushes(base(1, 6))
}
