package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/codec"
	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/receiver"
	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage"
)

// receiveGarbage is how many bytes there are at most while some of them are garbage. An
// archive of 100,000 segments takes 10 MB to list in a directory and 10 MB to report on, at
// the start several times at once, and as much garbage would be left beside that. The
// program itself takes 15 MB more.
const receiveGarbage = 40 << 20

// drainTimeout bounds what a stop still archives or compresses: with the
// receiver's own farewell it has to fit into stopDeadline.
const drainTimeout = 3 * time.Second

// background is work on sealed segments beside the receiver: archiving or
// compressing them. Its failure ends the receiver; waiting for a store that
// does not answer is no failure.
type background interface {
	run(ctx context.Context) error   // until ctx ends
	drain(ctx context.Context) error // after run: what is left, until it is done or ctx ends
	nudge()                          // segments were sealed; never blocks
	trouble() string                 // why it cannot be done at the moment; "" if nothing is in the way
}

// runReceive is the work of "walrecv receive".
func (a *app) runReceive(ctx context.Context, c receiveConfig, log *slog.Logger) error {
	debug.SetMemoryLimit(receiveGarbage)
	conn, err := a.connection(c.conn, log)
	if err != nil {
		return err
	}
	switch {
	case c.createSlot:
		return createSlot(ctx, conn, c.slot, c.ifNotExists)
	case c.dropSlot:
		return dropSlot(ctx, conn, c.slot)
	}
	encryption, err := c.encrypt.encryption()
	if err != nil {
		return err
	}
	c.encrypt.warn(log)
	w, err := c.newWatch(ctx, log)
	if err != nil {
		return err
	}
	defer w.close()
	var store storage.Store // nil without an archive
	if c.archive.given() {
		store, err = openStore(ctx, c.archive.location, a.environ, storeOptions{connections: c.uploadWorkers + tailConnections, unsafe: c.allowUnsafeStore})
		if err != nil {
			return err
		}
	}
	var bg background = nothing{}
	spool, err := segment.OpenSpool(vfs.OS(), c.directory, log, segment.SpoolOptions{
		NoSync: c.noSync, Synchronous: c.synchronous,
		OnSeal: func() { bg.nudge() },
		Max:    c.spoolLimit(),
	})
	if errors.Is(err, vfs.ErrLocked) {
		return fmt.Errorf("another walrecv receives into %s: stop it, or use another directory (%w)", c.directory, err)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the directory %s does not exist: create it, or correct --directory (%w)", c.directory, err)
	}
	if err != nil {
		return err
	}
	defer spool.Close()
	tail := c.newTail(spool, w, log)
	keeper, beside := c.keep(spool, store, archive.Keys{Encryption: encryption}, tail, w, log)
	o := c.receiverOptions(conn, w)
	if tail != nil {
		o.Acknowledger = tail
	}
	n := newNotifier(c, log)
	o.OnChange = n.change
	r := receiver.New(o, w.noting(keeper, spool), log)
	bg = beside(r)
	defer w.serve(r, spool, bg)()
	defer n.follow(ctx, r.Progress, bg.trouble)()
	defer a.reload.follow(n, func(now receiveConfig) {
		r.SetIntervals(time.Duration(now.flushInterval), time.Duration(now.statusInterval))
		n.setFlushInterval(time.Duration(now.flushInterval))
		if c.archive.given() {
			spool.SetMax(int64(now.spoolMax))
		}
		if tail != nil && now.tailInterval > 0 {
			tail.SetInterval(time.Duration(now.tailInterval))
		}
		w.setReadyLag(time.Duration(now.readyLag))
	})()
	if err := receive(ctx, r, bg, c.endpos != 0, log); err != nil {
		return err
	}
	end := r.Progress()
	log.Info("stopped", "timeline", uint32(end.Timeline), "flushed_lsn", end.Flushed.String())
	return nil
}

// newTail prepares what archives unfinished segments; nil if nothing is to.
func (c *receiveConfig) newTail(spool *segment.Spool, w *watch, log *slog.Logger) *archive.Tail {
	if !c.archive.given() || c.tailInterval == 0 {
		return nil
	}
	return archive.NewTail(spool, archive.TailOptions{
		Interval:    time.Duration(c.tailInterval),
		Acknowledge: c.ack == ackArchive,
		Workers:     c.uploadWorkers,
		OnUpload:    w.onUpload(),
	}, log)
}

// keep chooses where WAL is kept, and what becomes of it there, beside a receiver
// that knows what stands in it.
func (c *receiveConfig) keep(spool *segment.Spool, store storage.Store, keys archive.Keys, tail *archive.Tail, w *watch, log *slog.Logger) (heldKeeper, func(archive.Summaries) background) {
	identified := make(chan struct{})
	base := spoolKeeper{Spool: spool, log: log, identified: func() { close(identified) }}
	switch {
	case c.archive.given():
		k := &archiveKeeper{
			spoolKeeper: base, keys: keys, store: w.metered(storage.WithDeadline(store)), turn: make(chan struct{}, 1),
			mount: c.archive.location.Scheme == storage.SchemeFile, unsafe: c.allowUnsafeStore,
		}
		dir, _ := store.(sweeper)
		return k, func(known archive.Summaries) background {
			return &archiving{
				keeper: k, identified: identified, sweeper: dir, tail: tail, log: log,
				options: archive.UploaderOptions{Workers: c.uploadWorkers, Summaries: known, Tail: tail, OnUpload: w.onUpload()},
			}
		}
	case c.compress.method != codec.None:
		return &base, func(archive.Summaries) background { return newCompressing(spool, c.compress, identified, log) }
	default:
		return &base, func(archive.Summaries) background { return nothing{} }
	}
}

func (c *receiveConfig) receiverOptions(conn *receiver.ConnConfig, w *watch) receiver.Options {
	return receiver.Options{
		Conn:           conn,
		Slot:           c.slot,
		EnsureSlot:     c.ensureSlot,
		Synchronous:    c.synchronous,
		FlushInterval:  time.Duration(c.flushInterval),
		StatusInterval: time.Duration(c.statusInterval),
		EndPos:         c.endpos,
		NoLoop:         c.noLoop,
		AcceptBranch:   c.acceptBranch,
		AcceptGap:      c.acceptGap,
		OnSync:         w.onSync(),
	}
}

// receive runs the receiver and the work beside it, until one of them ends. Then
// what was sealed last is worked on for a while: as long as it takes if the
// receiver came to the end it was given, since that promises the whole of it.
func receive(ctx context.Context, r *receiver.Receiver, bg background, toEnd bool, log *slog.Logger) error {
	recvCtx, stopReceiver := context.WithCancel(ctx)
	defer stopReceiver()
	bgCtx, stopBackground := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBackground()
	failed := make(chan error, 1)
	go func() {
		err := bg.run(bgCtx)
		if err != nil {
			stopReceiver()
		}
		failed <- err
	}()
	err := r.Run(recvCtx)
	stopBackground()
	if bgErr := <-failed; bgErr != nil {
		return bgErr
	}
	if toEnd && err == nil && ctx.Err() == nil {
		return bg.drain(ctx)
	}
	drainCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	if drainErr := bg.drain(drainCtx); drainErr != nil && err == nil {
		if drainCtx.Err() == nil {
			return drainErr
		}
		log.Warn("stopped before everything was archived; the rest follows at the next start", "error", drainErr)
	}
	return err
}

// nothing is the background of a spool whose segments stay as they are.
type nothing struct{}

func (nothing) run(ctx context.Context) error { <-ctx.Done(); return nil }
func (nothing) drain(context.Context) error   { return nil }
func (nothing) nudge()                        {}
func (nothing) trouble() string               { return "" }
