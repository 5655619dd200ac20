package main

import (
	"fmt"
	"io"
	"time"
)

// narrator tells what happens, for a person to read.
type narrator struct {
	w     io.Writer
	count int
	facts []string
}

// say prints a line.
func (n *narrator) say(format string, args ...any) {
	say(n.w, format+"\n", args...)
}

// say writes for a person. What to do when nobody can read it is not known.
func say(w io.Writer, format string, args ...any) { _, _ = fmt.Fprintf(w, format, args...) }

// step announces some work, does it, and says how long it took and what facts
// came of it.
func (n *narrator) step(text string, work func() error) error {
	n.count++
	n.facts = nil
	say(n.w, "%2d. %-66s", n.count, text)
	begun := time.Now()
	if err := work(); err != nil {
		n.say("")
		return err
	}
	n.say("%5.1f s", time.Since(begun).Seconds())
	for _, fact := range n.facts {
		n.say("    - %s", fact)
	}
	return nil
}

// fact is said when the step is done.
func (n *narrator) fact(format string, args ...any) {
	n.facts = append(n.facts, fmt.Sprintf(format, args...))
}

// mib is a number of bytes, rounded.
func mib(bytes int64) string { return fmt.Sprintf("%.1f MiB", float64(bytes)/(1<<20)) }

// count is a number with its noun.
func count[N int | int64](n N, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
