package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cenkalti/backoff/v5"
	"golang.org/x/sync/errgroup"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/compress"
	"github.com/walrecv/walrecv/segment"
)

// archiving hands sealed segments to the archive, and the tail.
type archiving struct {
	keeper     *archiveKeeper
	identified <-chan struct{} // closed when the spool is in order
	options    archive.UploaderOptions
	tail       *archive.Tail // nil: none
	sweeper    sweeper       // nil: writers that crash leave nothing
	log        *slog.Logger

	asked    atomic.Pointer[time.Time] // when the archive was asked first; nil before
	away     atomic.Pointer[string]    // why it has not answered; nil before that is known
	uploader atomic.Pointer[archive.Uploader]
}

func (b *archiving) run(ctx context.Context) error {
	select {
	case <-b.identified:
	case <-ctx.Done():
		return nil
	}
	now := time.Now()
	b.asked.Store(&now)
	a, err := b.attach(ctx)
	if err != nil || a == nil {
		return err
	}
	go b.tidy(ctx) // not waited for: the archive may hang
	u := b.begin(a)
	if b.tail == nil {
		return u.Run(ctx)
	}
	both, ctx := errgroup.WithContext(ctx)
	both.Go(func() error { return u.Run(ctx) })
	both.Go(func() error { return b.tail.Run(ctx, a, u) })
	return both.Wait()
}

func (b *archiving) begin(a *archive.Archive) *archive.Uploader {
	u := archive.NewUploader(a, b.keeper.Spool, b.options, b.log)
	b.uploader.Store(u)
	return u
}

// leftOver is when a file that was being written can be taken for the left-over
// of a writer that crashed.
const leftOver = 24 * time.Hour

// tidy removes what crashed writers left in the archive. Nothing depends on it.
func (b *archiving) tidy(ctx context.Context) {
	if b.sweeper == nil {
		return
	}
	removed, err := b.sweeper.Sweep(ctx, time.Now().Add(-leftOver))
	if removed > 0 {
		b.log.Info("removed left-overs of crashed writers from the archive", "files", removed)
	}
	if err != nil && ctx.Err() == nil {
		b.log.Debug("could not look for left-overs of crashed writers in the archive", "error", err)
	}
}

// attach waits for the archive to answer. That it is the wrong one the receiver
// finds out as well, where it looks at its start.
func (b *archiving) attach(ctx context.Context) (*archive.Archive, error) {
	delay := backoff.NewExponentialBackOff()
	delay.MaxInterval = 30 * time.Second
	for {
		a, err := b.keeper.attach(ctx)
		var later *unreachable
		full := errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
		if err == nil || !errors.As(err, &later) && !full && ctx.Err() == nil {
			return a, err
		}
		why := err.Error()
		b.away.Store(&why)
		timer := time.NewTimer(delay.NextBackOff())
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, nil //nolint:nilnil // stopped before there was one
		}
	}
}

func (b *archiving) drain(ctx context.Context) error {
	u := b.uploader.Load()
	if u == nil {
		select {
		case <-b.identified:
		default:
			return nil // nothing was received either
		}
		a, err := b.attach(ctx)
		if err != nil {
			return err
		}
		if a == nil {
			return fmt.Errorf("the archive did not answer: %w", ctx.Err())
		}
		u = b.begin(a)
	}
	if b.tail == nil {
		return u.Drain(ctx)
	}
	return b.tail.Drain(ctx, b.keeper.archive.Load(), u)
}

func (b *archiving) nudge() {
	if u := b.uploader.Load(); u != nil {
		u.Nudge()
	}
}

// trouble takes locks for a moment only.
func (b *archiving) trouble() string {
	if u := b.uploader.Load(); u != nil {
		if err := u.Trouble(); err != nil {
			return oneLine(err.Error())
		}
	} else if why := b.away.Load(); why != nil {
		return oneLine(*why)
	}
	return ""
}

// compressing replaces sealed segments by compressed ones.
type compressing struct {
	compressor *compress.Compressor
	identified <-chan struct{}
	log        *slog.Logger
}

func newCompressing(spool *segment.Spool, c compression, identified <-chan struct{}, log *slog.Logger) *compressing {
	return &compressing{compress.New(spool, c.method, c.level, log), identified, log}
}

func (b *compressing) run(ctx context.Context) error {
	select {
	case <-b.identified:
		b.compressor.Run(ctx)
	case <-ctx.Done():
	}
	return nil
}

func (b *compressing) drain(ctx context.Context) error {
	select {
	case <-b.identified:
	default:
		return nil
	}
	if err := b.compressor.Pass(ctx); err != nil {
		b.log.Warn("stopped before everything was compressed; the rest follows at the next start", "error", err)
	}
	return nil // a plain segment is whole
}

func (b *compressing) nudge() { b.compressor.Nudge() }

// trouble is none: what could not be compressed is whole.
func (b *compressing) trouble() string { return "" }
