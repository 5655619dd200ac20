package crypt

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
	"strings"

	"filippo.io/age"
)

const (
	intro       = "age-encryption.org/v1\n"
	footer      = "---"
	nonceSize   = 16
	fileKeySize = 16
)

// Writer encrypts what is written to it. What stands in the clear is known only
// at the end, so the header is written last, in front of all.
type Writer struct {
	at     *atWriter // what follows the header
	age    io.WriteCloser
	head   []byte // the header, with zeros where the digests will be
	key    []byte // of the file
	outer  Outer  // with nothing but what is known from the start
	stored hash.Hash
}

// NewWriter begins an age file at the start of dst, of which size is said to be
// the number of plain bytes: those of the digest, which need not be those that
// are written. Nobody else may write to dst before Finish has returned.
func (e *Encryption) NewWriter(dst io.WriterAt, size int64) (*Writer, error) {
	w := &Writer{outer: Outer{Size: size, Key: e.Key()}, stored: sha256.New()}
	own := &ourselves{encryption: e, stanza: w.outer.stanza()}
	var head bytes.Buffer
	to := &switched{w: &head}
	var err error
	if w.age, err = age.Encrypt(to, own); err != nil {
		return nil, err
	}
	w.key = own.key
	length := head.Len() - nonceSize
	w.head = head.Bytes()[:length]
	w.stored.Write(covered(w.head))
	w.at = &atWriter{w: dst, at: int64(length)}
	to.w = io.MultiWriter(w.at, w.stored)
	_, err = to.Write(head.Bytes()[length:])
	return w, err
}

// NewStream begins an age file that nothing stands in the clear of: for a content
// whose digest is not known when it begins, and a dst that is written from its start
// to its end. The object is whole when the returned writer's Close has returned nil;
// it does not close dst.
func (e *Encryption) NewStream(dst io.Writer) (io.WriteCloser, error) {
	return age.Encrypt(dst, e.recipients...)
}

// Write encrypts.
func (w *Writer) Write(p []byte) (int, error) { return w.age.Write(p) }

// Finish ends the object, whose plain bytes have a digest from
// [Encryption.NewHash]. It returns the object's length.
func (w *Writer) Finish(digest Sum) (length int64, err error) {
	if err := w.age.Close(); err != nil {
		return 0, err
	}
	o := w.outer
	o.Digest, o.Stored = digest, Sum(w.stored.Sum(nil))
	if err := w.replace(o); err != nil {
		return 0, err
	}
	if _, err := w.at.w.WriteAt(w.head, 0); err != nil {
		return 0, err
	}
	return w.at.at, nil
}

// replace puts what is known by now into the header, and its MAC behind it: of
// all up to the three dashes, under a key that is derived from the file's.
func (w *Writer) replace(o Outer) error {
	before, after := line(w.outer), line(o)
	end := beforeMAC(w.head) + len(footer)
	if len(after) != len(before) || !bytes.HasPrefix(w.head, []byte(intro+before)) || end < len(intro)+len(before) {
		return errors.New("crypt: the header is not what was expected") // of another version of age
	}
	copy(w.head[len(intro):], after)
	key, err := hkdf.Key(sha256.New, w.key, nil, "header", sha256.Size)
	if err != nil {
		return err
	}
	mac := hmac.New(sha256.New, key)
	mac.Write(w.head[:end])
	text := fmt.Sprintf(" %s\n", base64.RawStdEncoding.EncodeToString(mac.Sum(nil)))
	if len(text) != len(w.head)-end {
		return errors.New("crypt: the header does not end as expected")
	}
	copy(w.head[end:], text)
	return nil
}

// beforeMAC is where the last line of a header begins.
func beforeMAC(head []byte) int { return bytes.LastIndex(head, []byte("\n"+footer)) + 1 }

// covered is what is digested of a header: the recipients' stanzas, behind ours.
func covered(head []byte) []byte {
	_, rest, ours := bytes.Cut(head, []byte("\n\n"))
	if !ours || !bytes.HasPrefix(head, []byte(intro+"-> "+stanzaType+" ")) {
		return nil
	}
	return rest[:max(0, beforeMAC(rest))]
}

// line is our stanza as it stands in a header.
func line(o Outer) string {
	s := o.stanza()
	return fmt.Sprintf("-> %s %s\n\n", s.Type, strings.Join(s.Args, " "))
}

// ourselves stands for all recipients: it puts our own stanza before theirs, and
// remembers the file's key.
type ourselves struct {
	encryption *Encryption
	stanza     *age.Stanza
	key        []byte
}

var _ age.RecipientWithLabels = (*ourselves)(nil)

// Wrap implements age.Recipient, which age does not use.
func (o *ourselves) Wrap(fileKey []byte) ([]*age.Stanza, error) {
	stanzas, _, err := o.WrapWithLabels(fileKey)
	return stanzas, err
}

// WrapWithLabels implements age.RecipientWithLabels. That the recipients agree on
// the labels was found out before.
func (o *ourselves) WrapWithLabels(fileKey []byte) ([]*age.Stanza, []string, error) {
	o.key = slices.Clone(fileKey)
	stanzas := []*age.Stanza{o.stanza}
	for _, r := range o.encryption.recipients {
		theirs, err := r.Wrap(fileKey)
		if err != nil {
			return nil, nil, err
		}
		stanzas = append(stanzas, theirs...)
	}
	return stanzas, o.encryption.labels, nil
}

// switched writes to what it is told to.
type switched struct{ w io.Writer }

func (s *switched) Write(p []byte) (int, error) { return s.w.Write(p) }

// atWriter writes one thing behind the other.
type atWriter struct {
	w  io.WriterAt
	at int64
}

func (w *atWriter) Write(p []byte) (int, error) {
	n, err := w.w.WriteAt(p, w.at)
	w.at += int64(n)
	return n, err
}
