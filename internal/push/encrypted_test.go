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

func writerKeys(t *testing.T, key crypt.DigestKey) archive.Keys {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	enc, err := crypt.NewEncryption([]age.Recipient{id.Recipient()}, key)
	if err != nil {
		t.Fatal(err)
	}
	return archive.Keys{Encryption: enc}
}

// A command that lacks --encrypt-to puts nothing beside what is there encrypted.
func TestPushWithoutEncryptionBesideEncrypted(t *testing.T) {
	for _, key := range []crypt.DigestKey{nil, crypt.DigestKey(strings.Repeat("k", 32))} {
		mem := storagetest.NewMem()
		s := newServer(t, mem, fakepg.Config{})
		file := s.has(1, 5)
		s.o.Keys = writerKeys(t, key)
		s.pushes(file)
		s.o.Keys = archive.Keys{}
		before := mem.Keys()
		err := s.push(file)
		var conflict *archive.ConflictError
		switch {
		case key == nil && err != nil:
			t.Errorf("the same content: %v", err)
		case key != nil && (!errors.As(err, &conflict) || !conflict.OtherKey || !strings.Contains(err.Error(), "--encrypt-to and --digest-key")):
			t.Errorf("under a digest key: %v", err)
		}
		other := s.wal(1, 5)
		alter(other, at(1, 10))
		s.write("/data/pg_wal/"+file, other)
		if err := s.push(file); !errors.As(err, &conflict) || conflict.OtherKey != (key != nil) {
			t.Errorf("another content: %v", err)
		}
		if after := mem.Keys(); !slices.Equal(before, after) {
			t.Errorf("there is %v, and was %v", after, before)
		}
	}
}
