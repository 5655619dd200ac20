package backup

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/crypt"
	"github.com/walrecv/walrecv/storage"
	"github.com/walrecv/walrecv/storage/storagetest"
)

// server is what a base backup is taken of.
type server struct {
	tars     map[uint32][]byte
	manifest []byte
	end      End
}

// testPiece makes several objects of every tar.
const testPiece = 3000

func newServer(t testing.TB) *server {
	return &server{
		tars: map[uint32][]byte{
			16384: makeTar(t, tar.FormatUSTAR, tarEntry{"PG_15/5/1", 4000, tar.TypeReg}, tarEntry{"PG_15/5/2", 4000, tar.TypeReg}),
			0:     makeTar(t, tar.FormatUSTAR, sampleEntries...),
		},
		manifest: bytes.Repeat([]byte("{}\n"), 1000),
		end:      End{LSN: 0x500140, Timeline: 1, Finished: day.Add(time.Minute), ServerVersion: "15.20"},
	}
}

// start is the start of a backup of the server.
func (s *server) start() Start {
	return Start{SystemID: testSystem, Major: 15, Timeline: 1, StartLSN: 0x400028, Label: "x", Started: day, From: FromPrimary}
}

// send sends the server's files, in pieces of any length.
func (s *server) send(ctx context.Context, w *Writer) error {
	rng := rand.New(rand.NewPCG(3, 4))
	write := func(content []byte) error {
		for len(content) > 0 {
			n := min(len(content), 1+rng.IntN(2000))
			if _, err := w.Write(content[:n]); err != nil {
				return err
			}
			content = content[n:]
		}
		return nil
	}
	for _, oid := range []uint32{16384, 0} {
		location := ""
		if oid != 0 {
			location = "/srv/space"
		}
		if err := w.Tablespace(ctx, oid, location, 1<<20); err != nil {
			return err
		}
		if err := write(s.tars[oid]); err != nil {
			return err
		}
	}
	if err := w.Manifest(ctx); err != nil {
		return err
	}
	return write(s.manifest)
}

// backUp takes a base backup of the server.
func (s *server) backUp(ctx context.Context, a *archive.Archive, wait Wait) (*Backup, error) {
	w, err := Begin(ctx, a, s.start())
	if err != nil {
		return nil, err
	}
	w.pieceSize = testPiece
	defer w.Abort()
	if err := s.send(ctx, w); err != nil {
		return nil, err
	}
	return w.Finish(ctx, s.end, wait)
}

// readBack reads all of a backup and compares it with the server.
func (s *server) readBack(ctx context.Context, a *archive.Archive, b *Backup) error {
	read := func(objects ...archive.Stored) (content []byte, err error) {
		for _, o := range objects {
			r, err := a.OpenStored(ctx, b.ID, o)
			if err != nil {
				return nil, err
			}
			piece, err := io.ReadAll(r)
			if err := errors.Join(err, r.Close()); err != nil {
				return nil, err
			}
			content = append(content, piece...)
		}
		return content, nil
	}
	for _, t := range b.Tablespaces {
		content, err := read(b.Pieces(t)...)
		if err != nil {
			return err
		}
		if !bytes.Equal(content, s.tars[t.OID]) {
			return fmt.Errorf("tablespace %d has other files", t.OID)
		}
	}
	manifest, err := read(b.Manifest())
	if err == nil && (!bytes.Equal(manifest, s.manifest) || len(b.Tablespaces) != len(s.tars)) {
		err = errors.New("the manifest is another one")
	}
	if err != nil {
		return err
	}
	wal, err := b.Needed().Find(ctx, a)
	if err == nil {
		err = wal.Err()
	}
	return err
}

// clock is a time that goes on while somebody pauses.
type clock struct {
	now    time.Time
	pauses []time.Duration
	during func(n int) // a pause, the n-th of which is 1; may be nil
}

func newClock() *clock { return &clock{now: day} }

// wait is patient by the clock.
func (c *clock) wait(d time.Duration) Wait {
	return Wait{For: d, Now: func() time.Time { return c.now }, Pause: func(ctx context.Context, d time.Duration) error {
		c.now = c.now.Add(d)
		c.pauses = append(c.pauses, d)
		if c.during != nil {
			c.during(len(c.pauses))
		}
		return ctx.Err()
	}}
}

// allWAL is what the server's backup needs.
var allWAL = []string{sealed(1, 3), sealed(1, 4), chunk(1, 5, 0, 0x200)}

func openArchive(t testing.TB, store storage.Store, keys archive.Keys) *archive.Archive {
	t.Helper()
	a, err := archive.Open(t.Context(), store, testSystem, keys)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// newMem is a store with an archive, and with WAL.
func newMem(t *testing.T, objects ...string) (*storagetest.Mem, *archive.Archive) {
	t.Helper()
	mem := storagetest.NewMem()
	a := newArchive(t, mem)
	wal(mem, objects...)
	return mem, a
}

func testKeys(t *testing.T) (keys archive.Keys) {
	t.Helper()
	id := must[*age.X25519Identity](t)(age.GenerateX25519Identity())
	keys.Encryption = must[*crypt.Encryption](t)(crypt.NewEncryption([]age.Recipient{id.Recipient()}, nil))
	keys.Identities = crypt.Identities{id}
	return keys
}
