package crypt

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"filippo.io/age"
)

var testKey = DigestKey("0123456789abcdef0123456789abcdef")

// The sizes are those around age's chunks.
func TestEveryRecipientReadsAnObject(t *testing.T) {
	r1, id1 := pair(t)
	r2, id2 := pair(t)
	q1, idq1 := hybridPair(t)
	q2, idq2 := hybridPair(t)
	_, stranger := pair(t)
	for _, c := range []struct {
		recipients []age.Recipient
		ids        []age.Identity
	}{
		{[]age.Recipient{r1}, []age.Identity{id1}},
		{[]age.Recipient{r1, r2}, []age.Identity{id1, id2}},
		{[]age.Recipient{q1, q2}, []age.Identity{idq1, idq2}},
	} {
		e := mustEncryption(t, testKey, c.recipients...)
		for _, size := range []int{0, 1, 64 << 10, 64<<10 + 1, 200_000} {
			data := noise(size)
			object := seal(t, e, data)
			for _, id := range c.ids {
				got, outer, err := unseal(t, Identities{stranger, id}, object)
				if err != nil || !bytes.Equal(got, data) {
					t.Fatalf("%d bytes: %d, %v", size, len(got), err)
				}
				mac := hmac.New(sha256.New, testKey)
				mac.Write(data)
				if outer.Digest != Sum(mac.Sum(nil)) || outer.Size != int64(size) || outer.Key != e.Key() {
					t.Errorf("%d bytes: %+v", size, outer)
				}
				// By nothing of ours.
				r, err := age.Decrypt(bytes.NewReader(object), id)
				if err != nil {
					t.Fatal(err)
				}
				if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, data) {
					t.Errorf("age reads %d bytes of %d, %v", len(got), size, err)
				}
			}
			if _, _, err := unseal(t, Identities{stranger}, object); !errors.Is(err, ErrNoIdentity) {
				t.Error(err)
			}
			if _, _, err := unseal(t, nil, object); !errors.Is(err, ErrNoIdentity) {
				t.Error(err)
			}
		}
	}
}

func TestWhatStandsInTheClear(t *testing.T) {
	r, _ := pair(t)
	data := noise(100_000)
	plainSum := sha256.Sum256(data)
	unkeyed := mustEncryption(t, nil, r)
	keyed := mustEncryption(t, testKey, r)
	otherKey := mustEncryption(t, DigestKey(strings.Repeat("x", 32)), r)
	read := func(object []byte) *Clear {
		t.Helper()
		c, err := ReadClear(bytes.NewReader(object))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, c); err != nil || !c.Whole() || c.Size != int64(len(data)) {
			t.Errorf("%+v, %v", c.Outer, err)
		}
		return c
	}
	first := seal(t, keyed, data)
	a, again, b, c := read(first), read(seal(t, keyed, data)), read(seal(t, otherKey, data)), read(seal(t, unkeyed, data))
	if c.Digest != plainSum || c.Key != "sha256" {
		t.Errorf("without a key: %+v", c.Outer)
	}
	if a.Digest != again.Digest || a.Key != again.Key || a.Stored == again.Stored {
		t.Errorf("the same content twice: %+v, %+v", a.Outer, again.Outer)
	}
	if a.Digest == plainSum || a.Digest == b.Digest || a.Key == b.Key || a.Key == c.Key {
		t.Errorf("under two keys: %+v, %+v", a.Outer, b.Outer)
	}
	if strings.Contains(string(first), string(testKey)) {
		t.Error("the key itself is in the object")
	}
	// Any age file has a header, but not ours.
	var foreign bytes.Buffer
	w, err := age.Encrypt(&foreign, r)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadClear(&foreign); !errors.Is(err, ErrNoOuter) {
		t.Error(err)
	}
}

// One bit at a time: most of the header, and places of the rest.
func TestEveryBitFlipIsNoticed(t *testing.T) {
	r, id := pair(t)
	other, _ := pair(t)
	object := seal(t, mustEncryption(t, testKey, other, r), noise(66_000))
	head := bytes.Index(object, []byte("\n--- ")) + 49
	clean, err := ReadClear(bytes.NewReader(object))
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for i := 0; i < len(object); i += 1 + rng.IntN(4) {
		if i > head+16 && i < len(object)-4 {
			i = min(i+rng.IntN(4000), len(object)-1)
		}
		bad := bytes.Clone(object)
		bad[i] ^= 1 << rng.IntN(8)
		got, _, err := unseal(t, Identities{id}, bad)
		if err == nil {
			t.Fatalf("byte %d of %d: %d bytes", i, len(object), len(got))
		}
		if i >= head && errors.Is(err, ErrNoIdentity) {
			t.Fatalf("byte %d of %d: %v", i, len(object), err)
		}
		c, err := ReadClear(bytes.NewReader(bad))
		if err == nil {
			_, err = io.Copy(io.Discard, c)
		}
		if inMAC := i >= head-45 && i < head; !inMAC && err == nil && c.Whole() && c.Digest == clean.Digest && c.Size == clean.Size && c.Key == clean.Key {
			t.Fatalf("byte %d of %d, without an identity: %v", i, len(object), err)
		}
	}
}

func TestEveryTruncationIsNoticed(t *testing.T) {
	r, id := pair(t)
	object := seal(t, mustEncryption(t, nil, r), noise(70_000))
	for size := 0; size < len(object); size++ {
		if size < len(object)-20 {
			size = min(size+97+size/10, len(object)-1)
		}
		for _, bad := range [][]byte{object[:size], append(bytes.Clone(object), object[:size+1]...)} {
			if _, _, err := unseal(t, Identities{id}, bad); err == nil || errors.Is(err, ErrNoIdentity) {
				t.Fatalf("%d of %d bytes: %v", len(bad), len(object), err)
			}
			c, err := ReadClear(bytes.NewReader(bad))
			if err == nil {
				_, err = io.Copy(io.Discard, c)
			}
			if err == nil && c.Whole() {
				t.Fatalf("%d of %d bytes look whole", len(bad), len(object))
			}
		}
	}
}

func TestRecipientsThatCannotBeTogether(t *testing.T) {
	r, _ := pair(t)
	q, _ := hybridPair(t)
	for _, recipients := range [][]age.Recipient{{r, q}, {q, r}, {}} {
		if _, err := NewEncryption(recipients, nil); err == nil {
			t.Errorf("%d recipients are accepted", len(recipients))
		}
	}
	// As many as are accepted can be read.
	for size := maxHeader / 2; ; size += 100 {
		e, err := NewEncryption([]age.Recipient{large(size)}, nil)
		if err != nil {
			if size < maxHeader/2+2 || !strings.Contains(err.Error(), "too many") {
				t.Error(err)
			}
			break
		}
		if _, err := ReadClear(bytes.NewReader(seal(t, e, nil))); err != nil {
			t.Fatal(err)
		}
	}
}

// large is a recipient that takes so many bytes of a header.
type large int

func (l large) Wrap([]byte) ([]*age.Stanza, error) {
	return []*age.Stanza{{Type: "large", Body: make([]byte, l)}}, nil
}

// What the disk fails with comes out.
func TestWriteErrors(t *testing.T) {
	r, _ := pair(t)
	e := mustEncryption(t, nil, r)
	full := errors.New("no space left")
	for k := range 4 {
		left := k
		dst := writerAt(func(p []byte) (int, error) {
			if left--; left < 0 {
				return 0, full
			}
			return len(p), nil
		})
		w, err := e.NewWriter(dst, 1)
		if err == nil {
			_, err = w.Write(noise(70_000))
		}
		if err == nil {
			_, err = w.Finish(Sum{})
		}
		if !errors.Is(err, full) {
			t.Errorf("after %d writes: %v", k, err)
		}
	}
}

type writerAt func([]byte) (int, error)

func (w writerAt) WriteAt(p []byte, _ int64) (int, error) { return w(p) }

// How much is asked for of a large object.
func TestOneReadFindsTheEnd(t *testing.T) {
	r, id := pair(t)
	e := mustEncryption(t, nil, r)
	for size, want := range map[int]int64{
		3*64<<10 + 10_000:       10_016,
		3*64<<10 + lastRead - 1: chunkLength + lastRead + 15,
		3 * 64 << 10:            chunkLength,
		20_000:                  20_016, // beyond the head
		100:                     0,
	} {
		data := noise(size)
		var asked []int64
		last, err := readLast(Identities{id}, seal(t, e, data), func(n int64) { asked = append(asked, n) })
		if err != nil || !bytes.Equal(last, data[max(0, size-lastRead):]) {
			t.Errorf("%d bytes: %d, %v", size, len(last), err)
		}
		if want > 0 && (len(asked) != 1 || asked[0] != want) || want == 0 && asked != nil {
			t.Errorf("%d bytes: asked for %d, not %d", size, asked, want)
		}
	}
	down := errors.New("down")
	object := seal(t, e, noise(100_000))
	_, err := Identities{id}.ReadLast(object[:HeadLength], int64(len(object)), 10, func(int64) ([]byte, error) { return nil, down })
	if !errors.Is(err, down) {
		t.Error(err)
	}
}

func BenchmarkSegment(b *testing.B) {
	r, _ := pair(b)
	e := mustEncryption(b, testKey, r)
	data := noise(16 << 20)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		w, err := e.NewWriter(writerAt(func(p []byte) (int, error) { return len(p), nil }), 0)
		if err != nil {
			b.Fatal(err)
		}
		h := e.NewHash()
		h.Write(data)
		if _, err := w.Write(data); err != nil {
			b.Fatal(err)
		}
		if _, err := w.Finish(Sum(h.Sum(nil))); err != nil {
			b.Fatal(err)
		}
	}
}
