package archive

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage"
)

// Archive is the archive of one cluster. It is safe for concurrent use. No
// method tries anything twice: that is for the caller.
type Archive struct {
	store storage.Store
	id    Identity
}

// Opener opens a new reader of some plain bytes, from their start.
type Opener func() (io.ReadCloser, error)

// Open opens the archive of the cluster with a system identifier. An error that
// wraps fs.ErrNotExist says that the store has none.
func Open(ctx context.Context, store storage.Store, system uint64) (*Archive, error) {
	id, err := readIdentity(ctx, store, system)
	if err != nil {
		return nil, fmt.Errorf("identity of the archive: %w", err)
	}
	return &Archive{store: store, id: id}, nil
}

// Init opens the archive of a cluster, and makes it if the store has none. On
// nil its identity is durable. An archive that was made for another cluster is
// a [WrongClusterError].
func Init(ctx context.Context, store storage.Store, id Identity) (*Archive, error) {
	if err := id.valid(); err != nil {
		return nil, fmt.Errorf("identity of the cluster: %w", err)
	}
	data, err := id.encode()
	if err != nil {
		return nil, err
	}
	// Put comes first also where the archive is old: that the key is taken is
	// an answer about something durable, which an Open is not.
	err = store.Put(ctx, id.key(), storage.BytesSource(data))
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("identity of the archive: %w", err)
	}
	if err == nil {
		return &Archive{store: store, id: id}, nil
	}
	a, err := Open(ctx, store, id.SystemID)
	if err != nil {
		return nil, err
	}
	if a.id != id {
		return nil, &WrongClusterError{Archive: a.id, Cluster: id}
	}
	return a, nil
}

// Identity says which cluster the archive is of.
func (a *Archive) Identity() Identity { return a.id }

// PutSegment archives a complete segment. nil says that the archive durably
// holds exactly these bytes, from this call or from an earlier one. A segment
// that is not what its name says is a [segment.CorruptError], one that is
// archived with another content a [ConflictError]; what the disk of this host
// fails with is a [LocalError].
//
// Only one call for a name may use a Scratch at a time.
func (a *Archive) PutSegment(ctx context.Context, scratch *Scratch, name segment.Name, open Opener) error {
	p, err := a.prepare(ctx, scratch, name.Format(a.id.SegmentSize), a.segmentContent(name, open, nil))
	if err != nil {
		return err
	}
	defer p.remove()
	_, err = a.put(ctx, a.segmentKey(name), p)
	return err
}

// PutPartial archives the unfinished last segment of a timeline, filled up to
// its full size. Everything that was said of PutSegment holds, but that several
// partials of one name can be there, with other contents: servers push theirs.
func (a *Archive) PutPartial(ctx context.Context, scratch *Scratch, name segment.Name, open Opener) error {
	p, err := a.prepare(ctx, scratch, name.Format(a.id.SegmentSize)+suffixPartial, a.partialContent(name, open))
	if err != nil {
		return err
	}
	defer p.remove()
	_, err = a.put(ctx, a.partialKey(Partial{Name: name, Digest: p.trailer.Digest.short()}), p)
	return err
}

// PutHistory archives a timeline history file, byte for byte. One that cannot
// be parsed is refused; nil and a [ConflictError] are as with PutSegment.
func (a *Archive) PutHistory(ctx context.Context, t segment.TimelineID, content []byte) error {
	if _, err := segment.ParseHistory(t, content); err != nil {
		return &LocalError{err}
	}
	key := a.historyKey(t)
	err := a.store.Put(ctx, key, storage.BytesSource(content))
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	there, err := readSmall(ctx, a.store, key)
	if err != nil {
		return unlessAbsent(key, err)
	}
	if !bytes.Equal(there, content) {
		return &ConflictError{Key: key, Ours: sha256.Sum256(content), Theirs: sha256.Sum256(there)}
	}
	return nil
}

// prepare makes the object of a segment, complete or not.
func (a *Archive) prepare(ctx context.Context, scratch *Scratch, base string, open func() (content, error)) (*prepared, error) {
	return scratch.prepare(ctx, base, int64(a.id.SegmentSize), open)
}

// put puts an object, or finds that an equal one is there. made says that it is
// this one, and not one with the same content.
func (a *Archive) put(ctx context.Context, key string, p *prepared) (made bool, err error) {
	err = a.store.Put(ctx, key, p.source)
	if err == nil {
		return true, nil
	}
	if local := p.source.failed(); local != nil {
		return false, &LocalError{fmt.Errorf("read scratch file of %s: %w", key, local)}
	}
	if !errors.Is(err, fs.ErrExist) {
		return false, err
	}
	// Perhaps from an earlier try whose answer was lost.
	there, err := a.readThrough(ctx, key, p.trailer.Size)
	if err != nil {
		return false, unlessAbsent(key, err)
	}
	if ours := p.trailer.Digest; there != ours {
		return false, &ConflictError{Key: key, Ours: ours, Theirs: there}
	}
	return false, nil
}

// readThrough reads an object of size plain bytes to its last byte. The local copy
// is removed on the strength of it, so the digest that the object claims is not
// enough.
func (a *Archive) readThrough(ctx context.Context, key string, size int64) (Digest, error) {
	r, err := openObject(ctx, a.store, key, "", size)
	if err != nil {
		return Digest{}, err
	}
	defer r.Close()
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return Digest{}, err
	}
	return Digest(h.Sum(nil)), nil
}

// unlessAbsent keeps the error of looking at an object whose key was taken a
// moment ago from passing for a proof of anything.
func unlessAbsent(key string, err error) error {
	return storage.Unknown("compare with the archived "+key, err)
}

// OpenSegment opens the plain bytes of a complete segment. They are to be
// trusted only after io.EOF, which comes after exactly a segment's length and a
// digest that is right. An error that wraps fs.ErrNotExist says that there is
// none; [DamagedError] comes at any time. The caller closes the reader. It has a
// method Digest, which gives that digest after io.EOF.
func (a *Archive) OpenSegment(ctx context.Context, name segment.Name) (io.ReadCloser, error) {
	key := a.segmentKey(name)
	r, err := openObject(ctx, a.store, key, "", int64(a.id.SegmentSize))
	if err != nil {
		return nil, a.unlessEncrypted(ctx, key, err)
	}
	return r, nil
}

// unlessEncrypted keeps an object that is encrypted from passing for absent. err
// is that of looking at key.
func (a *Archive) unlessEncrypted(ctx context.Context, key string, err error) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	_, statErr := a.store.Stat(ctx, key+suffixEncrypted)
	switch {
	case statErr == nil:
		return fmt.Errorf("%s: %w", key+suffixEncrypted, ErrEncrypted)
	case !errors.Is(statErr, fs.ErrNotExist):
		return statErr
	}
	return err
}

// OpenPartial opens the plain bytes of a partial, as OpenSegment does.
func (a *Archive) OpenPartial(ctx context.Context, p Partial) (io.ReadCloser, error) {
	key := a.partialKey(p)
	if p.Encrypted {
		return nil, fmt.Errorf("%s: %w", key, ErrEncrypted)
	}
	return openObject(ctx, a.store, key, p.Digest, int64(a.id.SegmentSize))
}

// Partials lists the partials of one segment.
func (a *Archive) Partials(ctx context.Context, name segment.Name) ([]Partial, error) {
	var partials []Partial
	prefix := strings.TrimSuffix(a.segmentKey(name), suffixZstd) + "."
	err := a.store.List(ctx, prefix, func(info storage.Info) error {
		o, err := ParseKey(info.Key)
		if err == nil && o.Kind == KindPartial {
			partials = append(partials, Partial{Name: name, Digest: o.Digest, Encrypted: o.Encrypted})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return partials, nil
}

// History reads a timeline history file. An error that wraps fs.ErrNotExist says
// that there is none. What is returned can be parsed.
func (a *Archive) History(ctx context.Context, t segment.TimelineID) ([]byte, error) {
	key := a.historyKey(t)
	data, err := readSmall(ctx, a.store, key)
	if err != nil {
		return nil, err
	}
	if _, err := segment.ParseHistory(t, data); err != nil {
		return nil, &DamagedError{Key: key, Reason: err.Error()}
	}
	return data, nil
}

func (a *Archive) segmentKey(name segment.Name) string {
	return a.walObject(KindSegment, name).Key()
}

func (a *Archive) partialKey(p Partial) string {
	o := a.walObject(KindPartial, p.Name)
	o.Digest, o.Encrypted = p.Digest, p.Encrypted
	return o.Key()
}

func (a *Archive) historyKey(t segment.TimelineID) string {
	return Object{System: a.id.SystemID, Kind: KindHistory, Timeline: t}.Key()
}

func (a *Archive) walObject(kind Kind, name segment.Name) Object {
	return Object{
		System:   a.id.SystemID,
		Kind:     kind,
		Timeline: name.Timeline,
		Segment:  name.Format(a.id.SegmentSize),
	}
}
