package verify_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/crypt"
	"github.com/walrecv/walrecv/internal/pgtest"
	"github.com/walrecv/walrecv/internal/verify"
	"github.com/walrecv/walrecv/internal/vfs"
)

// newKeys are to write with, and to read with.
func newKeys(t *testing.T) (*crypt.Encryption, archive.Keys) {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	enc, err := crypt.NewEncryption([]age.Recipient{id.Recipient()}, crypt.DigestKey(strings.Repeat("k", 32)))
	if err != nil {
		t.Fatal(err)
	}
	return enc, archive.Keys{Identities: crypt.Identities{id}}
}

// encryptedWorld archives a recording encrypted, and gives the keys to read it.
func encryptedWorld(t *testing.T, r *recording) (*world, archive.Keys) {
	t.Helper()
	enc, keys := newKeys(t)
	w := newWorld(t, r.id)
	a, err := archive.Open(t.Context(), w.store, r.id.SystemID, archive.Keys{Encryption: enc})
	if err != nil {
		t.Fatal(err)
	}
	scratch := archive.NewScratch(vfs.NewMem(), "/")
	opener := func(data []byte) archive.Opener {
		return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
	}
	for n, data := range r.segments {
		if err := a.PutSegment(t.Context(), scratch, n, opener(data)); err != nil {
			t.Fatal(err)
		}
	}
	for n, data := range r.partials {
		if err := a.PutPartial(t.Context(), scratch, n, opener(data)); err != nil {
			t.Fatal(err)
		}
	}
	for timeline, data := range r.histories {
		w.putHistory(timeline, data)
	}
	return w, keys
}

// seal encrypts an object with these plain bytes.
func (w *world) seal(enc *crypt.Encryption, key string, plain []byte) {
	w.t.Helper()
	name := filepath.Join(w.t.TempDir(), "object")
	file, err := os.Create(name)
	if err != nil {
		w.t.Fatal(err)
	}
	defer file.Close()
	out, err := enc.NewWriter(file, int64(len(plain)))
	if err == nil {
		_, err = out.Write(w.get(key))
	}
	if err == nil {
		sum := enc.NewHash()
		sum.Write(plain)
		_, err = out.Finish(crypt.Sum(sum.Sum(nil)))
	}
	var object []byte
	if err == nil {
		object, err = os.ReadFile(name)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.remove(key)
	w.store.Set(key+".age", object)
}

// verifyWith verifies an archive with keys.
func (w *world) verifyWith(keys archive.Keys, o verify.Options) *verify.Report {
	w.t.Helper()
	a, err := archive.Open(w.t.Context(), w.store, w.id.SystemID, keys)
	if err != nil {
		w.t.Fatal(err)
	}
	o.Pause = noPause
	r, err := verify.New(a, w.store, o).Run(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

func TestEncryptedArchive(t *testing.T) {
	r := record(t, pgtest.Version(t))
	w, keys := encryptedWorld(t, r)
	got := w.verifyWith(keys, verify.Options{Deep: true})
	if !got.Sound() || !got.Complete() || got.Segments != len(r.segments) || got.Partials != len(r.partials) || got.Records == 0 || len(got.Notices) > 0 {
		t.Errorf("with the identity: %d segments, %q, %q, %q", got.Segments, spelled(got.Findings), got.Unread, got.Notices)
	}
	_, others := encryptedWorld(t, &recording{id: r.id})
	for what, wrong := range map[string]archive.Keys{"no": {}, "another": others} {
		got = w.verifyWith(wrong, verify.Options{})
		if !got.Sound() || got.Complete() || got.Segments != 0 || len(got.Unread) != 1 {
			t.Fatalf("%s identity: %q, %q", what, spelled(got.Findings), got.Unread)
		}
		f := got.Unread[0]
		if f.Kind != verify.KindEncrypted || !strings.HasSuffix(f.Object, ".zst.age") || !strings.Contains(f.Message, "more are encrypted") {
			t.Errorf("%s identity: %+v", what, f)
		}
	}
	// Damage is found without an identity, too; a segment may stand there twice.
	n := r.names()[1]
	key := w.key(n) + ".age"
	bad := bytes.Clone(w.get(key))
	bad[len(bad)/2] ^= 4
	w.store.Set(key, bad)
	twice := r.names()[2]
	w.put(twice, r.segments[twice])
	for _, keys := range []archive.Keys{keys, {}} {
		got = w.verifyWith(keys, verify.Options{})
		if len(got.Findings) != 1 || got.Findings[0].Kind != verify.KindDamaged || got.Findings[0].Object != key {
			t.Errorf("%d identities: %q", len(keys.Identities), spelled(got.Findings))
		}
		if len(got.Notices) != 1 || got.Notices[0].Kind != verify.KindTwice || got.Notices[0].Object != w.key(twice)+".age" {
			t.Errorf("%d identities: %q", len(keys.Identities), spelled(got.Notices))
		}
	}
}

// A tail is whole, also where nobody can look into it.
func TestEncryptedTail(t *testing.T) {
	w, n, data := withTail(t)
	enc, keys := newKeys(t)
	for _, key := range w.store.Keys() {
		if strings.Contains(key, "/tail/"+n.Format(mib)+"/") {
			var from, to int
			if _, err := fmt.Sscanf(path.Base(key), "%08X-%08X.zst", &from, &to); err != nil {
				t.Fatal(err)
			}
			w.seal(enc, key, data[from:to])
		}
	}
	wantSound(t, w.verifyWith(keys, verify.Options{Deep: true}))
	got := w.verify(verify.Options{})
	if !got.Sound() || len(got.Unread) != 1 || got.Unread[0].Kind != verify.KindEncrypted || !strings.Contains(got.Unread[0].Object, "/tail/") {
		t.Errorf("%q, %q", spelled(got.Findings), got.Unread)
	}
	for _, key := range w.store.Keys() {
		if strings.Contains(key, "/tail/"+n.Format(mib)+"/00000000") {
			w.remove(key)
		}
	}
	got = w.verify(verify.Options{})
	if len(got.Findings) != 1 || got.Findings[0].Kind != verify.KindTail {
		t.Errorf("with a hole: %q", spelled(got.Findings))
	}
}
