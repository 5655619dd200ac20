package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/compress"
	"github.com/walrecv/walrecv/receiver"
	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage"
	"github.com/walrecv/walrecv/storage/local"
)

// How long the archive gets for an answer: to who it is, which is one small
// object, and to what it holds. A spool that can do without waits no longer.
const (
	attachTimeout = 10 * time.Second
	listTimeout   = time.Minute
	sealTimeout   = 5 * time.Minute // for a segment that is read and put
)

// spoolKeeper keeps WAL in a directory alone, as pg_receivewal does.
type spoolKeeper struct {
	*segment.Spool
	log      *slog.Logger
	prepared bool

	// identified is called, once, when the spool is in order.
	identified func()
}

// Identify implements receiver.Keeper.
func (k *spoolKeeper) Identify(_ context.Context, c segment.Cluster) error {
	if err := k.Spool.Identify(c); err != nil {
		return err
	}
	if k.prepared {
		return nil
	}
	if err := k.Prepare(); err != nil {
		return err
	}
	k.prepared = true
	k.identified()
	return nil
}

// Held implements receiver.Keeper. The newest segment is what everything before
// it rests on: if it was compressed, it is read through once.
func (k *spoolKeeper) Held(context.Context) (segment.Held, error) {
	held, err := k.Spool.Held()
	if err != nil {
		return held, err
	}
	l, err := k.Scan()
	if err != nil {
		return held, err
	}
	newest, ok := l.Newest()
	if !ok || newest.Suffix == "" {
		return held, nil
	}
	if err := compress.Check(k.Spool, newest); err != nil {
		k.log.Warn("the newest segment is damaged and will be streamed again", "file", newest.Base, "error", err)
		delete(held.Sealed, newest.Name)
	}
	return held, nil
}

// Open implements receiver.Keeper.
func (k *spoolKeeper) Open(at segment.Position) (receiver.Sink, error) { return k.NewWriter(at) }

// pruned implements heldKeeper: a directory is not pruned.
func (k *spoolKeeper) pruned(segment.Gap) bool { return false }

// history reads a history file that is kept.
func (k *spoolKeeper) history(_ context.Context, t segment.TimelineID) (segment.History, error) {
	if t == 1 {
		return segment.History{Timeline: t}, nil
	}
	content, err := k.Spool.History(t)
	if err != nil {
		return segment.History{}, err
	}
	return segment.ParseHistory(t, content)
}

// archiveKeeper keeps WAL in a directory, and from there in an archive.
type archiveKeeper struct {
	spoolKeeper
	store storage.Store
	keys  archive.Keys

	mount  bool // the store is a directory, from which its disk may vanish
	unsafe bool // a store without conditional writes will do

	silent, unlisted bool // that was logged; the receiver's goroutine only

	turn    chan struct{}                   // holds a token while somebody looks for the archive
	archive atomic.Pointer[archive.Archive] // nil until it was reached
	listed  atomic.Pointer[archive.Listing] // nil until it was listed
}

// unreachable says that the archive does not answer: another try may help.
type unreachable struct{ err error }

func (e *unreachable) Error() string   { return e.err.Error() }
func (e *unreachable) Unwrap() error   { return e.err }
func (e *unreachable) Retryable() bool { return true }

// Identify implements receiver.Keeper. A spool that is to be enough by itself
// for the moment goes on without an archive that does not answer.
func (k *archiveKeeper) Identify(ctx context.Context, c segment.Cluster) error {
	if err := k.spoolKeeper.Identify(ctx, c); err != nil {
		return err
	}
	_, err := k.attach(ctx)
	var later *unreachable
	if !errors.As(err, &later) {
		k.silent = false
		return err
	}
	used, usedErr := k.UsedArchive()
	if usedErr != nil || !used {
		return errors.Join(usedErr, err)
	}
	k.tell(&k.silent, "the archive does not answer; streaming goes on into the spool, until --spool-max: see that the store comes back", err)
	return nil
}

// tell warns of a failure, unless that was done since it last worked.
func (k *archiveKeeper) tell(told *bool, message string, err error) {
	if !*told {
		k.log.Warn(message, "error", err)
	}
	*told = true
}

// attach finds the archive, and that it is the right one. The spool must have
// been identified. An unreachable archive is worth another try.
func (k *archiveKeeper) attach(ctx context.Context) (*archive.Archive, error) {
	select { // not a mutex: the other one may be waiting for a store that hangs
	case k.turn <- struct{}{}:
		defer func() { <-k.turn }()
	case <-ctx.Done():
		return nil, &unreachable{ctx.Err()}
	}
	if a := k.archive.Load(); a != nil {
		return a, nil
	}
	used, err := k.UsedArchive()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, attachTimeout)
	defer cancel()
	a, err := k.openArchive(ctx, used)
	if err != nil {
		return nil, err
	}
	if err := k.MarkArchive(); err != nil {
		return nil, err
	}
	k.archive.Store(a)
	return a, nil
}

// openArchive opens the archive, or makes it for a spool that never had one. A
// spool that has used an archive may have deleted what it archived; it must not
// go on with an archive that is not that one: an empty mount point, say.
func (k *archiveKeeper) openArchive(ctx context.Context, used bool) (*archive.Archive, error) {
	c := k.Cluster()
	id := archive.Identity{SystemID: c.SystemID, SegmentSize: c.Size, Major: c.Major}
	store := k.store
	if k.mount {
		store = archive.Anchor(store, id)
	}
	if !used {
		a, err := archive.Init(ctx, store, id, k.keys)
		switch { // at the first start somebody looks on who can mend it
		case errors.Is(err, storage.ErrNoRoot):
			return nil, fmt.Errorf("%w: create it, or correct --archive", err)
		case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS), errors.Is(err, storage.ErrSetup):
			return nil, err
		}
		return k.safe(ctx, a, err)
	}
	a, err := archive.Open(ctx, store, c.SystemID, k.keys)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, storage.ErrNoRoot):
		return nil, &codedError{exitWrong, fmt.Errorf(
			"the spool %s has used an archive, but this one knows nothing of its cluster %d: is it mounted, is the URL right? (%w)",
			k.Dir(), c.SystemID, err)}
	case err == nil && a.Identity() != id:
		return nil, &archive.WrongClusterError{Archive: a.Identity(), Cluster: id}
	}
	return k.safe(ctx, a, err)
}

// safe refuses an archive in a store where one writer can overwrite another. a is
// nil if err is not.
func (k *archiveKeeper) safe(ctx context.Context, a *archive.Archive, err error) (*archive.Archive, error) {
	if err == nil && !k.mount {
		err = a.ProveCreateOnly(ctx)
	}
	switch {
	case !errors.Is(err, storage.ErrUnsafe):
		return a, orUnreachable(err)
	case k.unsafe && a != nil:
		return a, nil
	}
	return nil, fmt.Errorf("%w: use another store, or --allow-unsafe-store if nobody else ever writes there", err)
}

// orUnreachable tells what an operator has to mend from what may pass by itself.
func orUnreachable(err error) error {
	var damaged *archive.DamagedError
	var format *archive.FormatError
	switch {
	case err == nil,
		errors.As(err, &damaged), errors.As(err, &format),
		errors.Is(err, segment.ErrWrongCluster),
		errors.Is(err, local.ErrNoHardLinks):
		return err
	}
	return &unreachable{err}
}

// Held implements receiver.Keeper. Without an answer from the archive the spool
// has to be enough.
func (k *archiveKeeper) Held(ctx context.Context) (segment.Held, error) {
	held, err := k.Spool.Held()
	if err != nil {
		return held, err
	}
	// What is sealed here is archived, or about to be: a branch is measured by
	// both, also while the archive does not answer.
	for name := range held.Sealed {
		held.AddArchived(name, k.Size())
	}
	l, gaps, err := k.list(ctx)
	if err != nil {
		held.Unsure = true
		if held.Empty() {
			return held, &unreachable{err}
		}
		k.tell(&k.unlisted, "the archive cannot be listed; going on from what the spool holds; see that the store can be listed", err)
		return held, nil
	}
	k.unlisted = false
	for name := range l.Segments() {
		held.AddArchived(name, k.Size())
	}
	for _, t := range l.Histories() {
		held.AddHistory(t)
	}
	held.Gaps = append(held.Gaps, gaps...)
	forgetPruned(&held, l)
	k.listed.Store(l)
	return held, k.addTails(ctx, &held, l)
}

// forgetPruned leaves out what stands in the spool alone and is older than all that
// the archive keeps: what followed was archived, and then removed on purpose. It is no
// hole to be filled.
func forgetPruned(held *segment.Held, l *archive.Listing) {
	maps.DeleteFunc(held.Sealed, func(n segment.Name, _ struct{}) bool { return l.IsPruned(n) })
	held.Partials = slices.DeleteFunc(held.Partials, func(p segment.Partial) bool { return l.IsPruned(p.Name) })
}

// addTails adds what the archive has of segments that are not complete there. One of
// which it has all becomes complete, unless the spool has it: it was acknowledged, and
// the server may have removed it.
func (k *archiveKeeper) addTails(ctx context.Context, held *segment.Held, l *archive.Listing) error {
	for _, t := range l.Timelines() {
		for _, name := range l.Tails(t) {
			if _, complete := held.Sealed[name]; complete {
				continue
			}
			chunks := l.Chunks(name)
			sealed := false
			if _, end := archive.Cover(chunks, 0); end == int64(k.Size()) {
				var err error
				if sealed, err = k.sealTail(ctx, name, chunks); err != nil {
					return err
				}
			}
			if sealed {
				held.AddArchived(name, k.Size())
				continue
			}
			end := name.Start(k.Size())
			for _, c := range chunks {
				end = max(end, name.Start(k.Size())+segment.LSN(c.To))
			}
			held.AddPartial(segment.Partial{Name: name, End: end})
		}
	}
	return nil
}

// sealTail makes a complete segment of its chunks. Those that are encrypted cannot be
// read here, and are as good; damaged ones hold nothing.
func (k *archiveKeeper) sealTail(ctx context.Context, name segment.Name, chunks []archive.Chunk) (sealed bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, sealTimeout)
	defer cancel()
	file := name.Format(k.Size())
	err = k.archive.Load().SealTail(ctx, archive.NewScratch(k.FS(), k.Dir()), name, chunks)
	var damaged *archive.DamagedError
	var corrupt *segment.CorruptError
	switch {
	case err == nil:
		k.log.Info("a segment of which the archive had only the tail was completed there", "file", file)
	case errors.Is(err, archive.ErrEncrypted):
		k.log.Info("the archive has a segment only in its tail, encrypted: it stays there", "file", file)
	case errors.As(err, &damaged), errors.As(err, &corrupt):
		k.log.Error("the archive's tail is damaged, and is streamed again", "file", file, "error", err)
		return false, nil
	default:
		return false, sealFailure(err)
	}
	return true, nil
}

// sealFailure tells what is found out for good from what may pass by itself.
func sealFailure(err error) error {
	var conflict *archive.ConflictError
	var local *archive.LocalError
	if errors.As(err, &conflict) || errors.As(err, &local) || errors.Is(err, segment.ErrBranch) {
		return err
	}
	return &unreachable{err}
}

// pruned implements heldKeeper.
func (k *archiveKeeper) pruned(g segment.Gap) bool {
	l := k.listed.Load()
	return l != nil && g.To <= l.Start(g.Timeline)
}

// history reads a history file from the spool, or else from the archive.
func (k *archiveKeeper) history(ctx context.Context, t segment.TimelineID) (segment.History, error) {
	h, err := k.spoolKeeper.history(ctx, t)
	a := k.archive.Load()
	if err == nil || a == nil {
		return h, err
	}
	ctx, cancel := context.WithTimeout(ctx, attachTimeout)
	defer cancel()
	content, err := a.History(ctx, t)
	if err != nil {
		return segment.History{}, err
	}
	return segment.ParseHistory(t, content)
}

func (k *archiveKeeper) list(ctx context.Context) (*archive.Listing, []segment.Gap, error) {
	a := k.archive.Load()
	if a == nil {
		return nil, nil, errors.New("the archive has not answered yet") // Identify has asked a moment ago
	}
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	l, err := a.Listing(ctx)
	if err != nil {
		return nil, nil, err
	}
	gaps, err := a.Gaps(ctx)
	var damaged *archive.DamagedError
	if errors.As(err, &damaged) {
		// Without it WAL counts as missing, which ends the receiver at worst.
		k.log.Error("a gap that the archive records cannot be read and does not count; compare it with its copy in the directory, and put it there again", "error", err)
		err = nil
	}
	return l, gaps, err
}
