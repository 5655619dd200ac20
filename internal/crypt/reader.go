package crypt

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"

	"filippo.io/age"
)

// ErrNoIdentity says that an object cannot be decrypted: there is no identity, or
// none of them fits. An object whose header was altered can look the same.
var ErrNoIdentity = errors.New("no identity fits")

// ErrNoOuter says that the header of an age file has nothing in the clear of what
// ours have: it was not written by this program.
var ErrNoOuter = errors.New("its header does not say what it holds")

// Identities decrypt what is encrypted for one of them. None is the zero value.
// They are safe for concurrent use.
type Identities []age.Identity

// NewReader reads an object. What it yields is authentic, and whole once it has
// returned io.EOF. outer is nil if the header has none. An error is
// [ErrNoIdentity], or says that the object is not what was written, or is one of
// reading r.
func (ids Identities) NewReader(r io.Reader) (plain io.Reader, outer *Outer, err error) {
	note := &noting{ids: ids}
	plain, err = age.Decrypt(r, note)
	return plain, note.outer, note.explain(err)
}

// Decrypt reads a small object whole.
func (ids Identities) Decrypt(object []byte) ([]byte, error) {
	plain, _, err := ids.NewReader(bytes.NewReader(object))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(plain)
}

// noting stands for identities, and notes what stands in the clear.
type noting struct {
	ids   Identities
	outer *Outer
}

// Unwrap implements age.Identity.
func (n *noting) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	for _, s := range stanzas {
		if s.Type != stanzaType {
			continue
		}
		o, err := parseOuter(s)
		if err != nil {
			return nil, err
		}
		n.outer = &o
		break
	}
	for _, id := range n.ids {
		key, err := id.Unwrap(stanzas)
		if !errors.Is(err, age.ErrIncorrectIdentity) {
			return key, err
		}
	}
	return nil, age.ErrIncorrectIdentity
}

func (n *noting) explain(err error) error {
	var none *age.NoIdentityMatchError
	if errors.As(err, &none) {
		return ErrNoIdentity
	}
	return err
}

// Clear is what can be known of an object without an identity. It reads the
// object behind its header, and sums up what passes.
type Clear struct {
	Outer

	rest *bufio.Reader
	sum  hash.Hash
}

// ReadClear reads the header of an object. What an object without a sound header
// fails with is no error of r. [ErrNoOuter] says that the header is sound, as far
// as can be told without an identity, and not ours.
func ReadClear(r io.Reader) (*Clear, error) {
	rest := bufio.NewReaderSize(r, 32<<10)
	head, err := readHeader(rest)
	if err != nil {
		return nil, err
	}
	note := &noting{}
	if _, err = age.DecryptHeader(head, note); note.explain(err) != ErrNoIdentity { //nolint:errorlint // it is not wrapped
		return nil, err
	}
	if note.outer == nil {
		return nil, ErrNoOuter
	}
	c := &Clear{Outer: *note.outer, rest: rest, sum: sha256.New()}
	c.sum.Write(covered(head))
	return c, nil
}

// Read yields what is behind the header, as it is.
func (c *Clear) Read(p []byte) (int, error) {
	n, err := c.rest.Read(p)
	c.sum.Write(p[:n])
	return n, err
}

// Whole tells whether the object, read to its end, is what was written, bit by bit:
// all of it but the MAC of its header, which takes an identity.
func (c *Clear) Whole() bool { return Sum(c.sum.Sum(nil)) == c.Stored }

// readHeader reads the lines of a header, the last of which has the MAC.
func readHeader(r *bufio.Reader) ([]byte, error) {
	var head []byte
	for {
		line, err := r.ReadSlice('\n')
		head = append(head, line...)
		switch {
		case len(head) > maxHeader || errors.Is(err, bufio.ErrBufferFull):
			return nil, errors.New("its header is too long")
		case err == io.EOF:
			return nil, errors.New("it ends within its header")
		case err != nil:
			return nil, err
		case !bytes.HasPrefix(head, []byte(intro)):
			return nil, errors.New("it is no age file")
		case bytes.HasPrefix(line, []byte(footer)):
			return head, nil
		}
	}
}

// parseSum reads 64 lower-case hexadecimal digits.
func parseSum(text string) (s Sum, err error) {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(s) || hex.EncodeToString(b) != text {
		return s, fmt.Errorf("%q in its header is no digest", text)
	}
	return Sum(b), nil
}
