package push

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/crypt"
	"github.com/walrecv/walrecv/internal/fakepg"
	"github.com/walrecv/walrecv/storage/storagetest"
)

// The server encrypts what it archives, and cannot read it: the same again is the
// same, something else is not, and of the beginning of a segment nothing is known.
func TestEncrypted(t *testing.T) {
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	encryption, err := crypt.NewEncryption([]age.Recipient{identity.Recipient()}, crypt.DigestKey(strings.Repeat("key", 12)))
	if err != nil {
		t.Fatal(err)
	}
	const fork = 5*mib + 3*page
	mem := storagetest.NewMem()
	s := newServer(t, mem, fakepg.Config{})
	s.o.Keys = archive.Keys{Encryption: encryption}
	s.pushes(s.hasWhole(), base(1, 5))
	data := s.whole(5)
	alter(data, at(2, 0))
	s.write("/data/pg_wal/"+base(1, 5), data)
	var conflict *archive.ConflictError
	if err := s.push(base(1, 5)); !errors.As(err, &conflict) {
		t.Errorf("another content: %v", err)
	}
	file := s.hasTail(fork%mib, zeros)
	if err := s.push(file); err == nil || !strings.Contains(err.Error(), "not complete") {
		t.Errorf("a tail: %v", err)
	}
	s.pg.Promote(2, fork)
	s.pushes(s.hasHistory(2), file, file)
	keys := keysBelow(mem, "wal/")
	if len(keys) != 3 || !slices.ContainsFunc(keys, func(k string) bool { return strings.HasSuffix(k, ".partial.zst.age") }) ||
		!slices.Contains(keys, "00000001/"+base(1, 5)+".zst.age") || !slices.Contains(keys, "00000002.history") {
		t.Errorf("the archive has %v", keys)
	}
}
