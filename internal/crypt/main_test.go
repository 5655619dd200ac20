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

// unseal reads an object, and its end by itself, and demands that both agree.
func unseal(t testing.TB, ids Identities, object []byte) ([]byte, *Outer, error) {
	t.Helper()
	var got []byte
	r, outer, err := ids.NewReader(bytes.NewReader(object))
	if err == nil {
		got, err = io.ReadAll(r)
	}
	last, errLast := readLast(ids, object, func(int64) {})
	if err == nil && (errLast != nil || !bytes.Equal(last, got[max(0, len(got)-lastRead):])) {
		t.Fatalf("%d bytes, %v; the last %d of them, %v", len(got), err, len(last), errLast)
	}
	return got, outer, err
}

// lastRead is how much of the end of an object is read by itself.
const lastRead = 5000

func readLast(ids Identities, object []byte, asked func(int64)) ([]byte, error) {
	return ids.ReadLast(object[:min(len(object), HeadLength)], int64(len(object)), lastRead, func(n int64) ([]byte, error) {
		asked(n)
		return object[int64(len(object))-n:], nil
	})
}

// noise is random, the same every time.
func noise(n int) []byte {
	rng := rand.NewChaCha8([32]byte{7})
	data := make([]byte, n)
	_, _ = rng.Read(data) // it never fails
	return data
}
