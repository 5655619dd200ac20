package main

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

const (
	progressInterval = 200 * time.Millisecond
	progressBar      = 30 // characters
	clearLine        = "\r\x1b[K"
)

// showProgress shows on a terminal how far something is, until the returned
// function is called. Anywhere else it shows nothing.
func showProgress(w io.Writer, progress func() (done, total int64)) (stop func()) {
	if !isTerminal(w) {
		return func() {}
	}
	ticker := time.NewTicker(progressInterval)
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM)
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		if by := drawProgress(w, progress, ticker.C, interrupted, end); by != nil {
			signal.Reset(by)
			_ = syscall.Kill(os.Getpid(), by.(syscall.Signal)) // now it ends the process
		}
	}()
	return func() {
		ticker.Stop()
		signal.Stop(interrupted)
		close(end)
		<-ended
	}
}

// drawProgress keeps one line up to date, until end is closed, or until it is
// interrupted. The line then stays, and what follows gets one of its own.
func drawProgress(w io.Writer, progress func() (done, total int64), tick <-chan time.Time, interrupted <-chan os.Signal, end <-chan struct{}) (by os.Signal) {
	began := time.Now()
	for {
		select {
		case <-tick:
			done, total := progress()
			say(w, "%s%s", clearLine, progressLine(done, total, time.Since(began)))
		case by := <-interrupted:
			say(w, "\n")
			return by
		case <-end:
			say(w, clearLine)
			return nil
		}
	}
}

// progressLine says how far something is after some time.
func progressLine(done, total int64, after time.Duration) string {
	if total == 0 {
		return "listing the archive"
	}
	return transferLine(done, total, after)
}

// transferLine is a bar with how fast it grows, and how long it will take.
func transferLine(done, total int64, after time.Duration) string {
	share := min(float64(done)/float64(total), 1)
	full := int(share * progressBar)
	line := fmt.Sprintf("[%s%s] %3.0f%%  %s of %s", strings.Repeat("#", full), strings.Repeat(".", progressBar-full),
		100*share, roughSize(done), roughSize(total))
	if seconds := after.Seconds(); done > 0 && seconds > 0 {
		rate := float64(done) / seconds
		left := time.Duration(float64(max(0, total-done)) / rate * float64(time.Second))
		line += fmt.Sprintf("  %s/s  %s left", roughSize(int64(rate)), left.Round(time.Second))
	}
	return line
}

// roughSize writes a number of bytes in three digits or so.
func roughSize(n int64) string {
	const step = 1024
	value, units := float64(n), []string{"B", "kB", "MB", "GB", "TB"}
	for value >= step && len(units) > 1 {
		value, units = value/step, units[1:]
	}
	if value < 10 && units[0] != "B" {
		return fmt.Sprintf("%.1f %s", value, units[0])
	}
	return fmt.Sprintf("%.0f %s", value, units[0])
}
