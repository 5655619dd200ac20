package verify_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/backup"
	"github.com/walrecv/walrecv/internal/verify"
	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage/storagetest"
)

var backupDay = time.Date(2026, 11, 22, 7, 30, 0, 0, time.UTC)

// backup puts a base backup of timeline 1 with a manifest.
func (w *world) backup(keys archive.Keys, start, end segment.LSN, manifest string) (id string) {
	w.t.Helper()
	ctx := w.t.Context()
	b := w.begin(keys, start, "good")
	var data bytes.Buffer
	files := tar.NewWriter(&data)
	content := bytes.Repeat([]byte("0123456789"), 50_000)
	err := files.WriteHeader(&tar.Header{Name: "PG_VERSION", Size: int64(len(content)), Mode: 0o600})
	if err == nil {
		_, err = files.Write(content)
	}
	if err == nil {
		err = files.Close()
	}
	if err == nil {
		err = b.Tablespace(ctx, 0, "", 0)
	}
	if err == nil {
		_, err = b.Write(data.Bytes())
	}
	if err == nil {
		err = b.Manifest(ctx)
	}
	if err == nil {
		_, err = b.Write([]byte(manifest))
	}
	if err == nil {
		_, err = b.Finish(ctx, backup.End{LSN: end, Timeline: 1, Finished: backupDay.Add(time.Minute), ServerVersion: "15.20"}, backup.Wait{
			Now: func() time.Time { return backupDay }, Pause: func(context.Context, time.Duration) error { return nil },
		})
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return b.ID()
}

func (w *world) begin(keys archive.Keys, start segment.LSN, label string) *backup.Writer {
	w.t.Helper()
	a, err := archive.Open(w.t.Context(), w.store, w.id.SystemID, keys)
	if err != nil {
		w.t.Fatal(err)
	}
	b, err := backup.Begin(w.t.Context(), a, backup.Start{
		SystemID: w.id.SystemID, Major: w.id.Major, Timeline: 1, StartLSN: start, Started: backupDay, Label: label, From: backup.FromPrimary,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return b
}

func (w *world) backupKey(id, file string) string {
	return fmt.Sprintf("%d/backup/%s/%s", w.id.SystemID, id, file)
}

// soundManifest is one that proves itself.
func soundManifest() string {
	text := "{ \"PostgreSQL-Backup-Manifest-Version\": 1,\n\"Files\": [\n" +
		"{ \"Path\": \"PG_VERSION\", \"Size\": 500000, \"Last-Modified\": \"2026-11-22 07:30:00 GMT\" }\n],\n\"WAL-Ranges\": [\n],\n"
	return text + fmt.Sprintf("\"Manifest-Checksum\": \"%x\"}\n", sha256.Sum256([]byte(text)))
}

// TestBackups: what a base backup lacks is always found, what is wrong inside with Deep.
func TestBackups(t *testing.T) {
	r, sound := sample(t)
	on := r.on(1)
	start, end := on[1].Start(mib)+0x28, on[2].Start(mib)+0x100
	id := sound.backup(archive.Keys{}, start, end, soundManifest())
	sound.begin(archive.Keys{}, start, "running")
	const tarFile, manifestFile = "base.000001.tar.zst", "backup_manifest.zst"
	at := verify.Options{Now: backupDay.Add(time.Hour)}
	deep := at
	deep.Deep = true
	if got := sound.verify(at); got.Backups != 1 || got.Objects != 0 {
		t.Errorf("%d base backups, %d objects read", got.Backups, got.Objects)
	} else {
		wantSound(t, got)
	}
	if got := sound.verify(deep); got.Backups != 1 || got.Objects != 2 {
		t.Errorf("deep: %d base backups, %d objects read", got.Backups, got.Objects)
	} else {
		wantSound(t, got)
	}
	flip := func(key string, i int) func(w *world) {
		return func(w *world) {
			data := bytes.Clone(w.get(key))
			data[(i+len(data))%len(data)] ^= 1
			w.store.Set(key, data)
		}
	}
	tarKey, manifestKey, endKey := sound.backupKey(id, tarFile), sound.backupKey(id, manifestFile), sound.backupKey(id, archive.BackupEnd)
	for what, c := range map[string]struct {
		do      func(w *world)
		shallow string // what is found without Deep
		deep    string // with it
		object  string
	}{
		"an object is missing": {func(w *world) { w.remove(tarKey) }, tarFile + " was put, and is not", tarFile + " was put, and is not", endKey},
		"an object is short": {
			func(w *world) { w.store.Set(tarKey, w.get(tarKey)[1:]) }, "bytes in the archive", "bytes in the archive", endKey,
		},
		"a byte of the data":     {flip(tarKey, 40), "", "CRC", tarKey},
		"a byte of the trailer":  {flip(tarKey, -20), "", "digest", tarKey},
		"a byte of the manifest": {flip(manifestKey, 20), "", "", manifestKey},
		"what says it is good":   {func(w *world) { w.store.Set(endKey, []byte("x")) }, "is damaged", "is damaged", endKey},
		"the WAL is missing": {
			func(w *world) { w.remove(w.key(on[1])) }, "the base backup needs the WAL from " + start.String(), "needs the WAL from", endKey,
		},
	} {
		w := sound.clone(t)
		c.do(w)
		for _, o := range []verify.Options{at, deep} {
			want := c.shallow
			if o.Deep {
				want = c.deep
			}
			got := w.verify(o)
			found := slices.ContainsFunc(got.Findings, func(f verify.Finding) bool {
				return f.Kind == verify.KindBackup && f.Object == c.object && strings.Contains(f.Message, want) && f.Advice != ""
			})
			if expected := o.Deep || c.shallow != ""; found != expected || got.Sound() == expected {
				t.Errorf("%s, deep %v: %q", what, o.Deep, spelled(got.Findings))
			}
		}
	}
	// A manifest that the server sent damaged.
	w := r.world(t, nil)
	id = w.backup(archive.Keys{}, start, end, strings.Replace(soundManifest(), "500000", "500001", 1))
	if got := w.verify(deep); len(got.Findings) != 1 || got.Findings[0].Kind != verify.KindBackup || got.Findings[0].Object != w.backupKey(id, manifestFile) {
		t.Errorf("a damaged manifest: %q", spelled(got.Findings))
	}
	// Objects of a backup that begins before what is of interest are not read.
	since := deep
	since.Since = on[2].Start(mib)
	if got := w.verify(since); !got.Sound() || got.Objects != 0 {
		t.Errorf("since: %d objects, %q", got.Objects, spelled(got.Findings))
	}
	// One that nobody completes is not good, and no fault.
	if got := sound.verify(verify.Options{Now: backupDay.Add(48 * time.Hour)}); !got.Sound() || !slices.Equal(kinds(got.Notices), []verify.Kind{verify.KindAbandoned}) {
		t.Errorf("abandoned: %q, %q", spelled(got.Findings), spelled(got.Notices))
	}
	sound.store.Set(endKey, []byte(`{"format":2}`))
	if got := sound.verify(at); !got.Sound() || got.Complete() {
		t.Errorf("of a later version: %q, %q", spelled(got.Findings), spelled(got.Unread))
	}
}

// TestBackupDeletedMeanwhile: no fault.
func TestBackupDeletedMeanwhile(t *testing.T) {
	r, w := sample(t)
	on := r.on(1)
	id := w.backup(archive.Keys{}, on[1].Start(mib)+0x28, on[2].Start(mib)+0x100, soundManifest())
	store := storagetest.NewFaulty(w.store, func(r storagetest.Request) storagetest.Fault {
		if r.Op == storagetest.OpOpen && strings.HasSuffix(r.Key, ".tar.zst") {
			w.remove(w.backupKey(id, archive.BackupEnd))
			return storagetest.Fault{Before: fs.ErrNotExist}
		}
		return storagetest.Fault{}
	})
	got := w.verifyOn(store, verify.Options{Deep: true, Now: backupDay})
	if !got.Sound() || !slices.Equal(kinds(got.Notices), []verify.Kind{verify.KindRemoved}) {
		t.Errorf("findings %q, notices %q", spelled(got.Findings), spelled(got.Notices))
	}
}

// TestEncryptedBackup: that it is as it was put takes no identity.
func TestEncryptedBackup(t *testing.T) {
	r, w := sample(t)
	on := r.on(1)
	enc, _ := newKeys(t)
	id := w.backup(archive.Keys{Encryption: enc}, on[1].Start(mib)+0x28, on[2].Start(mib)+0x100, soundManifest())
	o := verify.Options{Deep: true, Now: backupDay}
	if got := w.verify(o); !got.Sound() || !slices.Equal(kinds(got.Unread), []verify.Kind{verify.KindEncrypted}) {
		t.Errorf("findings %q, unread %q", spelled(got.Findings), spelled(got.Unread))
	}
	key := w.backupKey(id, "base.000001.tar.zst.age")
	data := bytes.Clone(w.get(key))
	data[len(data)-5] ^= 1
	w.store.Set(key, data)
	if got := w.verify(o); len(got.Findings) != 1 || got.Findings[0].Object != key {
		t.Errorf("altered: %q", spelled(got.Findings))
	}
}
