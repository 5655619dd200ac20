package crypt

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"filippo.io/age"
)

// No error of this file has anything of what it is about: it may be a secret.

// ParseRecipient reads a public key as age-keygen prints it, also one that is safe
// from quantum computers.
func ParseRecipient(text string) (age.Recipient, error) {
	switch {
	case strings.HasPrefix(text, "age1pq1"):
		if r, err := age.ParseHybridRecipient(text); err == nil {
			return r, nil
		}
	case strings.HasPrefix(text, "ssh-"):
		return nil, errors.New("SSH keys are not supported: make a key with age-keygen")
	case strings.HasPrefix(text, "AGE-SECRET-KEY-"):
		return nil, errors.New("this is a secret key, which must not be here: the recipient is the public key that belongs to it (age-keygen -y)")
	default:
		if r, err := age.ParseX25519Recipient(text); err == nil {
			return r, nil
		}
	}
	return nil, errors.New("not an age recipient, such as age1..., of age-keygen")
}

// ParseRecipients reads a file with a recipient on every line. Empty lines and
// those that begin with "#" do not count.
func ParseRecipients(data []byte) ([]age.Recipient, error) {
	return parseLines(data, "recipient", ParseRecipient)
}

// parseIdentity reads a secret key as age-keygen writes it.
func parseIdentity(text string) (age.Identity, error) {
	switch {
	case strings.HasPrefix(text, "AGE-SECRET-KEY-PQ-1"):
		if id, err := age.ParseHybridIdentity(text); err == nil {
			return id, nil
		}
	case strings.HasPrefix(text, "AGE-SECRET-KEY-1"):
		if id, err := age.ParseX25519Identity(text); err == nil {
			return id, nil
		}
	case strings.HasPrefix(text, "-----BEGIN OPENSSH"):
		return nil, errors.New("SSH keys are not supported: make a key with age-keygen")
	case strings.HasPrefix(text, "-----BEGIN AGE"), strings.HasPrefix(text, "age-encryption.org/"):
		return nil, errors.New("the file is itself encrypted: decrypt it first")
	}
	return nil, errors.New("not an age identity, as age-keygen writes it")
}

// ParseIdentities reads a file with an identity on every line. Empty lines and
// those that begin with "#" do not count.
func ParseIdentities(data []byte) (Identities, error) {
	return parseLines(data, "identity", parseIdentity)
}

func parseLines[T any](data []byte, what string, parse func(string) (T, error)) (list []T, err error) {
	number := 0
	for line := range strings.Lines(string(data)) {
		number++
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		one, err := parse(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		list = append(list, one)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("it holds no %s", what)
	}
	return list, nil
}

// minDigestKey is the length of the shortest key, in bytes.
const minDigestKey = 32

// DigestKey is a secret under which digests are made. It never prints itself.
type DigestKey []byte

// String hides the key.
func (DigestKey) String() string { return "(secret)" }

// GoString hides the key.
func (DigestKey) GoString() string { return "(secret)" }

// ParseDigestKey reads a key from a file: hexadecimal digits, as `openssl rand
// -hex 32` prints them, or else any bytes. The line end behind a text does not
// count.
func ParseDigestKey(data []byte) (DigestKey, error) {
	text := bytes.TrimSpace(data)
	key := data
	if isText(text) {
		key = text
		if len(text) > 0 && strings.Trim(string(text), "0123456789abcdefABCDEF") == "" {
			decoded, err := hex.DecodeString(string(text))
			if err != nil {
				return nil, errors.New("an odd number of hexadecimal digits: two of them make a byte")
			}
			key = decoded
		}
	}
	if len(key) < minDigestKey {
		return nil, fmt.Errorf("it holds a key of %d bytes, and at least %d are needed: openssl rand -hex %d makes one", len(key), minDigestKey, minDigestKey)
	}
	return key, nil
}

// isText tells whether all bytes are printable ASCII.
func isText(b []byte) bool {
	for _, c := range b {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return true
}

// id names the key without telling it: digests under different keys cannot be
// compared.
func (k DigestKey) id() string {
	if k == nil {
		return noKey
	}
	mac := hmac.New(sha256.New, k)
	mac.Write([]byte("walrecv digest key"))
	return hex.EncodeToString(mac.Sum(nil)[:4])
}

// noKey is in the place of a key's id where digests are not keyed.
const noKey = "sha256"
