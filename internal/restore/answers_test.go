package restore

import (
	"context"
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"github.com/walrecv/walrecv/storage"
	"github.com/walrecv/walrecv/storage/storagetest"
)

// TestAnswers goes through the rows of section 6 of the design: what is found,
// and the code in a recovery and on a standby.
func TestAnswers(t *testing.T) {
	wanted, later := seg(1, 5), seg(1, 6)
	tests := []struct {
		name     string
		file     string
		setup    func(w *world)
		recovery int
		standby  int
		message  string // part of it, where there is one
		noted    bool   // on a standby
	}{
		{
			name: "sealed in the archive", file: name(wanted),
			setup:    func(w *world) { w.put(wanted, wal(wanted, full)) },
			recovery: CodeDelivered, standby: CodeDelivered,
		}, {
			name: "history in the archive", file: "00000002.history",
			setup:    func(w *world) { w.putHistory(2, history(1, at(5, 100))) },
			recovery: CodeDelivered, standby: CodeDelivered,
		}, {
			name: "nothing there", file: name(wanted),
			setup:    func(*world) {},
			recovery: CodeAbsent, standby: CodeAbsent,
		}, {
			name: "only earlier segments", file: name(later),
			setup:    func(w *world) { w.put(wanted, wal(wanted, full)) },
			recovery: CodeAbsent, standby: CodeAbsent,
		}, {
			name: "no later history", file: "00000003.history",
			setup:    func(w *world) { w.putHistory(2, history(1, at(5, 100))) },
			recovery: CodeAbsent, standby: CodeAbsent,
		}, {
			name: "history of timeline 1", file: "00000001.history",
			setup:    func(w *world) { w.archiveHook = dead },
			recovery: CodeAbsent, standby: CodeAbsent,
		}, {
			name: "store down", file: name(wanted),
			setup:    func(w *world) { w.archiveHook = dead },
			recovery: CodeUnknown, standby: CodeAbsent, message: "connection refused", noted: true,
		}, {
			name: "store down, history", file: "00000002.history",
			setup:    func(w *world) { w.archiveHook = dead },
			recovery: CodeUnknown, standby: CodeAbsent, message: "no answer within 5m0s", noted: true,
		}, {
			name: "store hangs", file: name(wanted),
			setup:    func(w *world) { w.archiveHook = hanging },
			recovery: CodeUnknown, standby: CodeAbsent, message: "gave up waiting for the store", noted: true,
		}, {
			name: "archive of another cluster", file: name(wanted),
			setup: func(w *world) {
				w.must(w.store.Delete(w.t.Context(), identityKey))
				w.archiveOf(otherSystem)
			},
			recovery: CodeMisconfigured, standby: CodeMisconfigured, message: "7710755342863415828",
		}, {
			name: "no identity", file: name(wanted),
			setup:    func(w *world) { w.must(w.store.Delete(w.t.Context(), identityKey)) },
			recovery: CodeMisconfigured, standby: CodeAbsent, message: "is it mounted", noted: true,
		}, {
			name: "archive directory is missing", file: name(wanted),
			setup:    func(w *world) { w.o.Archive = w.flat("/nowhere") },
			recovery: CodeMisconfigured, standby: CodeAbsent, message: "/nowhere: it is not there", noted: true,
		}, {
			name: "system-id is another one", file: name(wanted),
			setup:    func(w *world) { w.o.SystemID = otherSystem },
			recovery: CodeMisconfigured, standby: CodeMisconfigured, message: "data directory",
		}, {
			name: "unknown format", file: name(wanted),
			setup:    func(w *world) { w.store.Set(identityKey, []byte(`{"format":2}`)) },
			recovery: CodeMisconfigured, standby: CodeMisconfigured, message: "format 2",
		}, {
			name: "identity is damaged", file: name(wanted),
			setup:    func(w *world) { w.store.Set(identityKey, []byte(`{`)) },
			recovery: CodeDamaged, standby: CodeAbsent, message: "walrecv.json", noted: true,
		}, {
			name: "damaged segment", file: name(wanted),
			setup: func(w *world) {
				w.put(wanted, wal(wanted, full))
				flip(w, w.key(wanted), 5000)
			},
			recovery: CodeDamaged, standby: CodeAbsent, message: "damaged", noted: true,
		}, {
			name: "truncated segment", file: name(wanted),
			setup: func(w *world) {
				w.put(wanted, wal(wanted, full))
				data, _ := w.store.Get(w.key(wanted))
				w.store.Set(w.key(wanted), data[:len(data)/2])
			},
			recovery: CodeDamaged, standby: CodeAbsent, message: "damaged", noted: true,
		}, {
			name: "truncated history", file: "00000002.history",
			setup: func(w *world) {
				text := history(1, at(5, 100))
				w.store.Set(historyKey, []byte(text[:len(text)-4]))
			},
			recovery: CodeDamaged, standby: CodeAbsent, message: "the last line does not end", noted: true,
		}, {
			name: "hole", file: name(wanted),
			setup:    func(w *world) { w.put(later, wal(later, full)) },
			recovery: CodeDamaged, standby: CodeAbsent, message: "later segments of timeline 1", noted: true,
		}, {
			name: "hole before a partial", file: name(wanted),
			setup:    func(w *world) { w.putPartial(later, wal(later, 20000)) },
			recovery: CodeDamaged, standby: CodeAbsent, message: "later segments of timeline 1", noted: true,
		}, {
			name: "hole before a fork", file: name(wanted),
			setup:    func(w *world) { w.putHistory(2, history(1, at(7, 100))) },
			recovery: CodeDamaged, standby: CodeAbsent, message: "timeline 2 goes on from timeline 1", noted: true,
		}, {
			name: "a fork before it is no hole", file: name(wanted),
			setup:    func(w *world) { w.putHistory(2, history(1, at(5, 0))) },
			recovery: CodeAbsent, standby: CodeAbsent,
		}, {
			name: "later timeline without its history", file: name(wanted),
			setup:    func(w *world) { w.put(seg(2, 5), wal(seg(2, 5), full)) },
			recovery: CodeDamaged, standby: CodeAbsent, message: "00000002.history is missing", noted: true,
		}, {
			name: "hole of histories", file: "00000002.history",
			setup:    func(w *world) { w.putHistory(3, history(1, at(5, 100))) },
			recovery: CodeDamaged, standby: CodeAbsent, message: "recovery_target_timeline", noted: true,
		}, {
			name: "history missing, its WAL there", file: "00000002.history",
			setup:    func(w *world) { w.put(seg(2, 5), wal(seg(2, 5), full)) },
			recovery: CodeDamaged, standby: CodeAbsent, message: "there is WAL of timeline 2", noted: true,
		}, {
			name: "lower case", file: "00000001000000000000000a",
			setup:    func(*world) {},
			recovery: CodeMisconfigured, standby: CodeMisconfigured, message: "upper-case",
		}, {
			name: "number that the segment size does not have", file: "000000010000000000001000",
			setup:    func(*world) {},
			recovery: CodeMisconfigured, standby: CodeMisconfigured, message: "does not exist with segments of 1MB",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bothModes(t, func(t *testing.T, w *world) {
				tt.setup(w)
				a := w.want(tt.file, w.pick(tt.recovery, tt.standby))
				if a.Message != "" && !strings.Contains(a.Message, tt.message) {
					t.Errorf("message %q does not have %q", a.Message, tt.message)
				}
				if noted := w.exists("/data/" + noteFile); noted != (tt.noted && w.standby()) {
					t.Errorf("a note: %v", noted)
				}
				if tt.noted && w.standby() && !strings.Contains(w.log.String(), strings.TrimPrefix(tt.message, "no answer within 5m0s")) {
					t.Errorf("log %q does not have %q", w.log, tt.message)
				}
			})
		})
	}
}

var identityKey = "7710755342863415827/walrecv.json"

// flip changes one bit of an object.
func flip(w *world, key string, offset int) {
	data, ok := w.store.Get(key)
	if !ok {
		w.t.Fatalf("%s is not there", key)
	}
	changed := append([]byte{}, data...)
	changed[offset] ^= 0x10
	w.store.Set(key, changed)
}

func TestDeliveredBytesAreTheSegment(t *testing.T) {
	bothModes(t, func(t *testing.T, w *world) {
		n := seg(1, 5)
		for _, upto := range []int64{full, 100_000} { // the second ends with a switch
			data := wal(n, upto)
			w.put(n, data)
			w.wantBytes(n, data)
			n = n.Next()
		}
	})
}

func TestFileNames(t *testing.T) {
	inMode(t, recoverySignal, func(t *testing.T, w *world) {
		for _, file := range []string{
			"", ".", "..", "00000001.HISTORY", "0000000a.history", "00000000.history", "0000002.history", "00000002.history.gz",
			"../00000002.history", "/00000002.history", "00000002.history\n",
			"00000001000000000000000A.partial", "00000001000000000000000A.00000028.backup", "00000001000000000000000A.gz",
			"00000001000000000000000", "00000001000000000000000AB", "00000000000000000000000A", "00000001000000000000000a",
			"../../1000000000000000A5", "0000000100000000/000000A", strings.Repeat("0", 4096),
		} {
			w.want(file, CodeMisconfigured)
		}
	})
}

func TestOptionsAreChecked(t *testing.T) {
	inMode(t, standbySignal, func(t *testing.T, w *world) {
		for _, spoil := range []func(o *Options){
			func(o *Options) { o.Archive = Place{} },
			func(o *Options) { o.Path = "" },
			func(o *Options) { o.RetryFor = -1 },
			func(o *Options) { o.Tail = "sometimes" },
		} {
			o := w.o
			o.File = name(seg(1, 5))
			spoil(&o)
			if a := Run(t.Context(), o); a.Code != CodeMisconfigured || a.Message == "" {
				t.Errorf("answer %v", a)
			}
		}
	})
}

func TestHowLongACallWaits(t *testing.T) {
	tests := []struct {
		name              string
		retry             time.Duration
		recovery, standby time.Duration
	}{
		{"by mode", 0, 5 * time.Minute, 10 * time.Second},
		{"as told", 3 * time.Second, 3 * time.Second, 3 * time.Second},
		{"once", TryOnce, 0, 0},
	}
	for _, tt := range tests {
		for _, trouble := range []func(storagetest.Request) storagetest.Fault{dead, hanging} {
			t.Run(tt.name, func(t *testing.T) {
				bothModes(t, func(t *testing.T, w *world) {
					w.o.RetryFor = tt.retry
					w.archiveHook = trouble
					took := elapsed(func() { w.want(name(seg(1, 5)), w.pick(CodeUnknown, CodeAbsent)) })
					want := tt.recovery
					if w.standby() {
						want = tt.standby
					}
					if took < want || took > want+time.Second {
						t.Errorf("took %s, want %s", took, want)
					}
				})
			})
		}
	}
}

func TestTroubleThatPasses(t *testing.T) {
	bothModes(t, func(t *testing.T, w *world) {
		n := seg(1, 5)
		w.put(n, wal(n, full))
		for k := 1; k < 4; k++ {
			// Every request fails for a while, in different places.
			begin := time.Now()
			w.archiveHook = func(r storagetest.Request) storagetest.Fault {
				if time.Since(begin) < 3*time.Second && r.N >= k {
					return storagetest.Fault{Before: errDead}
				}
				return storagetest.Fault{}
			}
			w.wantBytes(n, wal(n, full))
		}
	})
}

// A hole that is closed a moment later was an upload out of order.
func TestHoleThatIsOnlyLate(t *testing.T) {
	bothModes(t, func(t *testing.T, w *world) {
		n := seg(1, 5)
		w.put(n.Next(), wal(n.Next(), full))
		begin, late := time.Now(), false
		w.archiveHook = func(storagetest.Request) storagetest.Fault {
			if !late && time.Since(begin) > 3*time.Second {
				late = true
				w.put(n, wal(n, full))
			}
			return storagetest.Fault{}
		}
		w.wantBytes(n, wal(n, full))
	})
}

func TestHoleIsReportedSoon(t *testing.T) {
	inMode(t, recoverySignal, func(t *testing.T, w *world) {
		w.put(seg(1, 6), wal(seg(1, 6), full))
		took := elapsed(func() { w.want(name(seg(1, 5)), CodeDamaged) })
		if took < settle || took > settle+5*time.Second {
			t.Errorf("a hole was reported after %s", took)
		}
	})
}

// What a dead store cannot hide: a hole that was seen is reported, not the look
// that the time was too short for.
func TestLastWholeLookCounts(t *testing.T) {
	inMode(t, recoverySignal, func(t *testing.T, w *world) {
		w.o.RetryFor = 2 * time.Second
		w.put(seg(1, 6), wal(seg(1, 6), full))
		begin := time.Now()
		w.archiveHook = func(storagetest.Request) storagetest.Fault {
			return storagetest.Fault{Hang: time.Since(begin) > time.Second}
		}
		w.want(name(seg(1, 5)), CodeDamaged)
	})
}

func TestWithoutPgControl(t *testing.T) {
	n := seg(1, 5)
	setup := func(w *world) {
		w.remove("/data/" + controlFile)
		w.put(n, wal(n, full))
	}
	t.Run("the only cluster", func(t *testing.T) {
		bothModes(t, func(t *testing.T, w *world) {
			setup(w)
			w.wantBytes(n, wal(n, full))
		})
	})
	t.Run("several clusters", func(t *testing.T) {
		bothModes(t, func(t *testing.T, w *world) {
			setup(w)
			w.archiveOf(otherSystem)
			a := w.want(name(n), CodeMisconfigured)
			if !strings.Contains(a.Message, "--system-id") {
				t.Errorf("message %q", a.Message)
			}
			w.o.SystemID = testSystem
			w.wantBytes(n, wal(n, full))
		})
	})
	t.Run("none", func(t *testing.T) {
		bothModes(t, func(t *testing.T, w *world) {
			setup(w)
			w.store = storagetest.NewMem()
			w.want(name(n), w.pick(CodeMisconfigured, CodeAbsent))
		})
	})
}

func TestShortPgControl(t *testing.T) {
	bothModes(t, func(t *testing.T, w *world) {
		w.write("/data/"+controlFile, []byte{1, 2, 3})
		w.want(name(seg(1, 5)), w.pick(CodeUnknown, CodeAbsent))
		w.write("/data/"+controlFile, binary.LittleEndian.AppendUint64(nil, 0))
		w.want(name(seg(1, 5)), w.pick(CodeUnknown, CodeAbsent))
	})
}

func TestStandbySignalWins(t *testing.T) {
	inMode(t, recoverySignal, func(t *testing.T, w *world) {
		w.archiveHook = dead
		w.want(name(seg(1, 5)), CodeUnknown)
		w.write("/data/"+standbySignal, nil)
		w.want(name(seg(1, 5)), CodeAbsent)
		w.remove("/data/" + standbySignal)
		w.remove("/data/" + recoverySignal)
		w.want(name(seg(1, 5)), CodeUnknown) // pg_rewind, or no server at all
	})
}

func TestWhereTheDataDirectoryIs(t *testing.T) {
	n := seg(1, 5)
	tests := []struct {
		name, path, workDir string
		found               bool
	}{
		{"relative", "pg_wal/RECOVERYXLOG", "/data", true},
		{"pg_rewind: absolute, from elsewhere", "/data/pg_wal/" + name(n), "/", true},
		{"by hand, from the data directory", "/scratch/x", "/data", true},
		{"by hand, bare name", "x", "/data", true},
		{"elsewhere", "/scratch/x", "/spool", false},
	}
	for _, tt := range tests {
		bubble(t, tt.name, func(t *testing.T) {
			w := newWorld(t, standbySignal)
			w.archiveHook = dead
			o := w.o
			o.File, o.Path, o.WorkDir = name(n), tt.path, tt.workDir
			code := CodeUnknown
			if tt.found {
				code = CodeAbsent
			}
			if a := Run(t.Context(), o); a.Code != code {
				t.Errorf("answer %v, want %d", a, code)
			}
		})
	}
}

// A panic of a place must not become a code that PostgreSQL takes for "absent".
func TestPanicIsUnknown(t *testing.T) {
	bothModes(t, func(t *testing.T, w *world) {
		w.o.Archive.Open = func(context.Context) (storage.Store, error) { panic("a bug\nin two lines") }
		a := w.want(name(seg(1, 5)), CodeUnknown)
		if !strings.Contains(a.Message, "a bug in two lines") {
			t.Errorf("message %q", a.Message)
		}
	})
}

func TestPlaceThatCannotBeOpened(t *testing.T) {
	bothModes(t, func(t *testing.T, w *world) {
		w.o.Archive.Open = func(context.Context) (storage.Store, error) { return nil, errDead }
		w.want(name(seg(1, 5)), w.pick(CodeUnknown, CodeAbsent))
	})
}

func TestDiskOfTheServerIsFull(t *testing.T) {
	bothModes(t, func(t *testing.T, w *world) {
		n := seg(1, 5)
		w.put(n, wal(n, full))
		w.fs.SetCapacity(w.fs.Used() + 64<<10)
		w.want(name(n), w.pick(CodeUnknown, CodeAbsent))
		w.fs.SetCapacity(0)
		w.write("/data/"+pidFile, nil) // the outage's note does not shorten the next look
		w.wantBytes(n, wal(n, full))
	})
}

func TestStaleScratchFilesAreRemoved(t *testing.T) {
	bothModes(t, func(t *testing.T, w *world) {
		n := seg(1, 5)
		w.put(n, wal(n, full))
		for _, suffix := range scratchSuffixes {
			w.write("/data/pg_wal/RECOVERYXLOG"+suffix, []byte("half of a"))
		}
		w.want(name(n), CodeDelivered)
	})
}
