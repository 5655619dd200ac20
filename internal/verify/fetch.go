package verify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/segment"
)

const (
	// chunkLen is how much of an object is in memory at a time, in bytes. It is a
	// multiple of every page length.
	chunkLen = 256 << 10

	// tries is how often the store is asked for what it does not yield. While it
	// has failed with other objects it is asked once, and after so many of them in
	// a row no more at all.
	tries      = 4
	maxFailing = 8

	firstPause = 250 * time.Millisecond
	lastPause  = 2 * time.Second

	// stall is how long one step of reading may take before the try counts as
	// failed.
	stall = 2 * time.Minute
)

// errStore says that the store was given up.
var errStore = errors.New("the store does not answer")

// object is the object of a segment, complete or not.
type object struct {
	key  string
	at   archive.Object
	size int64 // plain bytes
	name segment.Name
	open func(context.Context) (io.ReadCloser, error)
}

func (v *Verifier) segmentObject(n segment.Name) object {
	k := v.key(archive.KindSegment, n)
	return object{
		key: k.Key(), at: k, size: int64(v.id.SegmentSize), name: n,
		open: func(ctx context.Context) (io.ReadCloser, error) { return v.archive.OpenSegment(ctx, n) },
	}
}

func (v *Verifier) partialObject(p archive.Partial) object {
	k := v.key(archive.KindPartial, p.Name)
	k.Digest, k.Encrypted = p.Digest, p.Encrypted
	return object{
		key: k.Key(), at: k, size: int64(v.id.SegmentSize), name: p.Name,
		open: func(ctx context.Context) (io.ReadCloser, error) { return v.archive.OpenPartial(ctx, p) },
	}
}

func (v *Verifier) key(kind archive.Kind, n segment.Name) archive.Object {
	return archive.Object{System: v.id.SystemID, Kind: kind, Timeline: n.Timeline, Segment: n.Format(v.id.SegmentSize)}
}

// fetch reads an object to its end, through buf, and gives its bytes to use. After
// a failed try they are given again, from offset 0 on. It returns the digest of
// what was read.
func (v *Verifier) fetch(ctx context.Context, o object, buf []byte, use func(offset int64, p []byte)) (digest archive.Digest, err error) {
	err = v.retry(ctx, func(ctx context.Context, alive func()) error {
		body, err := o.open(ctx)
		if err != nil {
			return err
		}
		defer body.Close()
		for offset := int64(0); ; {
			n, err := fill(body, buf, alive)
			if n > 0 {
				use(offset, buf[:n])
			}
			if err == io.EOF {
				if proven, ok := body.(interface{ Digest() archive.Digest }); ok {
					digest = proven.Digest()
				}
				return nil
			}
			if err != nil {
				return err
			}
			offset += int64(n)
		}
	})
	return digest, err
}

// fill reads until buf is full or r ends. io.EOF is only that of r: it is the
// proof that an object is sound.
func fill(r io.Reader, buf []byte, alive func()) (n int, err error) {
	for n < len(buf) && err == nil {
		var got int
		got, err = r.Read(buf[n:])
		n += got
		alive()
	}
	return n, err
}

// retry asks the store until it answers, a few times. What it then fails with is
// a finding (see isFinding), or says that the store does not answer.
func (v *Verifier) retry(ctx context.Context, try func(ctx context.Context, alive func()) error) error {
	pause := backoff.ExponentialBackOff{
		InitialInterval: firstPause, RandomizationFactor: 0.5, Multiplier: 2, MaxInterval: lastPause,
	}
	for n := 1; ; n++ {
		if v.failing.Load() >= maxFailing {
			return errStore
		}
		err := tryOnce(ctx, try)
		if err == nil || isFinding(err) {
			v.failing.Store(0)
			return err
		}
		if n >= tries || v.failing.Load() > 0 || ctx.Err() != nil {
			v.failing.Add(1)
			return err
		}
		timer := time.NewTimer(pause.NextBackOff())
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}

// tryOnce gives a try a context that ends when the try shows no sign of life for
// a while.
func tryOnce(ctx context.Context, try func(ctx context.Context, alive func()) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watch := time.AfterFunc(stall, func() { cancel(fmt.Errorf("no answer within %v", stall)) })
	defer watch.Stop()
	err := try(ctx, func() { watch.Reset(stall) })
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// isFinding tells whether an error says what an object is, so that another try
// would give the same.
func isFinding(err error) bool {
	var damaged *archive.DamagedError
	return errors.As(err, &damaged) || errors.Is(err, archive.ErrEncrypted) || errors.Is(err, fs.ErrNotExist)
}
