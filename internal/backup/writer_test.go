package backup

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage"
	"github.com/walrecv/walrecv/storage/storagetest"
)

func TestBackUp(t *testing.T) {
	for _, encrypted := range []bool{false, true} {
		mem, _ := newMem(t, allWAL...)
		keys, suffix := archive.Keys{}, ""
		if encrypted {
			keys, suffix = testKeys(t), ".age"
		}
		a := openArchive(t, mem, keys)
		s := newServer(t)
		b := must[*Backup](t)(s.backUp(t.Context(), a, newClock().wait(0)))
		if err := s.readBack(t.Context(), a, b); err != nil {
			t.Error(err)
		}
		entries := must[[]Entry](t)(List(t.Context(), a, day))
		if len(entries) != 1 || entries[0].State != Good || fmt.Sprint(*entries[0].Backup) != fmt.Sprint(*b) || b.ID != "20261122T073000Z" {
			t.Fatalf("%+v, want %+v", entries, b)
		}
		var files, want []string
		for _, o := range b.Objects {
			files = append(files, o.File)
			if o.PlainSize > testPiece+2*8192 {
				t.Errorf("%s has %d plain bytes", o.File, o.PlainSize)
			}
		}
		for _, f := range []string{"16384.000001.tar.zst", "16384.000002.tar.zst", "base.000001.tar.zst", "base.000002.tar.zst", "backup_manifest.zst"} {
			want = append(want, f+suffix)
		}
		if !slices.Equal(files, want) {
			t.Errorf("%v, want %v", files, want)
		}
		all := ""
		for _, o := range b.Pieces(b.Tablespaces[1]) { // each is a tar of its own
			r := must[io.ReadCloser](t)(a.OpenStored(t.Context(), b.ID, o))
			all += fmt.Sprint(names(t, must[[]byte](t)(io.ReadAll(r))))
			r.Close()
		}
		if all != "[backup_label base/ base/1/112 base/1/113][pg_tblspc/16384 empty global/pg_control]" {
			t.Errorf("the data directory has %s", all)
		}
		var stored int64
		for _, o := range b.Objects {
			stored += o.Size
		}
		if stored != b.StoredSize || entries[0].Stored <= stored {
			t.Errorf("%d bytes, %d and %d are said", stored, b.StoredSize, entries[0].Stored)
		}
	}
}

// TestTwoAtOnce: each has an ID, and nothing of the other.
func TestTwoAtOnce(t *testing.T) {
	_, a := newMem(t, allWAL...)
	s := newServer(t)
	one := must[*Writer](t)(Begin(t.Context(), a, s.start()))
	second := s.start()
	second.Label = "another"
	other := must[*Writer](t)(Begin(t.Context(), a, second))
	if one.ID() != "20261122T073000Z" || other.ID() != "20261122T073001Z" {
		t.Errorf("%s and %s", one.ID(), other.ID())
	}
	for _, w := range []*Writer{one, other} {
		if err := s.send(t.Context(), w); err != nil {
			t.Fatal(err)
		}
	}
	for _, w := range []*Writer{other, one} {
		b := must[*Backup](t)(w.Finish(t.Context(), s.end, newClock().wait(0)))
		if err := s.readBack(t.Context(), a, b); err != nil {
			t.Error(err)
		}
		w.Abort() // does nothing
	}
	if n := len(must[[]Entry](t)(List(t.Context(), a, day))); n != 2 {
		t.Errorf("%d backups", n)
	}
}

func TestOtherCluster(t *testing.T) {
	_, a := newMem(t)
	for _, change := range []func(*Start){func(s *Start) { s.SystemID++ }, func(s *Start) { s.Major++ }} {
		s := newServer(t).start()
		change(&s)
		if _, err := Begin(t.Context(), a, s); !errors.Is(err, segment.ErrWrongCluster) {
			t.Error(err)
		}
	}
}

// TestIncomplete: what is not what a server sends is not finished.
func TestIncomplete(t *testing.T) {
	s := newServer(t)
	for want, send := range map[string]func(context.Context, *Writer) error{
		"it has no manifest":          func(ctx context.Context, w *Writer) error { return w.Tablespace(ctx, 0, "", 0) },
		"it lacks the data directory": func(ctx context.Context, w *Writer) error { return w.Manifest(ctx) },
		"within a file": func(ctx context.Context, w *Writer) error {
			if err := w.Tablespace(ctx, 0, "", 0); err != nil {
				return err
			}
			_, err := w.Write(s.tars[0][:1000])
			return errors.Join(err, w.Manifest(ctx))
		},
		"cannot be read at byte 0": func(ctx context.Context, w *Writer) error {
			if err := w.Tablespace(ctx, 0, "", 0); err != nil {
				return err
			}
			_, err := w.Write(make([]byte, 100))
			if err == nil {
				_, err = w.Write([]byte(strings.Repeat("x", 500)))
			}
			return err
		},
		"before it is said what it is of": func(_ context.Context, w *Writer) error { _, err := w.Write([]byte("x")); return err },
		"given up":                        func(_ context.Context, w *Writer) error { w.Abort(); return nil },
		"file already exists": func(ctx context.Context, w *Writer) error {
			return errors.Join(w.Manifest(ctx), w.Manifest(ctx))
		},
		"it ends before it begins": func(ctx context.Context, w *Writer) error { w.backup.EndLSN = 1; return s.send(ctx, w) },
	} {
		mem, a := newMem(t, allWAL...)
		w := must[*Writer](t)(Begin(t.Context(), a, s.start()))
		sendErr := send(t.Context(), w)
		end := s.end
		if want == "it ends before it begins" {
			end.LSN = 1
		}
		_, err := w.Finish(t.Context(), end, newClock().wait(0))
		if err == nil || !strings.Contains(err.Error(), want) || sendErr != nil && err.Error() != sendErr.Error() && !errors.Is(sendErr, err) {
			t.Errorf("%v, and before %v, want %q", err, sendErr, want)
		}
		w.Abort()
		if _, there := mem.Get(key(w.ID(), archive.BackupEnd)); there {
			t.Errorf("%s: it is good", want)
		}
	}
}

// TestNotWhatWasPut: the last look is at what is in the archive.
func TestNotWhatWasPut(t *testing.T) {
	s := newServer(t)
	for want, change := range map[string]func(*testing.T, *storagetest.Mem, string){
		"base.000002.tar.zst was put, and is not in the archive": func(t *testing.T, mem *storagetest.Mem, id string) {
			t.Helper()
			if err := mem.Delete(t.Context(), key(id, "base.000002.tar.zst")); err != nil {
				t.Fatal(err)
			}
		},
		"start.json was put, and is not in the archive": func(t *testing.T, mem *storagetest.Mem, id string) {
			t.Helper()
			if err := mem.Delete(t.Context(), key(id, archive.BackupStart)); err != nil {
				t.Fatal(err)
			}
		},
		"base.000002.tar.zst has 3 bytes in the archive": func(_ *testing.T, mem *storagetest.Mem, id string) {
			set(mem, id, "base.000002.tar.zst", []byte("abc"))
		},
		"which is not of this backup": func(_ *testing.T, mem *storagetest.Mem, id string) { set(mem, id, "base.000003.tar.zst", nil) },
		"complete the base backup":    func(_ *testing.T, mem *storagetest.Mem, id string) { set(mem, id, archive.BackupEnd, nil) },
	} {
		mem, a := newMem(t)
		c := newClock()
		c.during = func(n int) { // while the WAL is waited for
			if n == 2 {
				change(t, mem, "20261122T073000Z")
				wal(mem, allWAL...)
			}
		}
		_, err := s.backUp(t.Context(), a, c.wait(time.Hour))
		if err == nil || !strings.Contains(err.Error(), want) || errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist) || len(c.pauses) != 2 {
			t.Errorf("%v after %d pauses, want %q", err, len(c.pauses), want)
		}
	}
}

// TestFinishWaits: for WAL that comes, and not for WAL that nobody brings any more.
func TestFinishWaits(t *testing.T) {
	s := newServer(t)
	for _, c := range []struct {
		what   string
		before []string
		during []string // after two pauses
		says   string   // "": it is good
		waits  time.Duration
	}{
		{"there already", allWAL, nil, "", 0},
		{"a segment comes", allWAL[:2], []string{sealed(1, 5)}, "", 250 * time.Millisecond},
		{"it does not come", allWAL[:2], []string{chunk(1, 5, 0, 0x100)}, "000000010000000000000005 is not in the archive yet; waited for 1m0s", time.Minute},
		{"nothing is there", nil, nil, "000000010000000000000004 is not in the archive yet; waited for 1m0s", time.Minute},
		{"no patience is endless", nil, nil, "000000010000000000000004 is not in the archive yet; waited for 12h0m0s", 12 * time.Hour},
		{"a hole closes", []string{sealed(1, 5)}, []string{sealed(1, 4)}, "", 250 * time.Millisecond},
		{"a hole stays", []string{sealed(1, 5)}, nil, "000000010000000000000004 is missing in the archive, which has later WAL", 30 * time.Second},
		{"a hole far behind", []string{sealed(1, 5), sealed(1, 4+farBehind+1)}, nil, "000000010000000000000004 is missing in the archive, which has later WAL", 250 * time.Millisecond},
	} {
		mem, a := newMem(t, c.before...)
		clock := newClock()
		clock.during = func(n int) {
			if n == 2 {
				wal(mem, c.during...)
			}
		}
		wait := clock.wait(time.Minute)
		if c.waits > time.Minute {
			wait = clock.wait(100 * c.waits)
		}
		looks := 0
		wait.Tell = func(w WAL, err error) {
			looks++
			if err != nil || (c.says == "" && w.Complete()) != (looks == len(clock.pauses)+1 && w.Until == s.end.LSN && w.Err() == nil) {
				t.Errorf("%s: told %+v, %v after %d pauses", c.what, w, err, len(clock.pauses))
			}
		}
		b, err := s.backUp(t.Context(), a, wait)
		says := ""
		if err != nil {
			says = err.Error()
		}
		waited := clock.now.Sub(day)
		if says != c.says || waited < c.waits || waited > c.waits+lastPause {
			t.Errorf("%s: %q after %s, want %q after %s", c.what, says, waited, c.says, c.waits)
		}
		_, good := mem.Get(key("20261122T073000Z", archive.BackupEnd))
		if good != (c.says == "") || (b != nil) != good || looks == 0 {
			t.Errorf("%s: it is good: %t, %v, %d looks", c.what, good, b, looks)
		}
	}
}

// TestDamagedWAL: a backup is not good whose WAL is known to be damaged.
func TestDamagedWAL(t *testing.T) {
	mark := segment.Mark{Name: segment.Name{Timeline: 1, Number: 4}, LSN: 0x400028, End: 0x400100, Reason: "rot"}
	faults := `{"first_lsn":"0/400028","last_lsn":"0/400028","faults":1,"first_fault":{"lsn":"0/400100","sound_until_lsn":"0/400100","reason":"wrong checksum"}}`
	summary := fmt.Sprintf(`{"sha256":"%064x","size":1048576,"summary":%s,"summary_crc32c":"%08x"}`, 1, faults, crc32.Checksum([]byte(faults), crc32.MakeTable(crc32.Castagnoli)))
	other := mark
	other.Name.Number, other.LSN, other.End = 3, 0x300028, 0x300100 // it does not need that one
	for what, c := range map[string]struct {
		key     string
		content []byte
		says    string
	}{
		"marked":           {"marks/" + mark.FileName(testSize), must[[]byte](t)(mark.Encode(testSize)), "as the server sent it: rot"},
		"with faults":      {sealed(1, 4), object(summary), "wrong checksum"},
		"unreadable":       {sealed(1, 4), []byte("x"), "is damaged"},
		"another's mark":   {"marks/" + other.FileName(testSize), must[[]byte](t)(other.Encode(testSize)), ""},
		"a mark that rots": {"marks/" + mark.FileName(testSize), []byte("x"), ""},
	} {
		mem, a := newMem(t, allWAL...)
		mem.Set(fmt.Sprintf("%d/%s", uint64(testSystem), c.key), c.content)
		clock := newClock()
		_, err := newServer(t).backUp(t.Context(), a, clock.wait(time.Hour))
		_, good := mem.Get(key("20261122T073000Z", archive.BackupEnd))
		if good != (c.says == "") || (err == nil) != good || !strings.Contains(fmt.Sprint(err), c.says) || len(clock.pauses) > 0 {
			t.Errorf("%s: it is good: %v, %v", what, good, err)
		}
	}
}

// TestRemovedWhenGood: the WAL goes between the last look and the end.
func TestRemovedWhenGood(t *testing.T) {
	mem, _ := newMem(t, allWAL...)
	store := storagetest.NewFaulty(mem, func(r storagetest.Request) storagetest.Fault {
		if r.Op == storagetest.OpPut && strings.HasSuffix(r.Key, archive.BackupEnd) {
			wal(mem, sealed(1, 6))
			if err := mem.Delete(t.Context(), fmt.Sprintf("%d/%s", uint64(testSystem), sealed(1, 4))); err != nil {
				t.Error(err)
			}
		}
		return storagetest.Fault{}
	})
	clock := newClock()
	_, err := newServer(t).backUp(t.Context(), openArchive(t, store, archive.Keys{}), clock.wait(time.Hour))
	if err == nil || !strings.Contains(err.Error(), "was complete") || !strings.Contains(err.Error(), "000000010000000000000004 is missing") || len(clock.pauses) != 2 {
		t.Errorf("%v after %d pauses", err, len(clock.pauses))
	}
}

// TestFinishEnds: with its context, at once.
func TestFinishEnds(t *testing.T) {
	_, a := newMem(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	stopped := errors.New("stopped")
	c := newClock()
	c.during = func(int) { cancel(stopped) }
	wait := c.wait(time.Hour)
	pause := wait.Pause
	wait.Pause = func(ctx context.Context, d time.Duration) error {
		_ = pause(ctx, d)
		return context.Cause(ctx)
	}
	if _, err := newServer(t).backUp(ctx, a, wait); !errors.Is(err, stopped) || len(c.pauses) != 1 {
		t.Errorf("%v after %d pauses", err, len(c.pauses))
	}
	if err := Pause(ctx, time.Hour); !errors.Is(err, stopped) {
		t.Errorf("a pause: %v", err)
	}
	if err := Pause(t.Context(), 0); err != nil {
		t.Error(err)
	}
}

// TestNoCreator: a store that takes no objects of unknown size.
func TestNoCreator(t *testing.T) {
	mem, _ := newMem(t)
	a := openArchive(t, struct{ storage.Store }{mem}, archive.Keys{})
	if _, err := newServer(t).backUp(t.Context(), a, newClock().wait(0)); !errors.Is(err, errors.ErrUnsupported) {
		t.Error(err)
	}
}
