package extract

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"
	"go.uber.org/goleak"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/crypt"
	"github.com/walrecv/walrecv/storage/storagetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// archived puts the backup of a world into an archive. Its objects then are as the
// archive has them.
func (w *world) archived(keys archive.Keys) (*archive.Archive, *storagetest.Mem) {
	w.t.Helper()
	w.pack()
	mem := storagetest.NewMem()
	a, err := archive.Init(w.t.Context(), mem, archive.Identity{SystemID: system, SegmentSize: 1 << 20, Major: 15}, keys)
	if err != nil {
		w.t.Fatal(err)
	}
	for i, o := range w.backup.Objects {
		out, err := a.Create(w.t.Context(), archive.Object{Kind: archive.KindBaseBackup, ID: w.backup.ID, File: o.Name()})
		if err == nil {
			_, err = out.Write(w.shelf.files[o.File])
		}
		if err == nil {
			w.backup.Objects[i], err = out.Commit()
		}
		if err != nil {
			w.t.Fatal(err)
		}
	}
	return a, mem
}

func (w *world) runFrom(a Archive) error {
	x := w.extraction(Options{Dir: w.dir})
	x.archive = a
	_, err := x.run(w.t.Context())
	return err
}

// TestArchive: a backup that is altered anywhere in its archive is not restored.
func TestArchive(t *testing.T) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	encryption, err := crypt.NewEncryption([]age.Recipient{id.Recipient()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, keys := range map[string]archive.Keys{
		"plain":     {},
		"encrypted": {Encryption: encryption, Identities: crypt.Identities{id}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			a, mem := w.archived(keys)
			for _, key := range mem.Keys() {
				if !strings.Contains(key, "/backup/") {
					continue
				}
				sound, _ := mem.Get(key)
				damages := [][]byte{nil, sound[:len(sound)/2], sound[:len(sound)-1], append(slices.Clone(sound), 0)}
				for i := 0; i < len(sound); i += max(1, len(sound)/2) {
					altered := slices.Clone(sound)
					altered[i] ^= 0x10
					damages = append(damages, altered)
				}
				for i, damage := range damages {
					mem.Set(key, damage)
					var damaged *DamagedError
					if err := w.runFrom(a); !errors.As(err, &damaged) && !errors.Is(err, archive.ErrEncrypted) {
						t.Errorf("%s, damage %d: %v", key, i, err)
					}
					w.expect(w.outer, map[string]string{".": mode(t, w.outer)})
				}
				if err := mem.Delete(t.Context(), key); err != nil {
					t.Fatal(err)
				}
				if err := w.runFrom(a); err == nil || !strings.Contains(err.Error(), "is missing") {
					t.Errorf("%s is deleted: %v", key, err)
				}
				mem.Set(key, sound)
			}
			if err := w.runFrom(a); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestNoIdentity: what cannot be decrypted is not damaged.
func TestNoIdentity(t *testing.T) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	encryption, err := crypt.NewEncryption([]age.Recipient{id.Recipient()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	a, _ := w.archived(archive.Keys{Encryption: encryption})
	var damaged *DamagedError
	if err := w.runFrom(a); !errors.Is(err, archive.ErrEncrypted) || errors.As(err, &damaged) {
		t.Error(err)
	}
}
