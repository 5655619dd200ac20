package restore

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/walrecv/walrecv/storage/storagetest"
)

// A valid copy in pg_wal is used by the server before it turns to an ancestor's
// segment, so there is nothing to wait for and nothing to note.
func TestOwnCopyOfAnUnknownFile(t *testing.T) {
	n := seg(2, 5)
	filled := wal(n, 300_000)
	tests := []struct {
		name string
		file string
		own  []byte
		good bool
	}{
		{"segment", name(n), wal(n, full), true},
		{"segment being streamed", name(n), filled, true},
		{"segment being streamed into a recycled file", name(n), append(wal(n, full)[:5*testPage], wal(seg(2, 1), full)[5*testPage:]...), true},
		{"short segment", name(n), filled[:full-1], false},
		{"another segment", name(n), wal(seg(2, 6), full), false},
		{"another cluster", name(n), walOf(otherSystem, n, 2, full), false},
		{"zeros", name(n), make([]byte, full), false},
		{"history", "00000003.history", []byte(history(1, at(5, 99))), true},
		{"broken history", "00000003.history", []byte("1\t0/500000"), false},
		{"empty history", "00000003.history", nil, false},
	}
	for _, tt := range tests {
		for _, trouble := range []func(storagetest.Request) storagetest.Fault{dead, hanging} {
			bubble(t, tt.name, func(t *testing.T) {
				w := newWorld(t, standbySignal)
				w.write("/data/pg_wal/"+tt.file, tt.own)
				w.archiveHook = trouble
				took := elapsed(func() { w.want(tt.file, CodeAbsent) })
				if quick := took <= stallQuick; quick != tt.good {
					t.Errorf("took %s", took)
				}
				if noted := w.notedFiles() != nil; noted == tt.good {
					t.Errorf("noted: %v", noted)
				}
				if tt.good {
					if took := elapsed(func() { w.want(tt.file, CodeAbsent) }); took > 0 {
						t.Errorf("another %s for what was known", took)
					}
				}
			})
		}
	}
}

func TestPromotionEndsTheWaiting(t *testing.T) {
	for _, trouble := range []func(storagetest.Request) storagetest.Fault{dead, hanging} {
		inMode(t, standbySignal, func(t *testing.T, w *world) {
			w.archiveHook = trouble
			go func() {
				time.Sleep(4 * time.Second)
				w.write("/data/"+promoteSignal, nil)
			}()
			took := elapsed(func() { w.want("00000002.history", CodeAbsent) })
			if took < 4*time.Second || took > 4*time.Second+2*watchEvery {
				t.Errorf("took %s, promoted after 4s", took)
			}
			// The server removes the file, and asks again.
			w.remove("/data/" + promoteSignal)
			for _, file := range []string{name(seg(1, 5)), "00000002.history"} {
				if took := elapsed(func() { w.want(file, CodeAbsent) }); took > 0 {
					t.Errorf("another %s after the promotion was seen", took)
				}
			}
			w.wantNoted("00000002.history", name(seg(1, 5)))
			time.Sleep(time.Hour) // the same server, much later
			if took := elapsed(func() { w.want("00000002.history", CodeAbsent) }); took > stallQuick {
				t.Errorf("took %s during the same promotion", took)
			}
			time.Sleep(time.Hour) // another server
			w.write("/data/"+pidFile, []byte("4711\n/data\n1790007777\n5432\n"))
			if took := elapsed(func() { w.want("00000002.history", CodeAbsent) }); took < retryStandby {
				t.Errorf("another server's call took only %s", took)
			}
		})
	}
}

// TestPromotionWithAHangingStore asks what a server asks that streams, is told to
// promote, and finds the store hanging: in all it must take less than 15 s.
func TestPromotionWithAHangingStore(t *testing.T) {
	inMode(t, standbySignal, func(t *testing.T, w *world) {
		w.archiveHook = hanging
		own := seg(2, 5)
		w.write("/data/pg_wal/"+name(own), wal(own, 300_000))
		w.write("/data/pg_wal/00000002.history", []byte(history(1, at(5, 99))))
		took := elapsed(func() {
			for _, file := range []string{
				"00000003.history", name(own), name(own), "00000003.history", "00000002.history", "00000001.history",
			} {
				w.want(file, CodeAbsent)
			}
		})
		if took > 13*time.Second {
			t.Errorf("took %s", took)
		}
	})
}

// TestStartWithAHangingStore: a standby that starts replays what it has and then
// streams, whatever the store does.
func TestStartWithAHangingStore(t *testing.T) {
	inMode(t, standbySignal, func(t *testing.T, w *world) {
		w.archiveHook = hanging
		took := elapsed(func() {
			w.want("00000002.history", CodeAbsent)
			for number := uint64(1); number < 50; number++ {
				w.write("/data/pg_wal/"+name(seg(1, number)), wal(seg(1, number), full))
				w.want(name(seg(1, number)), CodeAbsent)
			}
			w.want(name(seg(1, 50)), CodeAbsent)
			w.want("00000002.history", CodeAbsent)
		})
		if took > 15*time.Second {
			t.Errorf("took %s", took)
		}
	})
}

// A store that answers, but takes longer for it than a call that should not wait
// grants, is used now and then all the same.
func TestSlowStoreIsNotGivenUp(t *testing.T) {
	inMode(t, standbySignal, func(t *testing.T, w *world) {
		n := seg(1, 5)
		w.put(n, wal(n, full))
		w.write("/data/pg_wal/"+name(n), wal(n, 300_000))
		w.o.Archive = slowly(w.o.Archive, 3*time.Second)
		begin := time.Now()
		for w.ask(name(n)).Code != CodeDelivered {
			if time.Since(begin) > 10*time.Minute {
				t.Fatal("never delivered")
			}
			time.Sleep(5 * time.Second)
		}
		t.Logf("delivered after %s", time.Since(begin))
		if w.exists("/data/" + noteFile) {
			t.Error("the note of the outage stays")
		}
	})
}

// A transfer that goes on is not ended by the end of the waiting.
func TestLongTransfer(t *testing.T) {
	bothModes(t, func(t *testing.T, w *world) {
		n := seg(1, 5)
		w.put(n, wal(n, full))
		w.o.RetryFor = 5 * time.Second
		w.o.Archive = trickling(w.o.Archive, 100*time.Millisecond)
		took := elapsed(func() { w.wantBytes(n, wal(n, full)) })
		if took < 10*time.Second {
			t.Fatalf("took only %s, the test tests nothing", took)
		}
	})
}

func TestTransferThatStalls(t *testing.T) {
	bothModes(t, func(t *testing.T, w *world) {
		n := seg(1, 5)
		w.put(n, wal(n, full))
		w.archiveHook = func(r storagetest.Request) storagetest.Fault {
			if strings.HasSuffix(r.Key, ".zst") {
				return storagetest.Fault{Cut: &storagetest.Cut{At: 200_000, Hang: true}}
			}
			return storagetest.Fault{}
		}
		took := elapsed(func() { w.want(name(n), w.pick(CodeUnknown, CodeAbsent)) })
		if most := w.o.retryFor(w.standby()) + stallRecovery; took > most {
			t.Errorf("took %s", took)
		}
	})
}

// TestStuckStore: a store that does not even honour its context, as a file system
// whose server is gone.
func TestStuckStore(t *testing.T) {
	for _, place := range []string{"archive", "spool"} {
		bothModes(t, func(t *testing.T, w *world) {
			w.withSpool()
			release := make(chan struct{})
			stuck := func() { <-release }
			if place == "archive" {
				w.o.Archive = sticking(w.o.Archive, stuck)
			} else {
				w.o.Spool = sticking(w.o.Spool, stuck)
			}
			most := 5*time.Minute + time.Second
			if w.standby() {
				most = 10*time.Second + time.Second
			}
			took := elapsed(func() { w.want(name(seg(1, 5)), w.pick(CodeUnknown, CodeAbsent)) })
			if took > most {
				t.Errorf("took %s", took)
			}
			close(release)
			synctest.Wait()
		})
	}
}

// An outage must not fill the log: only calls that met it tell of it.
func TestLogOfAnOutage(t *testing.T) {
	inMode(t, standbySignal, func(t *testing.T, w *world) {
		w.outage()
		w.write("/data/pg_wal/"+name(seg(1, 5)), wal(seg(1, 5), full))
		for range 100 {
			w.want(name(seg(1, 5)), CodeAbsent)
			w.want("00000002.history", CodeAbsent)
			time.Sleep(time.Second)
		}
		if lines := strings.Count(w.log.String(), "\n"); lines < 3 || lines > 6 {
			t.Errorf("%d lines in 100 s:\n%s", lines, w.log)
		}
	})
}
