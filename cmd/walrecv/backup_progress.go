package main

import (
	"io"
	"log/slog"
	"math"
	"os"
	"sync"
	"time"
)

// backupLogInterval is how often the log tells how far a base backup is, where no
// terminal shows it.
const backupLogInterval = 10 * time.Second

// backupProgress is how far a base backup is. It is safe for concurrent use.
type backupProgress struct {
	mu          sync.Mutex
	waitsFor    string    // empty: data comes
	since       time.Time // when data began to come
	done, total int64     // bytes; total is what the server expects
}

// wait says that nothing comes until something has happened.
func (p *backupProgress) wait(what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waitsFor = what
}

// begin says that data comes, so many bytes in all.
func (p *backupProgress) begin(now time.Time, total int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waitsFor, p.since, p.total = "", now, total
}

func (p *backupProgress) add(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done += int64(n)
}

// line is for a terminal.
func (p *backupProgress) line(now time.Time) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waitsFor != "" {
		return "waiting for " + p.waitsFor
	}
	return transferLine(p.done, p.total, now.Sub(p.since))
}

// tell is for a log.
func (p *backupProgress) tell(now time.Time, log *slog.Logger) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waitsFor != "" {
		log.Info("the base backup waits for " + p.waitsFor)
		return
	}
	attrs := []any{"done_bytes", p.done, "total_bytes", p.total}
	if seconds := now.Sub(p.since).Seconds(); seconds > 0 && p.done > 0 {
		rate := float64(p.done) / seconds
		attrs = append(attrs, "bytes_per_second", int64(rate), "seconds_left", int64(math.Ceil(float64(max(0, p.total-p.done))/rate)))
	}
	log.Info("the base backup goes on", attrs...)
}

// show tells how far the backup is until the returned function is called.
func (p *backupProgress) show(w *aboveBar, log *slog.Logger) (stop func()) {
	return showTransfer(w, log, p)
}

// transfer is something long that can say how far it is.
type transfer interface {
	line(now time.Time) string            // for a terminal
	tell(now time.Time, log *slog.Logger) // for a log
}

// showTransfer tells how far something is until the returned function is called: on a
// terminal by a line below the log, else in the log.
func showTransfer(w *aboveBar, log *slog.Logger, p transfer) (stop func()) {
	interval := backupLogInterval
	if isTerminal(w) {
		interval = progressInterval
	}
	ticker := time.NewTicker(interval)
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		follow(ticker.C, end, func(now time.Time) {
			if isTerminal(w) {
				w.draw(p.line(now))
			} else {
				p.tell(now, log)
			}
		})
		w.draw("")
	}()
	return sync.OnceFunc(func() {
		ticker.Stop()
		close(end)
		<-ended
	})
}

// follow calls tell at every tick, until end is closed.
func follow(tick <-chan time.Time, end <-chan struct{}, tell func(now time.Time)) {
	for {
		select {
		case now := <-tick:
			tell(now)
		case <-end:
			return
		}
	}
}

// aboveBar writes what it is given above a line that stays the last one of a
// terminal. It is safe for concurrent use.
type aboveBar struct {
	mu  sync.Mutex
	w   io.Writer
	bar string // empty: none
}

// Write implements io.Writer.
func (b *aboveBar) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bar == "" {
		return b.w.Write(p)
	}
	say(b.w, clearLine)
	n, err := b.w.Write(p)
	say(b.w, "%s", b.bar)
	return n, err
}

// draw replaces the line.
func (b *aboveBar) draw(bar string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bar != "" || bar != "" {
		say(b.w, "%s%s", clearLine, bar)
	}
	b.bar = bar
}

// Fd lets others see whether this is a terminal.
func (b *aboveBar) Fd() uintptr {
	if file, ok := b.w.(*os.File); ok {
		return file.Fd()
	}
	return ^uintptr(0)
}
