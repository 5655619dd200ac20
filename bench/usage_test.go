package bench

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// usage is what a running program and everything below it has taken so far.
func usage(b *testing.B, pid int) (cpu time.Duration, rss int64) {
	b.Helper()
	parents := map[int]int{}
	stats := map[int][][]byte{}
	files, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is right
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		// pid (name) state parent ...; the name may hold anything.
		fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
		id := atoi(b, []byte(filepath.Base(filepath.Dir(file))))
		parents[id], stats[id] = atoi(b, fields[1]), fields
	}
	for id, fields := range stats {
		if !below(parents, id, pid) {
			continue
		}
		for _, ticks := range fields[11:15] { // its own time and that of its children that have ended
			cpu += time.Duration(atoi(b, ticks)) * time.Second / 100
		}
		var kB int64
		_, _ = fmt.Sscan(field(fmt.Sprintf("/proc/%d/status", id), "VmHWM"), &kB) // it may have ended
		rss = max(rss, kB<<10)
	}
	return cpu, rss
}

func below(parents map[int]int, id, ancestor int) bool {
	for id != 0 && id != ancestor {
		id = parents[id]
	}
	return id == ancestor
}

func atoi(b *testing.B, text []byte) int {
	b.Helper()
	n, err := strconv.Atoi(string(text))
	if err != nil {
		b.Fatal(err)
	}
	return n
}
