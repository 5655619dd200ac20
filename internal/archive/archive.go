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
	"sync/atomic"

	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage"
)

// Archive is the archive of one cluster. It is safe for concurrent use. No
// method tries anything twice: that is for the caller.
type Archive struct {
	store storage.Store
	id    Identity
	keys  Keys

	encrypted atomic.Bool // the segment that was found last
	others    otherForms
}

func opened(store storage.Store, id Identity, keys Keys) *Archive {
	a := &Archive{store: store, id: id, keys: keys}
	a.encrypted.Store(keys.encryptedFirst())
	return a
}

// Opener opens a new reader of some plain bytes, from their start.
type Opener func() (io.ReadCloser, error)

// Open opens the archive of the cluster with a system identifier. An error that
// wraps fs.ErrNotExist says that the store has none.
func Open(ctx context.Context, store storage.Store, system uint64, keys Keys) (*Archive, error) {
	id, err := readIdentity(ctx, store, system)
	if err != nil {
		return nil, fmt.Errorf("identity of the archive: %w", err)
	}
	return opened(store, id, keys), nil
}

// Init opens the archive of a cluster, and makes it if the store has none. On
// nil its identity is durable. An archive that was made for another cluster is
// a [WrongClusterError].
func Init(ctx context.Context, store storage.Store, id Identity, keys Keys) (*Archive, error) {
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
		return opened(store, id, keys), nil
	}
	a, err := Open(ctx, store, id.SystemID, keys)
	if err != nil {
		return nil, err
	}
	if a.id != id {
		return nil, &WrongClusterError{Archive: a.id, Cluster: id}
	}
	return a, nil
}

// ProveCreateOnly finds out, at the cost of one small request, whether the store
// of an archive that is there lets one writer overwrite another: then it puts the
// identity once more, in the same bytes, and returns [storage.ErrUnsafe].
func (a *Archive) ProveCreateOnly(ctx context.Context) error {
	data, err := a.id.encode()
	if err != nil {
		return err
	}
	err = a.store.Put(ctx, a.id.key(), storage.BytesSource(data))
	switch {
	case errors.Is(err, fs.ErrExist):
		return nil
	case err == nil:
		return storage.ErrUnsafe
	}
	return fmt.Errorf("identity of the archive: %w", err)
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
	_, err = a.put(ctx, a.walObject(KindSegment, name), p)
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
	_, err = a.put(ctx, a.walObject(KindPartial, name), p)
	return err
}

// PutHistory archives a timeline history file, byte for byte. One that cannot
// be parsed is refused; nil and a [ConflictError] are as with PutSegment.
func (a *Archive) PutHistory(ctx context.Context, t segment.TimelineID, content []byte) error {
	if _, err := segment.ParseHistory(t, content); err != nil {
		return &LocalError{err}
	}
	return a.putSmall(ctx, a.historyKey(t), content)
}

// PutBackup archives a backup history file, byte for byte: what a server writes
// after a base backup. file is its name. nil and a [ConflictError] are as with
// PutSegment.
func (a *Archive) PutBackup(ctx context.Context, file string, content []byte) error {
	if !segment.IsBackupHistoryName(file) {
		return &LocalError{fmt.Errorf("%q is not the name of a backup history file", file)}
	}
	name, rest, _ := strings.Cut(file, ".")
	t, ok := timelineOf(name)
	if !ok {
		return &LocalError{fmt.Errorf("%q is of timeline 0", file)}
	}
	o := Object{System: a.id.SystemID, Kind: KindBackup, Timeline: t, Segment: name, Offset: rest[:shortDigest]}
	return a.putSmall(ctx, o.Key(), content)
}

// putSmall puts an object that has the bytes of a file.
func (a *Archive) putSmall(ctx context.Context, key string, content []byte) error {
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
	return scratch.prepare(ctx, base, a.making(int64(a.id.SegmentSize), open))
}

// making is how the archive makes an object with size plain bytes.
func (a *Archive) making(size int64, open func() (content, error)) making {
	return making{encryption: a.keys.Encryption, size: size, open: open}
}

// put puts an object, or finds that an equal one is there. o is where it belongs:
// whether it is encrypted and has a digest in its key is put's to say. made says
// that it is this one, and not one with the same content.
func (a *Archive) put(ctx context.Context, o Object, p *prepared) (made bool, err error) {
	return a.putUnless(ctx, o, p, a.listedOther)
}

// putUnless is put. A segment that is there in the form that is not written here,
// which other tells, is compared and not put beside it.
func (a *Archive) putUnless(ctx context.Context, o Object, p *prepared, other func(context.Context, Object) (bool, error)) (made bool, err error) {
	o = p.at(o)
	if o.Kind == KindSegment {
		there := o
		there.Encrypted = !o.Encrypted
		has, err := other(ctx, there)
		if err != nil {
			return false, err
		}
		if has {
			return false, a.compareOther(ctx, there, p)
		}
	}
	key := o.Key()
	if err = a.store.Put(ctx, key, p.source); err == nil {
		return true, nil
	}
	if local := p.source.failed(); local != nil {
		return false, &LocalError{fmt.Errorf("read scratch file of %s: %w", key, local)}
	}
	if !errors.Is(err, fs.ErrExist) {
		return false, err
	}
	// Perhaps from an earlier try whose answer was lost.
	return false, a.compareThere(ctx, o, p)
}

// compareOther compares what was made with what is there in another form, whose key
// no Put has found taken: nothing has said that it is durable.
func (a *Archive) compareOther(ctx context.Context, o Object, p *prepared) error {
	if err := a.compareThere(ctx, o, p); err != nil {
		return err
	}
	return storage.Confirm(ctx, a.store, o.Key())
}

// compareThere compares what was made with what is there.
func (a *Archive) compareThere(ctx context.Context, o Object, p *prepared) error {
	err := a.compare(ctx, o, p.object)
	var conflict *ConflictError
	if err != nil && !errors.As(err, &conflict) {
		err = unlessAbsent(o.Key(), err)
	}
	return err
}

// unlessAbsent keeps the error of looking at an object whose key was taken a
// moment ago from passing for a proof of anything.
func unlessAbsent(key string, err error) error {
	return storage.Unknown("compare with the archived "+key, err)
}

// OpenSegment opens the plain bytes of a complete segment. They are to be
// trusted only after io.EOF, which comes after exactly a segment's length and a
// digest that is right. An error that wraps fs.ErrNotExist says that there is
// none; [DamagedError] comes at any time. The caller closes the reader. It has the
// methods Digest, which gives that digest after io.EOF, and Memory, which tells before
// the first Read about how many bytes of memory the reading takes.
func (a *Archive) OpenSegment(ctx context.Context, name segment.Name) (io.ReadCloser, error) {
	var r io.ReadCloser
	err := a.either(a.walObject(KindSegment, name), func(o Object) (err error) {
		r, err = a.open(ctx, o, int64(a.id.SegmentSize))
		return err
	})
	return r, err
}

// OpenPartial opens the plain bytes of a partial, as OpenSegment does.
func (a *Archive) OpenPartial(ctx context.Context, p Partial) (io.ReadCloser, error) {
	o := a.walObject(KindPartial, p.Name)
	o.Digest, o.Encrypted = p.Digest, p.Encrypted
	return a.open(ctx, o, int64(a.id.SegmentSize))
}

// Partials lists the partials of one segment.
func (a *Archive) Partials(ctx context.Context, name segment.Name) ([]Partial, error) {
	var partials []Partial
	err := a.store.List(ctx, partialsPrefix(a.walObject(KindSegment, name)), func(info storage.Info) error {
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

func partialsPrefix(segment Object) string {
	return strings.TrimSuffix(segment.Key(), suffixZstd) + "."
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
