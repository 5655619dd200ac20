// Package crypt encrypts objects with age (age-encryption.org/v1), for readers
// whose public keys are known: whoever encrypts cannot decrypt.
//
// An encrypted object is a whole age file, so `age -d` reads it. What has to be
// known of it without a key stands in the clear in a stanza of its own, the first
// of the header, which every other reader of age files ignores:
//
//	-> walrecv <DIGEST> <PLAIN BYTES> <SHA-256 OF THE REST> <KEY>
//
// The digest is that of the plain bytes: their HMAC-SHA-256 under a key, which has
// a name there, or their SHA-256. The rest is all that follows the stanza, but for
// the line with the header's MAC, which depends on it. The stanza is covered by the header's own MAC, for who can decrypt.
package crypt

import (
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"strconv"

	"filippo.io/age"
)

// Sum is a SHA-256, or an HMAC made of it.
type Sum = [sha256.Size]byte

// maxHeader bounds the header of an object, in bytes: more than a hundred
// recipients, or nine post-quantum ones.
const maxHeader = 16 << 10

// Encryption encrypts. It is safe for concurrent use.
type Encryption struct {
	recipients []age.Recipient
	labels     []string  // what all of the recipients demand of the others
	key        DigestKey // nil: digests are not keyed
}

// NewEncryption encrypts for all of some recipients, at least one. key is for the
// digests that stand in the clear; without one they are the SHA-256 of the plain
// bytes, from which few bytes can be guessed. Recipients that must not stand
// together, or are too many, are an error.
func NewEncryption(recipients []age.Recipient, key DigestKey) (*Encryption, error) {
	e := &Encryption{recipients: recipients, key: key}
	for _, r := range recipients {
		if r, ok := r.(age.RecipientWithLabels); ok {
			_, labels, err := r.WrapWithLabels(make([]byte, fileKeySize))
			if err != nil {
				return nil, err
			}
			e.labels = labels
			break
		}
	}
	var head counting
	if _, err := age.Encrypt(&head, recipients...); err != nil { // compares the labels of all
		return nil, err
	}
	if int64(head)+maxOwnStanza > maxHeader {
		return nil, fmt.Errorf("%d recipients are too many: their keys would take %d bytes in every object", len(recipients), head)
	}
	return e, nil
}

// NewHash computes the digest that stands in the clear. Nil has the digests that are
// not keyed.
func (e *Encryption) NewHash() hash.Hash {
	if e == nil || e.key == nil {
		return sha256.New()
	}
	return hmac.New(sha256.New, e.key)
}

// Keyed tells whether the digests in the clear are keyed.
func (e *Encryption) Keyed() bool { return e.key != nil }

// Outer is what stands in the clear in an object.
type Outer struct {
	Digest Sum    // of the plain bytes, from [Encryption.NewHash]
	Size   int64  // plain bytes
	Stored Sum    // SHA-256 of the object behind that, but for the MAC of the header
	Key    string // which key the digest is under; see [Encryption.Key]
}

// Key names the key that digests are under: those under another one say nothing
// of whether two contents are equal. Nil has no key.
func (e *Encryption) Key() string {
	if e == nil {
		return noKey
	}
	return e.key.id()
}

const (
	stanzaType = "walrecv"
	stanzaArgs = 4

	// maxOwnStanza is the longest that our own stanza can be, in bytes.
	maxOwnStanza = 200
)

// stanza is o in the header.
func (o Outer) stanza() *age.Stanza {
	return &age.Stanza{Type: stanzaType, Args: []string{
		fmt.Sprintf("%x", o.Digest), strconv.FormatInt(o.Size, 10), fmt.Sprintf("%x", o.Stored), o.Key,
	}}
}

// parseOuter reads our stanza. Arguments that a later version adds are ignored.
func parseOuter(s *age.Stanza) (o Outer, err error) {
	if len(s.Args) < stanzaArgs {
		return Outer{}, errors.New("its header is not one of ours")
	}
	o.Size, err = strconv.ParseInt(s.Args[1], 10, 64)
	if err != nil || o.Size < 0 || strconv.FormatInt(o.Size, 10) != s.Args[1] {
		return Outer{}, fmt.Errorf("%q in its header is no number of bytes", s.Args[1])
	}
	if o.Digest, err = parseSum(s.Args[0]); err != nil {
		return Outer{}, err
	}
	if o.Stored, err = parseSum(s.Args[2]); err != nil {
		return Outer{}, err
	}
	o.Key = s.Args[3]
	return o, nil
}

// counting counts what is written.
type counting int64

func (c *counting) Write(p []byte) (int, error) {
	*c += counting(len(p))
	return len(p), nil
}

var _ io.Writer = (*counting)(nil)
