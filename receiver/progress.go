package receiver

import (
	"sync"
	"time"

	"github.com/walrecv/walrecv/segment"
)

// Progress tells what a Receiver is doing. Positions are 0 as long as they are
// not known; they belong to Timeline, and do not go back on it.
type Progress struct {
	Streaming bool   // WAL or a keepalive has come on the connection that there is now
	Waiting   string // why it does not stream, for people; "" while it does
	ForSlot   bool   // it waits for its replication slot, which another program uses

	// PausedSince is since when it reads nothing from the server, because the sink
	// has no room; zero if it reads.
	PausedSince time.Time

	Timeline segment.TimelineID
	Received segment.LSN // came from the server
	Written  segment.LSN // is in the sink
	Flushed  segment.LSN // is durable there, which the server was told or is about to be
	Server   segment.LSN // how far the server says that it is

	Bytes          uint64    // of WAL that came, again or for the first time
	Reconnects     uint64    // streams after the first one that did not continue a timeline switch
	VerifyFailures uint64    // places where what came is not sound WAL
	LastMessage    time.Time // from the server
}

// progress is a Progress that several goroutines change.
type progress struct {
	mu   sync.Mutex
	p    Progress
	last reached
}

// reached is the last server that said who it is, and how often one did.
type reached struct {
	number int // 0: there was none
	host   host
}

// Progress may be called from any goroutine at any time.
func (r *Receiver) Progress() Progress {
	r.progress.mu.Lock()
	defer r.progress.mu.Unlock()
	return r.progress.p
}

func (p *progress) update(change func(*Progress)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(&p.p)
}

// connected notes which server it is and where that is.
func (p *progress) connected(s Server, h host) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = reached{p.last.number + 1, h}
	p.p.Server = s.End
}

// connection tells which server was reached last, and whether it streams now.
func (p *progress) connection() (last reached, streaming bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last, p.p.Streaming
}

// streams notes that a timeline is streamed from a position on. Up to there
// everything is held.
func (p *progress) streams(at segment.Position, again bool) {
	p.update(func(p *Progress) {
		if p.Timeline != at.Timeline {
			p.Timeline, p.Received, p.Written, p.Flushed = at.Timeline, at.LSN, at.LSN, at.LSN
		}
		if again {
			p.Reconnects++
		}
		p.Streaming, p.Waiting, p.ForSlot = true, "", false
	})
}

// heard notes a message of the server, which says how far it is.
func (p *progress) heard(server segment.LSN, now time.Time) {
	p.update(func(p *Progress) {
		p.Server = max(p.Server, server)
		p.LastMessage = now
	})
}

// received notes WAL that came, and is not written yet.
func (p *progress) received(end segment.LSN, n int) {
	p.update(func(p *Progress) {
		p.Received = max(p.Received, end)
		p.Server = max(p.Server, end)
		p.Bytes += uint64(n)
	})
}

func (p *progress) written(end segment.LSN) {
	p.update(func(p *Progress) { p.Written = max(p.Written, end) })
}

func (p *progress) flushed(end segment.LSN) {
	p.update(func(p *Progress) { p.Flushed = max(p.Flushed, end) })
}

// paused notes whether the sink has no room.
func (p *progress) paused(paused bool) {
	var since time.Time
	if paused {
		since = time.Now()
	}
	p.update(func(p *Progress) { p.PausedSince = since })
}

// stopped notes that a connection has ended, and why the next one is waited for.
func (p *progress) stopped(err error) {
	p.update(func(p *Progress) {
		p.Streaming = false
		p.Waiting = "connecting again"
		if err != nil {
			p.Waiting = err.Error()
		}
		p.ForSlot = sqlState(err) == codeObjectInUse
	})
}

func (p *progress) verifyFailed() {
	p.update(func(p *Progress) { p.VerifyFailures++ })
}
