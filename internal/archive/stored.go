package archive

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/walrecv/walrecv/storage"
)

// Stored is an object of a base backup that is durable.
type Stored struct {
	File      string `json:"file"`       // last part of its key
	Size      int64  `json:"size"`       // bytes, as stored
	SHA256    Digest `json:"sha256"`     // of the bytes, as stored
	PlainSize int64  `json:"plain_size"` // bytes
}

// Name is what the object is of the backup, as [Object] says it: [BackupManifest]
// or what [ParseTarFile] reads. It is empty for a name that this version does not
// know.
func (s Stored) Name() string {
	name, _, ok := parseBackupBase(s.File)
	if !ok {
		return ""
	}
	return name
}

// Encrypted tells whether the object is encrypted.
func (s Stored) Encrypted() bool {
	_, encrypted, ok := parseBackupBase(s.File)
	return ok && encrypted
}

// storedObject is the object with its place.
func (a *Archive) storedObject(id string, s Stored) (Object, error) {
	name, encrypted, ok := parseBackupBase(s.File)
	if !ok || !IsID(id) || isPlainBackupFile(name) {
		return Object{}, fmt.Errorf("there can be no %q of a base backup %q", s.File, id)
	}
	return Object{System: a.id.SystemID, Kind: KindBaseBackup, ID: id, File: name, Encrypted: encrypted}, nil
}

// OpenStored opens the plain bytes of an object of the base backup with an ID. They are
// to be trusted only after io.EOF, which comes when both the stored and the plain bytes
// were found to be those that were put. Errors are as of [Archive.OpenSegment].
func (a *Archive) OpenStored(ctx context.Context, id string, s Stored) (io.ReadCloser, error) {
	o, err := a.storedObject(id, s)
	if err != nil {
		return nil, err
	}
	if err := a.lacksIdentity(ctx, o); err != nil {
		return nil, err
	}
	raw, err := a.openRaw(ctx, o, s)
	if err != nil {
		return nil, err
	}
	plain, err := a.newReader(raw, s.Size, o, s.PlainSize)
	if err != nil {
		return nil, err
	}
	return &storedReader{plain, raw, s, o}, nil
}

// CheckStored proves that an object of the base backup with an ID is as it was put,
// which takes no identity. It reads all of it.
func (a *Archive) CheckStored(ctx context.Context, id string, s Stored) error {
	o, err := a.storedObject(id, s)
	if err != nil {
		return err
	}
	raw, err := a.openRaw(ctx, o, s)
	if err != nil {
		return err
	}
	defer raw.Close() // it was only read
	b := &body{r: raw, size: s.Size}
	if _, err := io.CopyBuffer(io.Discard, b, make([]byte, copyBuffer)); err != nil {
		return storage.Unknown("read "+o.Key(), err)
	}
	return raw.check(o, s)
}

// openRaw opens the stored bytes, of which there must be the right number.
func (a *Archive) openRaw(ctx context.Context, o Object, s Stored) (*summed, error) {
	stored, info, err := a.store.Open(ctx, o.Key())
	if err != nil {
		return nil, err
	}
	if info.Size != s.Size {
		stored.Close() // nothing was read
		return nil, &DamagedError{Key: o.Key(), Reason: fmt.Sprintf("it has %d bytes, %d were put", info.Size, s.Size)}
	}
	return &summed{stored, sha256.New()}, nil
}

// summed digests what passes.
type summed struct {
	io.ReadCloser
	sum hash.Hash
}

func (r *summed) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	r.sum.Write(p[:n])
	return n, err
}

// check compares all that has passed with what was put.
func (r *summed) check(o Object, s Stored) error {
	if got := Digest(r.sum.Sum(nil)); got != s.SHA256 {
		return &DamagedError{Key: o.Key(), Reason: fmt.Sprintf("it has SHA-256 %s, %s was put", got, s.SHA256)}
	}
	return nil
}

// storedReader is a reader of plain bytes that also knows the stored ones.
type storedReader struct {
	io.ReadCloser
	raw    *summed
	stored Stored
	object Object
}

func (r *storedReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		if damage := r.raw.check(r.object, r.stored); damage != nil {
			return n, damage
		}
	}
	return n, err
}
