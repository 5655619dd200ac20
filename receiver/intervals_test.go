package receiver_test

import (
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/fakepg"
	"github.com/walrecv/walrecv/receiver"
)

// Intervals that change count at once, also for what waits already, and the connection
// stays.
func TestIntervalsChange(t *testing.T) {
	any := func(fakepg.Status) bool { return true }
	o := receiver.Options{Slot: "archive", FlushInterval: time.Second, StatusInterval: 20 * time.Second}
	inQuietWith(t, fakepg.Config{}, o, 0, func(q *quiet) {
		q.status("a status", any)
		q.took("the next one", q.status("a status", any), 10*time.Second) // the server is asked in between
		q.recv.SetIntervals(15*time.Second, 3*time.Second)
		q.status("a status", any)
		q.took("the next one", q.status("a status", any), 3*time.Second)

		end := q.server.Append(1000)
		flushed := func(s fakepg.Status) bool { return s.Flush == end }
		q.took("the first flush", q.status("a flush", flushed), 0) // as if WAL had waited
		end = q.server.Append(1000)
		q.took("the flush", q.status("a flush", flushed), 15*time.Second)
		end = q.server.Append(1000)
		time.Sleep(2 * time.Second)
		q.recv.SetIntervals(time.Second, 0)
		q.took("the flush of what waits", q.status("a flush", flushed), 0)
		if n := q.server.Connections(); n != 1 {
			t.Errorf("%d connections", n)
		}
	})
}
