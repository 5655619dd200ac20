package restore

import (
	"bytes"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/walrecv/walrecv/internal/pgdata"
	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/storage/storagetest"
)

// diskCase is a call that uses the server's own disk in many ways.
type diskCase struct {
	file  string
	setup func(w *world)
	want  int
	data  []byte // what is delivered
}

func diskCases() map[string]diskCase {
	n := seg(1, 5)
	fork := func(w *world) { w.write("/data/pg_wal/00000002.history", []byte(history(1, at(5, 200_000)))) }
	return map[string]diskCase{
		"sealed": {name(n), func(w *world) { w.put(n, wal(n, full)) }, CodeDelivered, wal(n, full)},
		"cut": {name(n), func(w *world) {
			fork(w)
			w.put(n, wal(n, full))
		}, CodeDelivered, cutAt(wal(n, full), 200_000)},
		"beyond the fork": {name(n.Next()), func(w *world) {
			fork(w)
			w.put(n.Next(), wal(n.Next(), full))
		}, CodeAbsent, nil},
		"tail": {name(n), func(w *world) {
			w.putPartial(n, wal(n, 300_000))
			w.write("/spool/"+name(n)+".partial", wal(n, 400_000))
			w.write("/data/pg_wal/"+name(n), wal(n, 350_000))
		}, CodeDelivered, wal(n, 400_000)},
		"tail that the server has": {name(n), func(w *world) {
			w.write("/spool/"+name(n)+".partial", wal(n, 300_000))
			w.write("/data/pg_wal/"+name(n), wal(n, 350_000))
		}, CodeAbsent, nil},
		"history": {"00000002.history", func(w *world) { w.putHistory(2, history(1, at(5, 100))) }, CodeDelivered, []byte(history(1, at(5, 100)))},
		"noted": {name(n), func(w *world) {
			w.write("/data/"+noteFile, []byte(`{"format":1,"unknown":[{"file":"00000002.history"}]}`))
			w.put(n, wal(n, full))
			w.putHistory(2, history(1, at(5, 200_000)))
		}, CodeDelivered, nil},
	}
}

// TestEveryFailingLocalOperation lets each operation on the server's own disk
// fail, alone and from there on. Only the right answer or none may come of it. The
// short form tries some of them.
func TestEveryFailingLocalOperation(t *testing.T) {
	next := strides(t, 12)
	for what, dc := range diskCases() {
		for _, signal := range modes {
			for _, lasting := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%s/%v", what, signal, lasting), func(t *testing.T) {
					k := next()
					for fired := true; fired && !t.Failed(); k += next() {
						synctest.Test(t, func(t *testing.T) { fired = failLocal(t, newWorld(t, signal).withSpool(), dc, k, lasting) })
					}
				})
			}
		}
	}
}

func failLocal(t *testing.T, w *world, dc diskCase, k int, lasting bool) (fired bool) {
	w.o.RetryFor = TryOnce
	dc.setup(w)
	ops := 0
	w.localHook = func(op vfs.Op) error {
		if ops++; ops != k && !(lasting && ops > k) {
			return nil
		}
		fired = true
		return syscall.EIO
	}
	o := w.o
	o.File = dc.file
	a := Run(t.Context(), o)
	w.localHook = nil
	noted := w.standby() && w.exists("/data/"+noteFile)
	switch {
	case a.Code == CodeUnknown && fired:
	case a.Code == CodeAbsent && noted && fired:
	case a.Code == CodeAbsent && ownCopyIsEnough(w, dc.file) && fired:
	case a.Code != dc.want:
		t.Errorf("operation %d fails: answer %d %q, noted: %v", k, a.Code, a.Message, noted)
	case a.Code == CodeDelivered && dc.data != nil && !bytes.Equal(w.read(o.target()), dc.data):
		t.Errorf("operation %d fails: something else was delivered", k)
	}
	return fired
}

// ownCopyIsEnough tells whether a standby may be told 1 without a note.
func ownCopyIsEnough(w *world, file string) bool {
	d := pgdata.Dir{FS: w.fs, Path: "/data"}
	r, err := parseRequest(file)
	return err == nil && w.standby() && hasCopy(&d, r, testSystem)
}

// A history that is listed but cannot be read leaves the holes unknown.
func TestLaterHistoryThatCannotBeRead(t *testing.T) {
	n := seg(1, 5)
	tests := []struct {
		name     string
		spoil    func(w *world)
		recovery int
	}{
		{"fails", func(w *world) {
			w.archiveHook = func(r storagetest.Request) storagetest.Fault {
				if r.Key == historyKey {
					return storagetest.Fault{Before: errDead}
				}
				return storagetest.Fault{}
			}
		}, CodeUnknown},
		{"damaged", func(w *world) { w.store.Set(historyKey, []byte("1\t0/500")) }, CodeDamaged},
		{"vanishes", func(w *world) {
			w.archiveHook = func(r storagetest.Request) storagetest.Fault {
				if r.Key == historyKey {
					w.must(w.store.Delete(w.t.Context(), historyKey))
				}
				return storagetest.Fault{}
			}
		}, CodeAbsent}, // with the next look
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bothModes(t, func(t *testing.T, w *world) {
				w.putHistory(2, history(1, at(5, 0)))
				tt.spoil(w)
				w.want(name(n), w.pick(tt.recovery, CodeAbsent))
			})
		})
	}
}

// An encrypted object is there; it cannot be taken for absent.
func TestEncryptedObject(t *testing.T) {
	n := seg(1, 5)
	for _, key := range []string{".zst.age", ".0123abcd.partial.zst.age"} {
		bothModes(t, func(t *testing.T, w *world) {
			w.store.Set(strings.TrimSuffix(w.key(n), ".zst")+key, []byte("age-encryption.org/v1"))
			a := w.want(name(n), w.pick(CodeMisconfigured, CodeAbsent))
			if !w.standby() && !strings.Contains(a.Message, "encrypted; see --decrypt-with") {
				t.Errorf("message %q", a.Message)
			}
		})
	}
}

// A spool of gigabytes of other segments, and names that nobody knows, change
// nothing.
func TestManyFiles(t *testing.T) {
	inMode(t, recoverySignal, func(t *testing.T, w *world) {
		w.withSpool()
		for number := range uint64(300) {
			w.write("/spool/"+name(seg(1, number+1)), nil)
			w.store.Set(w.key(seg(1, number+1)), nil)
		}
		w.store.Set("7710755342863415827/wal/00000009/later-version", nil)
		w.store.Set("7710755342863415827/marks/x", nil)
		w.want(name(seg(1, 301)), CodeAbsent)
		w.want(name(seg(1, 300)), CodeDamaged)
	})
}
