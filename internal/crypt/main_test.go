package crypt

import (
	"bytes"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"filippo.io/age"
)

// pair makes a key pair.
func pair(t testing.TB) (age.Recipient, age.Identity) {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return id.Recipient(), id
}

// hybridPair makes a post-quantum one.
func hybridPair(t testing.TB) (age.Recipient, age.Identity) {
	t.Helper()
	id, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	return id.Recipient(), id
}

func mustEncryption(t testing.TB, key DigestKey, recipients ...age.Recipient) *Encryption {
	t.Helper()
	e, err := NewEncryption(recipients, key)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// file is what an object is written to.
type file struct{ bytes []byte }

func (f *file) WriteAt(p []byte, at int64) (int, error) {
	if end := int(at) + len(p); end > len(f.bytes) {
		f.bytes = slices.Concat(f.bytes, make([]byte, end-len(f.bytes)))
	}
	return copy(f.bytes[at:], p), nil
}

// seal makes an object of data.
func seal(t testing.TB, e *Encryption, data []byte) []byte {
	t.Helper()
	var out file
	w, err := e.NewWriter(&out, int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	h := e.NewHash()
	h.Write(data)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	length, err := w.Finish(Sum(h.Sum(nil)))
	if err != nil || length != int64(len(out.bytes)) {
		t.Fatalf("%d bytes of %d, %v", length, len(out.bytes), err)
	}
	return out.bytes
}

// unseal reads an object in every way there is, and demands that all of them
// agree.
func unseal(t testing.TB, ids Identities, object []byte) ([]byte, *Outer, error) {
	t.Helper()
	var got []byte
	r, outer, err := ids.NewReader(bytes.NewReader(object))
	if err == nil {
		got, err = io.ReadAll(r)
	}
	at, size, outerAt, errAt := ids.NewReaderAt(bytes.NewReader(object), int64(len(object)))
	var gotAt []byte
	if errAt == nil {
		gotAt, errAt = io.ReadAll(io.NewSectionReader(at, 0, size))
	}
	if (err == nil) != (errAt == nil) || err == nil && (!bytes.Equal(got, gotAt) || *outer != *outerAt) {
		t.Fatalf("%d bytes, %v; in any place %d bytes, %v", len(got), err, len(gotAt), errAt)
	}
	return got, outer, err
}

// noise is random, the same every time.
func noise(n int) []byte {
	rng := rand.NewChaCha8([32]byte{7})
	data := make([]byte, n)
	_, _ = rng.Read(data) // it never fails
	return data
}
