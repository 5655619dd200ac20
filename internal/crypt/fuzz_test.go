package crypt

import (
	"bytes"
	"io"
	"testing"

	"filippo.io/age"
)

// What is read in the clear must be what age reads.
func FuzzReadClear(f *testing.F) {
	r, id := pair(f)
	q, _ := hybridPair(f)
	for _, e := range []*Encryption{mustEncryption(f, nil, r), mustEncryption(f, testKey, r, r), mustEncryption(f, testKey, q)} {
		object := seal(f, e, []byte("WAL"))
		f.Add(object)
		f.Add(object[:len(object)/2])
		f.Add(bytes.Replace(object, []byte("-> walrecv"), []byte("-> grease"), 1))
		f.Add(bytes.Replace(object, []byte(" 3 "), []byte(" 03 "), 1))
	}
	f.Add([]byte("age-encryption.org/v1\n-> walrecv\n\n--- AAAA\n"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := ReadClear(bytes.NewReader(data))
		if err != nil {
			if _, _, err := (Identities{id}).NewReader(bytes.NewReader(data)); err == nil && !bytes.Contains(data, []byte("-> grease")) {
				t.Fatalf("it can be decrypted, but not read in the clear")
			}
			return
		}
		head, err := age.ExtractHeader(bytes.NewReader(data))
		if err != nil || !bytes.HasPrefix(data, head) {
			t.Fatalf("age: %q, %v", head, err)
		}
		rest, err := io.ReadAll(c)
		if err != nil || !bytes.Equal(rest, data[len(head):]) {
			t.Fatalf("%d bytes behind the header of %d, %v", len(rest), len(data)-len(head), err)
		}
		if !bytes.Contains(head, []byte(line(c.Outer)[:20])) {
			t.Fatalf("%+v is not in %q", c.Outer, head)
		}
	})
}
