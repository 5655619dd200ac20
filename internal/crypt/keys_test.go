package crypt

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"filippo.io/age"
)

func TestParseRecipients(t *testing.T) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	pq, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	list, err := ParseRecipients([]byte("# ours\n\n" + id.Recipient().String() + "\r\n  " + id.Recipient().String() + "  \n"))
	if err != nil || len(list) != 2 {
		t.Error(list, err)
	}
	if list, err := ParseRecipients([]byte(pq.Recipient().String())); err != nil || len(list) != 1 {
		t.Error(list, err)
	}
	secret := id.String()
	for text, want := range map[string]string{
		"":                                       "no recipient",
		"# nothing\n":                            "no recipient",
		"# x\n\n" + id.Recipient().String()[:40]: "line 3: not an age recipient",
		"ssh-ed25519 AAAA x":                     "line 1: SSH keys",
		secret:                                   "line 1: this is a secret key",
		pq.String():                              "line 1: this is a secret key",
		"age1pq1qqqq":                            "line 1: not an age recipient",
	} {
		_, err := ParseRecipients([]byte(text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", want, err)
			continue
		}
		if text != "" && strings.Contains(err.Error(), text) {
			t.Errorf("the error tells the secret: %v", err)
		}
	}
}

func TestParseIdentities(t *testing.T) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	pq, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	list, err := ParseIdentities([]byte("# created: now\n# public key: x\n" + id.String() + "\n" + pq.String() + "\n"))
	if err != nil || len(list) != 2 {
		t.Error(list, err)
	}
	broken := id.String()[:len(id.String())-1] + "#"
	for text, want := range map[string]string{
		"":                                   "no identity",
		id.Recipient().String():              "line 1: not an age identity",
		"#\n" + broken:                       "line 2: not an age identity",
		pq.String()[:70]:                     "line 1: not an age identity",
		"-----BEGIN OPENSSH PRIVATE KEY":     "line 1: SSH keys",
		"-----BEGIN AGE ENCRYPTED FILE-----": "itself encrypted",
		"age-encryption.org/v1\n-> scrypt":   "itself encrypted",
	} {
		_, err := ParseIdentities([]byte(text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", want, err)
			continue
		}
		if strings.Contains(err.Error(), "AGE-SECRET") {
			t.Errorf("the error tells the secret: %v", err)
		}
	}
}

func TestParseDigestKey(t *testing.T) {
	raw := sha256.Sum256([]byte("key"))
	text := hex.EncodeToString(raw[:])
	for in, want := range map[string]string{
		string(raw[:]):                  string(raw[:]),
		text:                            string(raw[:]),
		strings.ToUpper(text):           string(raw[:]),
		text + "\n":                     string(raw[:]),
		" " + text + "\r\n":             string(raw[:]),
		strings.Repeat("=", 32):         strings.Repeat("=", 32),
		strings.Repeat("=k", 32) + "\n": strings.Repeat("=k", 32),
		string(raw[:]) + "\n":           string(raw[:]) + "\n", // bytes are bytes
	} {
		got, err := ParseDigestKey([]byte(in))
		if err != nil || !bytes.Equal(got, []byte(want)) {
			t.Errorf("%q: %q, %v", in, []byte(got), err)
		}
	}
	for _, bad := range []string{"", "\n", text[:62], text + "0", string(raw[:31]), strings.Repeat("k", 31) + "\n", strings.Repeat("0", 32)} {
		got, err := ParseDigestKey([]byte(bad))
		if err == nil {
			t.Errorf("%q: a key of %d bytes", bad, len(got))
		} else if bad != "" && bad != "\n" && strings.Contains(err.Error(), bad) {
			t.Errorf("the error tells the secret: %v", err)
		}
	}
	key := DigestKey(text)
	for _, verb := range []string{"%v", "%s", "%#v", "%+v"} {
		if got := fmt.Sprintf(verb, struct{ K DigestKey }{key}); strings.Contains(got, text[:8]) || strings.Contains(got, "48, 49") {
			t.Errorf("%s prints %s", verb, got)
		}
	}
}
