package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage"
	"github.com/walrecv/walrecv/storage/storagetest"
)

// tailRig is a spool that WAL is streamed into, and an archive. Whatever is
// acknowledged is looked for in the archive at that moment.
type tailRig struct {
	t     *testing.T
	what  string // of the run, for failures
	disk  *vfs.Mem
	fsys  vfs.FS // on disk
	mem   *storagetest.Mem
	store storage.Store // on mem
	o     TailOptions
	log   *records

	spool    *segment.Spool
	archive  *Archive
	uploader *Uploader
	tail     *Tail
	writer   *segment.Writer
	stop     func() error

	salt    map[uint64]uint64 // of the server's segments, if it has other WAL there
	truths  sync.Map
	first   segment.LSN // where the WAL of the cluster begins
	mu      sync.Mutex
	acked   segment.LSN
	highest segment.LSN // ever acknowledged
}

func newTailRig(t *testing.T) *tailRig {
	t.Helper()
	r := &tailRig{
		t: t, mem: storagetest.NewMem(), log: &records{}, first: segment.LSN(testSize), salt: map[uint64]uint64{},
		o: TailOptions{Interval: time.Second, Acknowledge: true},
	}
	r.store = r.mem
	r.loseSpool()
	return r
}

// loseSpool goes on with an empty disk.
func (r *tailRig) loseSpool() {
	r.t.Helper()
	r.disk = vfs.NewMem()
	r.must(r.disk.Mkdir(spoolDir, 0o700))
	r.must(r.disk.SyncDir("/"))
	r.fsys = r.disk
}

// must panics with a crash of the disk, which a sweep recovers from.
func (r *tailRig) must(err error) {
	r.t.Helper()
	if errors.Is(err, vfs.ErrCrashed) {
		panic(err)
	}
	if err != nil {
		r.t.Fatalf("%s: %v", r.what, err)
	}
}

// start begins a process, without a stream.
func (r *tailRig) start() {
	r.t.Helper()
	var err error
	r.spool, err = segment.OpenSpool(r.fsys, spoolDir, slog.New(r.log), segment.SpoolOptions{OnSeal: func() { r.uploader.Nudge() }})
	r.must(err)
	r.must(r.spool.Identify(segment.Cluster{Identity: testIdentity.Segment(), Major: testIdentity.Major, FileMode: 0o600}))
	r.must(r.spool.Prepare())
	for { // as a receiver does, that waits for its archive
		ctx, cancel := context.WithTimeout(r.t.Context(), time.Minute)
		r.archive, err = Init(ctx, r.store, testIdentity, Keys{})
		cancel()
		if err == nil {
			break
		}
	}
	r.tail = NewTail(r.spool, r.o, slog.New(r.log))
	r.uploader = NewUploader(r.archive, r.spool, UploaderOptions{Tail: r.tail, Workers: 2}, slog.New(r.log))
	ctx, cancel := context.WithCancel(context.Background())
	uploaded, tailed := make(chan error, 1), make(chan error, 1)
	go func() { uploaded <- r.uploader.Run(ctx) }()
	go func() { tailed <- r.tail.Run(ctx, r.archive, r.uploader) }()
	r.stop = sync.OnceValue(func() error {
		cancel()
		err := errors.Join(<-uploaded, <-tailed)
		r.spool.Close()
		return err
	})
}

// end ends the process, as SIGTERM does if drain is true.
func (r *tailRig) end(drain bool) {
	r.t.Helper()
	r.must(r.stop())
	if drain {
		r.must(r.tail.Drain(r.t.Context(), r.archive, r.uploader))
	}
	if r.writer != nil {
		r.writer.Close()
		r.writer = nil
	}
}

// connect begins a stream where a receiver would.
func (r *tailRig) connect() {
	r.t.Helper()
	held, err := r.spool.Held()
	r.must(err)
	l, err := (&Archive{store: r.mem, id: testIdentity}).Listing(r.t.Context())
	r.must(err)
	for n := range l.Segments() {
		held.AddArchived(n, testSize)
	}
	at, ok := segment.Resume(segment.History{Timeline: 1}, testSize, held)
	if !ok {
		at = segment.Position{Timeline: 1, LSN: r.first}
	}
	r.connectAt(at)
}

func (r *tailRig) connectAt(at segment.Position) {
	r.t.Helper()
	if r.writer != nil {
		r.writer.Close()
	}
	var err error
	r.writer, err = r.spool.NewWriter(at)
	r.must(err)
	r.mu.Lock()
	r.acked = 0
	r.mu.Unlock()
	r.tail.Begin(at, r.acknowledge)
}

// acknowledge is what the server is told.
func (r *tailRig) acknowledge(to segment.LSN) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.o.Acknowledge && to > r.highest {
		r.expectArchived(max(r.highest, r.first), to)
	}
	r.acked, r.highest = max(r.acked, to), max(r.highest, to)
}

// ackedTo is the highest position that was acknowledged on this connection.
func (r *tailRig) ackedTo() segment.LSN {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.acked
}

// truth is the server's WAL.
func (r *tailRig) truth(n segment.Name) []byte {
	key := [2]uint64{n.Number, r.salt[n.Number]}
	data, known := r.truths.Load(key)
	if !known {
		data, _ = r.truths.LoadOrStore(key, wal(n, 128, r.salt[n.Number]))
	}
	return data.([]byte)
}

// send streams WAL up to a position, and syncs it.
func (r *tailRig) send(to segment.LSN, awaited bool) {
	r.t.Helper()
	r.must(r.trySend(to, awaited))
}

// trySend fails with the disk.
func (r *tailRig) trySend(to segment.LSN, awaited bool) error {
	for at := r.writer.Position(); at.LSN < to; at = r.writer.Position() {
		n := segment.Name{Timeline: at.Timeline, Number: testSize.Number(at.LSN)}
		data := r.truth(n)[testSize.Offset(at.LSN):min(int64(to-n.Start(testSize)), int64(testSize))]
		if err := r.writer.Append(at.LSN, data); err != nil {
			return err
		}
	}
	synced, err := r.writer.Sync()
	if err == nil {
		r.tail.Synced(synced, awaited)
	}
	return err
}

// expectArchived reads what the archive has, as anybody could.
func (r *tailRig) expectArchived(from, to segment.LSN) {
	r.t.Helper()
	for n := testSize.Number(from); n <= testSize.Number(to-1); n++ {
		name := segment.Name{Timeline: 1, Number: n}
		want := min(int64(to-name.Start(testSize)), int64(testSize))
		if end, err := archivedTo(r.mem, name, r.truth(name)); err != nil || end < want {
			r.t.Errorf("%s: %s is acknowledged, and of segment %d the archive has %d of %d bytes: %v", r.what, to, n, end, want, err)
			return
		}
	}
}

// archivedTo is how much the archive has of a segment, from its start on. All that
// it has must be the server's.
func archivedTo(store storage.Store, n segment.Name, truth []byte) (int64, error) {
	a := &Archive{store: store, id: testIdentity}
	if whole, err := readSegment(context.Background(), a, n); err == nil && bytes.Equal(whole, truth) {
		return int64(testSize), nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("other content: %w", err)
	}
	chunks, err := a.Chunks(context.Background(), n)
	if err != nil {
		return 0, err
	}
	for _, c := range chunks {
		r, err := a.OpenChunk(context.Background(), c)
		if errors.Is(err, fs.ErrNotExist) {
			return archivedTo(store, n, truth) // replaced meanwhile
		}
		if err != nil {
			return 0, err
		}
		data, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(data, truth[c.From:c.To]) {
			return 0, fmt.Errorf("%s are other ones: %w", c, err)
		}
	}
	_, end := Cover(chunks, 0)
	return end, nil
}

// chunks lists the tail's keys, without what is the same for all.
func (r *tailRig) chunks() []string {
	var short []string
	for _, key := range r.mem.Keys() {
		if rest, ok := strings.CutPrefix(key, systemDir(testSystem)+tailDir+"/"); ok {
			short = append(short, rest)
		}
	}
	return short
}
