package restore

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/pgdata"
	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/storage/storagetest"
)

// notedFiles are the files that the note has.
func (w *world) notedFiles() []string {
	w.t.Helper()
	if !w.exists("/data/" + noteFile) {
		return nil
	}
	var n note
	w.must(json.Unmarshal(w.read("/data/"+noteFile), &n))
	var files []string
	for _, u := range n.Unknown {
		files = append(files, u.File)
	}
	return files
}

func (w *world) wantNoted(files ...string) {
	w.t.Helper()
	if got := w.notedFiles(); !slices.Equal(got, files) {
		w.t.Fatalf("noted: %q, want %q", got, files)
	}
}

// outage makes the archive unreachable, recovered makes it well and lets what is
// known of the outage get old.
func (w *world) outage() { w.archiveHook = dead }

func (w *world) recovered() { w.archiveHook = nil; time.Sleep(freshFor) }

// TestNoteOfAHistory: while it is unknown whether the timeline branched, nothing
// is delivered that could be of the abandoned branch.
func TestNoteOfAHistory(t *testing.T) {
	n := seg(1, 5)
	const file = "00000002.history"
	setup := func(w *world) {
		for number := uint64(4); number < 8; number++ {
			w.put(seg(1, number), wal(seg(1, number), full))
		}
		w.outage()
		w.want(file, CodeAbsent)
		w.wantNoted(file)
	}
	t.Run("absent", func(t *testing.T) {
		inMode(t, standbySignal, func(t *testing.T, w *world) {
			setup(w)
			w.recovered()
			w.wantBytes(n, wal(n, full))
			w.wantNoted()
			if w.exists("/data/" + noteFile) {
				t.Error("an empty note stays")
			}
		})
	})
	t.Run("there", func(t *testing.T) {
		inMode(t, standbySignal, func(t *testing.T, w *world) {
			setup(w)
			w.putHistory(2, history(1, at(5, 200_000)))
			w.recovered()
			w.wantBytes(n, cutAt(wal(n, full), 200_000))
			w.want(name(seg(1, 6)), CodeAbsent)
			w.wantNoted(file) // until the server has it
			w.want(file, CodeDelivered)
			w.wantNoted()
		})
	})
	t.Run("still unknown", func(t *testing.T) {
		inMode(t, standbySignal, func(t *testing.T, w *world) {
			setup(w)
			time.Sleep(freshFor)
			w.archiveHook = func(r storagetest.Request) storagetest.Fault {
				if strings.HasSuffix(r.Key, file) {
					return storagetest.Fault{Before: errDead}
				}
				return storagetest.Fault{}
			}
			w.want(name(n), CodeAbsent)
			w.wantNoted(file, name(n))
		})
	})
	t.Run("of a branch that does not concern it", func(t *testing.T) {
		inMode(t, standbySignal, func(t *testing.T, w *world) {
			setup(w)
			w.putHistory(2, history(1, at(5, 200_000)))
			w.recovered()
			w.put(seg(3, 5), wal(seg(3, 5), full))
			w.wantBytes(seg(3, 5), wal(seg(3, 5), full))
		})
	})
	t.Run("absent when it is asked for again", func(t *testing.T) {
		inMode(t, standbySignal, func(t *testing.T, w *world) {
			setup(w)
			w.recovered()
			w.want(file, CodeAbsent)
			w.wantNoted()
		})
	})
}

// TestNoteOfASegment: the server turns to the parent's segment when the child's
// is not there. It must not get it while the child's is only unknown.
func TestNoteOfASegment(t *testing.T) {
	child, parent, grand := seg(3, 5), seg(2, 5), seg(1, 5)
	line := history(1, at(5, 100_000), 2, at(5, 200_000))
	setup := func(w *world) {
		w.put(parent, walOf(testSystem, parent, 1, full))
		w.put(grand, wal(grand, full))
		w.write("/data/pg_wal/00000003.history", []byte(line))
		w.putHistory(2, history(1, at(5, 100_000)))
		w.putHistory(3, line)
		w.outage()
		w.want(name(child), CodeAbsent)
		w.wantNoted(name(child))
	}
	t.Run("there", func(t *testing.T) {
		inMode(t, standbySignal, func(t *testing.T, w *world) {
			setup(w)
			w.put(child, walOf(testSystem, child, 1, full))
			w.recovered()
			w.want(name(parent), CodeAbsent)
			w.want(name(grand), CodeAbsent)
			w.wantBytes(child, walOf(testSystem, child, 1, full))
			w.wantNoted()
		})
	})
	t.Run("begun", func(t *testing.T) {
		inMode(t, standbySignal, func(t *testing.T, w *world) {
			setup(w)
			w.putPartial(child, walOf(testSystem, child, 1, 300_000))
			w.recovered()
			w.want(name(parent), CodeAbsent)
			w.wantBytes(child, walOf(testSystem, child, 1, 300_000))
		})
	})
	t.Run("absent", func(t *testing.T) {
		inMode(t, standbySignal, func(t *testing.T, w *world) {
			setup(w)
			w.recovered()
			w.wantBytes(parent, cutAt(walOf(testSystem, parent, 1, full), 200_000))
			w.wantNoted()
			w.wantBytes(grand, cutAt(wal(grand, full), 100_000))
		})
	})
	t.Run("still unknown", func(t *testing.T) {
		inMode(t, standbySignal, func(t *testing.T, w *world) {
			setup(w)
			time.Sleep(freshFor)
			w.archiveHook = func(r storagetest.Request) storagetest.Fault {
				if strings.Contains(r.Key, name(child)) {
					return storagetest.Fault{Before: errDead}
				}
				return storagetest.Fault{}
			}
			w.want(name(parent), CodeAbsent)
			w.want(name(grand), CodeAbsent)
			// The child turns out to be absent. The parent was not looked at
			// then, so the grandparent is not next.
			w.recovered()
			w.want(name(grand), CodeAbsent)
			w.wantNoted(name(parent), name(grand))
			w.wantBytes(parent, cutAt(walOf(testSystem, parent, 1, full), 200_000))
			w.wantNoted()
			w.wantBytes(grand, cutAt(wal(grand, full), 100_000))
		})
	})
	t.Run("lower numbers are free", func(t *testing.T) {
		inMode(t, standbySignal, func(t *testing.T, w *world) {
			w.put(seg(1, 4), wal(seg(1, 4), full))
			setup(w)
			w.recovered()
			w.put(child, walOf(testSystem, child, 1, full))
			w.wantBytes(seg(1, 4), wal(seg(1, 4), full))
			w.wantNoted(name(child))
		})
	})
	t.Run("no relation", func(t *testing.T) {
		inMode(t, standbySignal, func(t *testing.T, w *world) {
			other := seg(4, 5)
			w.putHistory(4, history(1, at(3, 0)))
			w.put(parent, walOf(testSystem, parent, 1, full))
			w.outage()
			w.want(name(other), CodeAbsent)
			w.put(other, wal(other, full))
			w.putHistory(2, history(1, at(5, 100_000)))
			w.putHistory(3, line)
			w.recovered()
			w.wantBytes(parent, walOf(testSystem, parent, 1, full))
			w.wantNoted(name(other))
		})
	})
}

func TestNotesOfWhatWasPassed(t *testing.T) {
	inMode(t, standbySignal, func(t *testing.T, w *world) {
		w.outage()
		for number := uint64(5); number < 9; number++ {
			w.want(name(seg(2, number)), CodeAbsent)
		}
		w.wantNoted(name(seg(2, 5)), name(seg(2, 6)), name(seg(2, 7)), name(seg(2, 8)))
		w.recovered()
		w.putHistory(2, history(1, at(5, 99)))
		w.put(seg(2, 7), wal(seg(2, 7), full))
		w.wantBytes(seg(2, 7), wal(seg(2, 7), full))
		w.wantNoted(name(seg(2, 8)))
	})
}

// Without a note a 1 could lead the server to the wrong branch.
func TestNoteThatCannotBeWritten(t *testing.T) {
	inMode(t, standbySignal, func(t *testing.T, w *world) {
		w.outage()
		w.localHook = func(op vfs.Op) error {
			if op.Mutates() && strings.Contains(op.Name, noteFile) {
				return errNothing
			}
			return nil
		}
		a := w.want("00000002.history", CodeUnknown)
		if !strings.Contains(a.Message, "note") {
			t.Errorf("message %q", a.Message)
		}
		// Where the server has a copy it needs none.
		w.write("/data/pg_wal/"+name(seg(1, 5)), wal(seg(1, 5), full))
		w.want(name(seg(1, 5)), CodeAbsent)
	})
}

// TestNoteThatCannotBeRead may have said anything.
func TestNoteThatCannotBeRead(t *testing.T) {
	parent, child := seg(1, 5), seg(2, 5)
	for _, broken := range []string{"", "{", `{"format":2}`, "\x00\x00"} {
		t.Run("no later timeline", func(t *testing.T) {
			inMode(t, standbySignal, func(t *testing.T, w *world) {
				w.write("/data/"+noteFile, []byte(broken))
				w.put(parent, wal(parent, full))
				w.wantBytes(parent, wal(parent, full))
				if w.exists("/data/" + noteFile) {
					t.Error("the note stays")
				}
			})
		})
		t.Run("later timeline", func(t *testing.T) {
			inMode(t, standbySignal, func(t *testing.T, w *world) {
				w.write("/data/"+noteFile, []byte(broken))
				w.put(parent, wal(parent, full))
				w.put(seg(1, 6), wal(seg(1, 6), full))
				w.putHistory(2, history(1, at(5, 200_000)))
				w.wantBytes(parent, cutAt(wal(parent, full), 200_000))
				w.want(name(seg(1, 6)), CodeAbsent)
				w.put(child, walOf(testSystem, child, 1, full))
				w.want(name(parent), CodeAbsent)
				w.wantBytes(child, walOf(testSystem, child, 1, full))
			})
		})
		t.Run("store down", func(t *testing.T) {
			inMode(t, standbySignal, func(t *testing.T, w *world) {
				w.write("/data/"+noteFile, []byte(broken))
				w.outage()
				w.want(name(parent), CodeAbsent)
				var n note
				w.must(json.Unmarshal(w.read("/data/"+noteFile), &n))
				if !n.All {
					t.Error("the new note has forgotten what the old one may have said")
				}
			})
		})
	}
}

func TestNoteIsDurable(t *testing.T) {
	inMode(t, standbySignal, func(t *testing.T, w *world) {
		synced := false
		w.localHook = func(op vfs.Op) error {
			if op.Kind == vfs.OpSyncDir && op.Name == "/data" {
				synced = true
			}
			return nil
		}
		w.outage()
		w.want("00000002.history", CodeAbsent)
		if !synced {
			t.Error("the note was not synced")
		}
	})
}

func FuzzNote(f *testing.F) {
	f.Add([]byte(`{"format":1,"unknown":[{"file":"00000002.history","since":"2026-01-01T00:00:00Z","last":"2026-01-01T00:00:00Z"}],"all":true}`))
	f.Add([]byte(`{"format":1,"promotion":{"pid":1,"started":2},"failed":"2026-01-01T00:00:00Z"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		fsys := vfs.NewMem()
		d := &pgdata.Dir{FS: fsys, Path: "/"}
		file, err := fsys.Create("/"+noteFile, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := file.WriteAt(data, 0); err != nil {
			t.Fatal(err)
		}
		n := readNote(d)
		n.add("00000002.history", time.Unix(1, 0))
		if err := n.save(d, pgdata.Postmaster{PID: 1, Started: 2}); err != nil {
			t.Fatal(err)
		}
		again := readNote(d)
		if again.All != n.All || fmt.Sprint(again.histories()) != fmt.Sprint(n.histories()) || len(again.Unknown) != len(n.Unknown) {
			t.Errorf("%+v was read back as %+v", n, again)
		}
	})
}
