package push

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/walrecv/walrecv/internal/codec"
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
