package receiver

import (
	"net"
	"sync"
	"time"
)

// deadline is the read deadline of a connection, which other goroutines can
// make expire at once to wake the reader. Reading goes on where it was
// interrupted: a message that had come in part is not lost.
type deadline struct {
	conn    net.Conn
	mu      sync.Mutex
	set     time.Time
	expired bool
	settled bool // by settle, for good
}

// deadlineSlack is by how much a deadline may be late, so that it is not moved
// for every message.
const deadlineSlack = time.Second

func (d *deadline) extend(by time.Duration) {
	now := time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	until := now.Add(by)
	if moved := until.Sub(d.set).Abs() > deadlineSlack; moved && !d.expired {
		d.set = until
		_ = d.conn.SetReadDeadline(until) // on a closed connection the read fails
	}
}

func (d *deadline) expire() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.settled {
		return
	}
	d.expired = true
	_ = d.conn.SetReadDeadline(time.Unix(1, 0))
}

// reset makes a deadline usable that was not, or had expired.
func (d *deadline) reset() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.expired, d.settled, d.set = false, false, time.Time{}
	_ = d.conn.SetDeadline(time.Time{}) // an earlier settle holds for both directions
}

// settle gives the rest of a conversation one deadline for both directions,
// which nobody moves any more.
func (d *deadline) settle(limit time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.settled = true
	_ = d.conn.SetDeadline(time.Now().Add(limit))
}

// forWrite bounds one write.
func (d *deadline) forWrite(limit time.Duration) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.settled {
		return nil
	}
	return d.conn.SetWriteDeadline(time.Now().Add(limit))
}
