package main

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"filippo.io/age"
	"github.com/spf13/pflag"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/crypt"
)

// encryptOptions are taken by every command that writes into an archive.
type encryptOptions struct {
	to        string // recipients, or "@" and a file of them, with commas between
	digestKey string // file; empty: none
}

func addEncryptOptions(fs *pflag.FlagSet, o *encryptOptions) {
	fs.Var(listValue(&o.to), "encrypt-to", "encrypt for the age `RECIPIENT`, or those in the file after an @; may be given several times")
	fs.Var(textValue(&o.digestKey), "digest-key", "with --encrypt-to: key the digests of what is archived with the secret in `FILE`, of at least 32 bytes")
}

// check applies the rules between options.
func (o *encryptOptions) check(archive archiveOptions) error {
	switch {
	case o.to == "" && o.digestKey != "":
		return usageError("--digest-key needs --encrypt-to: only what is encrypted has a digest to hide")
	case o.to != "" && !archive.given():
		return usageError("--encrypt-to needs --archive: a directory of segments is not encrypted")
	}
	return nil
}

// encryption is what was asked for, nil without any. What is wrong with it is a
// matter of usage, and its text never has anything of a key.
func (o *encryptOptions) encryption() (*crypt.Encryption, error) {
	if o.to == "" {
		return nil, nil //nolint:nilnil // none was asked for
	}
	var recipients []age.Recipient
	for text := range strings.SplitSeq(o.to, ",") {
		more, err := recipientsOf(text)
		if err != nil {
			return nil, usageError("--encrypt-to: %w", err)
		}
		recipients = append(recipients, more...)
	}
	var key crypt.DigestKey
	if o.digestKey != "" {
		var err error
		if key, err = readSecretKeys(o.digestKey, "a digest key", crypt.ParseDigestKey); err != nil {
			return nil, usageError("--digest-key: %w", err)
		}
	}
	e, err := crypt.NewEncryption(recipients, key)
	if err != nil {
		return nil, usageError("--encrypt-to: %w", err)
	}
	return e, nil
}

// warn tells at the start what the options do not protect.
func (o *encryptOptions) warn(log *slog.Logger) {
	if o.to != "" && o.digestKey == "" {
		log.Warn("--encrypt-to without --digest-key: the archive shows the SHA-256 of what is encrypted, from which the content of small pieces of WAL can be guessed; give --digest-key if others can read the archive")
	}
}

// recipientsOf reads one value of --encrypt-to.
func recipientsOf(text string) ([]age.Recipient, error) {
	if file, ok := strings.CutPrefix(text, "@"); ok {
		return readKeys(file, crypt.ParseRecipients)
	}
	r, err := crypt.ParseRecipient(text)
	return []age.Recipient{r}, err
}

// keys are what a command that reads an archive was given.
func (o *readOptions) keys() (archive.Keys, error) {
	if o.decryptWith == "" {
		return archive.Keys{}, nil
	}
	ids, err := readSecretKeys(o.decryptWith, "an age identity", crypt.ParseIdentities)
	if err != nil {
		return archive.Keys{}, usageError("--decrypt-with: %w", err)
	}
	return archive.Keys{Identities: ids}, nil
}

// readKeys reads a file of keys that are no secret.
func readKeys[T any](file string, parse func([]byte) (T, error)) (keys T, err error) {
	data, _, err := readLimited(file)
	if err != nil {
		return keys, err
	}
	return parseKeys(file, data, parse)
}

// readSecretKeys reads a file of keys that nobody else may read.
func readSecretKeys[T any](file, what string, parse func([]byte) (T, error)) (keys T, err error) {
	data, err := readPrivate(file, what)
	if err != nil {
		return keys, err
	}
	return parseKeys(file, data, parse)
}

func parseKeys[T any](file string, data []byte, parse func([]byte) (T, error)) (keys T, err error) {
	if keys, err = parse(data); err != nil {
		return keys, fmt.Errorf("%s: %w", file, err)
	}
	return keys, nil
}

// list is an option that can be given several times. In a text of several they
// stand with commas between them.
type list struct{ target *string }

func listValue(target *string) pflag.Value { return list{target} }

// Set implements pflag.Value. It adds to what is there.
func (l list) Set(text string) error {
	var all []string
	if *l.target != "" {
		all = []string{*l.target}
	}
	for one := range strings.SplitSeq(text, ",") {
		if one = strings.TrimSpace(one); one == "" {
			return errors.New("must not be empty")
		}
		all = append(all, one)
	}
	*l.target = strings.Join(all, ",")
	return nil
}

// String implements pflag.Value.
func (l list) String() string {
	if l.target == nil {
		return ""
	}
	return *l.target
}

// Type implements pflag.Value.
func (list) Type() string { return kindList }

// set replaces all there is: of several sources only the strongest one counts.
func (l list) set(text string) error {
	kept := *l.target
	*l.target = ""
	err := l.Set(text)
	if err != nil {
		*l.target = kept
	}
	return err
}
