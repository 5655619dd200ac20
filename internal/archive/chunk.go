package archive

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage"
)

// Chunk is a piece of a segment that the archive holds by itself, because the
// complete segment is not there yet. Chunks of a segment may overlap, and have the
// same bytes where they do.
type Chunk struct {
	Name      segment.Name
	From, To  int64 // offsets in the segment, From < To
	Encrypted bool
}

// String is for people.
func (c Chunk) String() string {
	return fmt.Sprintf("bytes %d to %d of segment %X on timeline %d", c.From, c.To, c.Name.Number, uint32(c.Name.Timeline))
}

// Chunks lists the chunks of one segment, in no order that means anything. It is
// one listing: what is put or deleted meanwhile may be in it or not.
func (a *Archive) Chunks(ctx context.Context, name segment.Name) ([]Chunk, error) {
	var chunks []Chunk
	err := a.store.List(ctx, chunksPrefix(a.id.SystemID, name.Format(a.id.SegmentSize)), func(info storage.Info) error {
		if o, err := ParseKey(info.Key); err == nil && o.To <= int64(a.id.SegmentSize) {
			chunks = append(chunks, Chunk{Name: name, From: o.From, To: o.To, Encrypted: o.Encrypted})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return chunks, nil
}

func chunksPrefix(system uint64, file string) string {
	return systemDir(system) + tailDir + "/" + file + "/"
}

// OpenChunk opens the plain bytes of a chunk, To - From of them, as OpenSegment
// does with a segment's: they are to be trusted only after io.EOF. An error that
// wraps fs.ErrNotExist says that it is gone: its segment, or a longer chunk, is
// there then.
func (a *Archive) OpenChunk(ctx context.Context, c Chunk) (io.ReadCloser, error) {
	return a.open(ctx, a.chunkObject(c), c.To-c.From)
}

// prepareChunk makes the object of a chunk; open opens its plain bytes. Nothing
// looks at what they are: they need not begin with a page. It is encrypted if the
// archive says so, whatever c says.
func (a *Archive) prepareChunk(ctx context.Context, scratch *Scratch, c Chunk, open Opener) (*prepared, error) {
	base := strings.ReplaceAll(strings.TrimPrefix(a.chunkKey(c), systemDir(a.id.SystemID)), "/", ".")
	return scratch.prepareSmall(ctx, base, a.making(c.To-c.From, func() (content, error) {
		plain, err := open()
		return content{ReadCloser: plain}, err
	}))
}

// SameChunk tells whether a sound chunk has the bytes that plain yields. One that is
// encrypted is compared by its digest, which takes no identity but the same digest
// key: without that it is an [ErrEncrypted]. Other errors are as of OpenChunk, and of
// plain as they are.
func (a *Archive) SameChunk(ctx context.Context, c Chunk, plain io.Reader) (bool, error) {
	sum, clear := sha256.New(), a.keys.Encryption.NewHash()
	length, err := io.Copy(io.MultiWriter(sum, clear), plain)
	if err != nil {
		return false, err
	}
	ours := object{trailer: trailer{Digest: Digest(sum.Sum(nil)), Size: c.To - c.From}, digest: Digest(clear.Sum(nil))}
	err = a.compare(ctx, a.chunkObject(c), ours)
	var conflict *ConflictError
	switch {
	case errors.As(err, &conflict) && conflict.OtherKey:
		return false, fmt.Errorf("%s: %w, and its digest is under another key", conflict.Key, ErrEncrypted)
	case errors.As(err, &conflict):
		return false, nil
	}
	return err == nil && length == c.To-c.From, err
}

func (a *Archive) chunkKey(c Chunk) string { return a.chunkObject(c).Key() }

func (a *Archive) chunkObject(c Chunk) Object {
	o := a.walObject(KindTail, c.Name)
	o.From, o.To, o.Encrypted = c.From, c.To, c.Encrypted
	return o
}

// Cover chooses, of the chunks of one segment, the fewest that hold its bytes from
// an offset on without a hole, in order, and says up to which offset they do. Each
// begins at or before the end of those before it. end is from if there are none.
func Cover(chunks []Chunk, from int64) (needed []Chunk, end int64) {
	byFrom := slices.SortedFunc(slices.Values(chunks), func(a, b Chunk) int { return cmp.Compare(a.From, b.From) })
	end = from
	for next := 0; ; {
		var best Chunk
		for ; next < len(byFrom) && byFrom[next].From <= end; next++ {
			if byFrom[next].To > end && byFrom[next].better(best) {
				best = byFrom[next]
			}
		}
		if best.To <= end {
			return needed, end
		}
		needed, end = append(needed, best), best.To
	}
}

// better tells whether a chunk is to be preferred to another one: it reaches
// further; or has fewer bytes to read, or need not be decrypted.
func (c Chunk) better(than Chunk) bool {
	switch {
	case c.To != than.To:
		return c.To > than.To
	case c.Encrypted != than.Encrypted:
		return !c.Encrypted
	}
	return c.From > than.From
}
