package archive

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"

	"github.com/walrecv/walrecv/internal/crypt"
	"github.com/walrecv/walrecv/segment"
)

// Keys say for whom objects are encrypted, and as whom they are read. With the
// zero value objects are not encrypted, and those that are cannot be read.
type Keys struct {
	Encryption *crypt.Encryption // nil: objects are not encrypted
	Identities crypt.Identities  // none: encrypted objects cannot be read
}

// encryptedFirst tells in which form objects are looked for first while none was found.
func (k Keys) encryptedFirst() bool { return k.Encryption != nil || len(k.Identities) > 0 }

// Blind tells whether the archive cannot read what it writes.
func (a *Archive) Blind() bool { return a.keys.Encryption != nil && len(a.keys.Identities) == 0 }

// either looks for an object that can be encrypted or not, first for the form in
// which the last one was found. Only one that is there in neither is absent.
func (a *Archive) either(o Object, look func(Object) error) error {
	o.Encrypted = a.encrypted.Load()
	err := look(o)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	o.Encrypted = !o.Encrypted
	other := look(o)
	if errors.Is(other, fs.ErrNotExist) {
		return err
	}
	a.encrypted.Store(o.Encrypted)
	return other
}

// compare reads an object to its last byte and compares it with one that was made:
// nil says that both have the same content. The local copy is removed on the
// strength of it, so what the object claims is not enough.
func (a *Archive) compare(ctx context.Context, o Object, ours object) error {
	if o.Encrypted {
		return a.compareClear(ctx, o, ours)
	}
	r, err := a.open(ctx, o, ours.trailer.Size)
	if err != nil {
		return err
	}
	defer r.Close()
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return err
	}
	if there := Digest(h.Sum(nil)); there != ours.trailer.Digest {
		return &ConflictError{Key: o.Key(), Ours: ours.trailer.Digest, Theirs: there}
	}
	return nil
}

// compareClear does it with an object that is encrypted, which takes no identity:
// that all of it is as it was written, and was said to have this content.
func (a *Archive) compareClear(ctx context.Context, o Object, ours object) error {
	there, err := a.readClear(ctx, o)
	if errors.Is(err, crypt.ErrNoOuter) {
		return &DamagedError{Key: o.Key(), Reason: crypt.ErrNoOuter.Error()}
	}
	if err != nil {
		return err
	}
	theirs := Digest(there.Digest)
	switch {
	case there.Key != a.keys.Encryption.Key():
		return &ConflictError{Key: o.Key(), Ours: ours.digest, Theirs: theirs, OtherKey: true, Clear: !ours.encrypted}
	case there.Size != ours.trailer.Size || theirs != ours.digest:
		return &ConflictError{Key: o.Key(), Ours: ours.digest, Theirs: theirs}
	}
	return nil
}

// readClear reads all of an encrypted object, and what stands in the clear in it.
// nil says that, as far as can be told without an identity, it is as it was
// written.
func (a *Archive) readClear(ctx context.Context, o Object) (crypt.Outer, error) {
	stored, info, err := a.store.Open(ctx, o.Key())
	if err != nil {
		return crypt.Outer{}, err
	}
	defer stored.Close()
	b := &body{r: stored, size: info.Size}
	c, err := crypt.ReadClear(b)
	if err == nil {
		_, err = io.Copy(io.Discard, c)
	}
	if err == nil && !c.Whole() {
		err = errors.New("it is not what was put, bit by bit")
	}
	if errors.Is(err, crypt.ErrNoOuter) {
		return crypt.Outer{}, fmt.Errorf("%s: %w", o.Key(), err)
	}
	if err != nil {
		return crypt.Outer{}, undecrypted(o, err, b.err)
	}
	return c.Outer, nil
}

// CheckClear proves without an identity that an encrypted object with size plain
// bytes is as it was written, which is not that it holds what it should, nor that
// anybody can read it. It reads all of it.
func (a *Archive) CheckClear(ctx context.Context, o Object, size int64) error {
	o.Encrypted = true
	there, err := a.readClear(ctx, o)
	switch {
	case errors.Is(err, crypt.ErrNoOuter):
		return nil // encrypted by something else: nothing says that it is wrong
	case err != nil:
		return err
	case o.Kind.keyed() && o.Digest != Digest(there.Digest).short():
		return &DamagedError{Key: o.Key(), Reason: "it is not the object that its key says"}
	}
	return checkSize(o, there.Size, size)
}

// otherForms remembers which segments are there in the form that is not written
// here, of a few blocks: from before encryption was turned on, or of a writer that
// was told otherwise.
type otherForms struct {
	mu     sync.Mutex
	blocks map[block]map[segment.Name]bool
}

// maxOtherForms is how many blocks are remembered.
const maxOtherForms = 8

// listedOther tells whether a segment is there in the form that is not written here,
// which o is. One request finds it out for a block. Where the block has any, somebody
// may be writing them now: then every further segment is looked for.
func (a *Archive) listedOther(ctx context.Context, o Object) (bool, error) {
	name, err := segment.ParseName(o.Segment, a.id.SegmentSize)
	if err != nil {
		return false, err
	}
	names, fresh, err := a.othersOf(ctx, blockOf(name), o.Encrypted)
	if err != nil || names[name] || fresh || len(names) == 0 {
		return names[name], err
	}
	return a.hasOther(ctx, o)
}

// othersOf lists the segments of a block that are there in a form, or remembers
// them. fresh says that they were listed now. Nobody waits here for another one's
// request, which may hang.
func (a *Archive) othersOf(ctx context.Context, b block, encrypted bool) (names map[segment.Name]bool, fresh bool, err error) {
	p := &a.others
	p.mu.Lock()
	names, known := p.blocks[b]
	p.mu.Unlock()
	if known {
		return names, false, nil
	}
	names = map[segment.Name]bool{}
	err = a.eachOfBlock(ctx, b, func(name segment.Name, o Object) {
		if o.Encrypted == encrypted {
			names[name] = true
		}
	})
	if err != nil {
		return nil, false, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.blocks == nil || len(p.blocks) >= maxOtherForms {
		p.blocks = map[block]map[segment.Name]bool{}
	}
	p.blocks[b] = names
	return names, true, nil
}

// hasOther tells whether an object is there, with a request of its own: for who puts
// one segment and is gone.
func (a *Archive) hasOther(ctx context.Context, o Object) (bool, error) {
	_, err := a.store.Stat(ctx, o.Key())
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
