package receiver_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"path"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/walrecv/walrecv/internal/fakepg"
	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/segment"
)

// archive does what an archive does that takes n segments, or all for a negative
// n, of those that an uploader removes: all but the newest. It compares them.
func (q *quiet) archive(n int) {
	q.t.Helper()
	const size = segment.Size(mib)
	must(q.t, q.spool.View(func(l segment.Listing) {
		for i, f := range l.Sealed {
			if i == n || i == len(l.Sealed)-1 {
				return
			}
			data, err := vfs.ReadFile(q.disk, path.Join(spoolDir, f.Base))
			must(q.t, err)
			want := make([]byte, size)
			q.server.ReadWAL(1, uint64(f.Name.Start(size)), want)
			if !bytes.Equal(data, want) {
				q.t.Errorf("%s differs from the server's WAL", f.Base)
			}
			must(q.t, q.spool.Remove(f.Base))
		}
	}))
}

func (q *quiet) flushed(lsn uint64) {
	q.t.Helper()
	q.within(fmt.Sprintf("the flush of %s", segment.LSN(lsn)), time.Hour, func(ctx context.Context) error {
		return q.server.WaitFlush(ctx, 1, lsn)
	})
}

// archiveUntil archives until everything is flushed.
func (q *quiet) archiveUntil(lsn uint64) {
	q.t.Helper()
	for range 1000 {
		synctest.Wait()
		if q.recv.Progress().Flushed >= segment.LSN(lsn) {
			break
		}
		q.archive(-1)
		time.Sleep(time.Second)
	}
	q.flushed(lsn)
}

func (q *quiet) told(what string) int { return strings.Count(q.logs.String(), what) }

const (
	saysFull = "the spool is full"
	saysRoom = "the spool has room again"
)

// Beyond the limit of the spool nothing is read; what was received is flushed and
// reported, to the byte and all the time, whatever the status interval is.
func TestPause(t *testing.T) {
	for _, interval := range []time.Duration{0, 10 * time.Second, time.Hour} {
		t.Run(interval.String(), func(t *testing.T) {
			inQuietSpool(t, fakepg.Config{Chunk: 100_000}, interval, 4*mib, func(q *quiet) {
				end := q.server.Append(8 * mib)
				q.flushed(5 * mib) // four segments
				paused := time.Now()
				for range 300 {
					before := len(q.server.Statuses())
					time.Sleep(time.Second)
					statuses := q.server.Statuses()[before:]
					if len(statuses) < 2 {
						t.Fatal("a server with a wal_sender_timeout of 1 s gave us up")
					}
					for _, s := range statuses {
						if s.Write != 5*mib || s.Flush != 5*mib {
							t.Fatalf("status %+v", s)
						}
					}
				}
				if p := q.recv.Progress(); !p.Streaming || p.PausedSince.IsZero() || p.PausedSince.After(paused) || p.Received != 5*mib {
					t.Errorf("%+v", p)
				}
				for freed := range 3 {
					q.archive(1)
					q.flushed(uint64(6+freed) * mib)
				}
				if full, room := q.told(saysFull), q.told(saysRoom); full != 1 || room != 0 {
					t.Errorf("told %d times of a full spool, %d times of room", full, room)
				}
				q.archiveUntil(end)
				q.archive(-1)
				if full, room := q.told(saysFull), q.told(saysRoom); full != 1 || room != 1 {
					t.Errorf("told %d times of a full spool, %d times of room", full, room)
				}
				if p := q.recv.Progress(); !p.PausedSince.IsZero() {
					t.Errorf("%+v", p)
				}
				if n := q.server.Connections(); n != 1 {
					t.Errorf("%d connections", n)
				}
			})
		})
	}
}

// A receiver that is stopped while it waits for room ends at once, and tells the
// server what it has.
func TestStopWhilePaused(t *testing.T) {
	inQuietSpool(t, fakepg.Config{}, 0, 4*mib, func(q *quiet) {
		q.server.Append(8 * mib)
		q.flushed(5 * mib)
		time.Sleep(time.Hour)
		begin := time.Now()
		q.stop()
		q.took("the end", time.Since(begin), 0)
		all := q.server.Statuses()
		if last := all[len(all)-1]; last.Write != 5*mib || last.Flush != 5*mib {
			t.Errorf("the last status: %+v", last)
		}
	})
}

// A connection that is lost meanwhile is made anew, once, and goes on waiting:
// the slot stays in use, and a server that was replaced is noticed.
func TestConnectionLostWhilePaused(t *testing.T) {
	inQuietSpool(t, fakepg.Config{}, 0, 4*mib, func(q *quiet) {
		end := q.server.Append(8 * mib)
		q.flushed(5 * mib)
		for n := 2; n < 6; n++ {
			time.Sleep(10 * time.Minute)
			if got := q.server.Connections(); got != n-1 {
				t.Fatalf("%d connections, want %d", got, n-1)
			}
			q.server.CutAll()
			q.within("another connection", 5*time.Second, func(ctx context.Context) error { return q.server.WaitConnections(ctx, n) })
			q.status("a status", func(s fakepg.Status) bool { return s.Flush == 5*mib })
			synctest.Wait()
			if p := q.recv.Progress(); !p.Streaming || p.PausedSince.IsZero() {
				t.Errorf("%+v", p)
			}
		}
		if full := q.told(saysFull); full != 1 {
			t.Errorf("told %d times of a full spool", full)
		}
		q.archiveUntil(end)
	})
}

// The disk of this test has just the room that the limit allows for, so that a
// receiver that takes more fails. Whatever happens, everything comes through.
func TestPauseKeepsToTheLimit(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	for range 5 {
		limit := int64(4+random.IntN(4)) * mib
		c := fakepg.Config{Chunk: 20_000 + random.IntN(110_000)}
		inQuietSpool(t, c, 0, limit, func(q *quiet) {
			q.disk.SetCapacity(limit + 4096) // and the identity
			end := q.server.End()
			for range 30 {
				switch random.IntN(4) {
				case 0:
					end = q.server.Append(random.IntN(3 * mib))
				case 1:
					q.archive(random.IntN(3))
				case 2:
					time.Sleep(time.Duration(random.IntN(1000)) * time.Millisecond)
				case 3:
					if random.IntN(4) == 0 {
						q.server.CutAll()
					}
				}
			}
			q.archiveUntil(end)
			if strings.Contains(q.logs.String(), "no space left") {
				t.Error("more was written than the limit allows for")
			}
		})
		if t.Failed() {
			return
		}
	}
}
