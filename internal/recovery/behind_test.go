package recovery_test

import (
	"strings"
	"testing"

	"github.com/walrecv/walrecv/internal/recovery"
)

// TestBehind: what is left at the end of a recovery is the beginning of a record at
// most.
func TestBehind(t *testing.T) {
	w, log := newWorld(t), newWAL(mib.Start(firstNumber))
	log.commit(100, clock(1))
	w.backup("backup", log, log.entries[0].at, log.pos(), clock(1))
	for n := uint64(firstNumber); n < firstNumber+2; n++ {
		log.fill()
	}
	log.filler(20_000)
	w.segments(log, firstNumber, firstNumber+1)
	last := log.entries[len(log.entries)-1]
	w.tail(log, last.end-100)
	const bad = 5 // in the first segment
	damaged := log.entries[bad]

	s := w.survey()
	p, err := s.Choose(t.Context(), w.backups, recovery.Target{}, "")
	if err != nil {
		t.Fatal(err)
	}
	if p.End <= last.at || p.End >= last.end {
		t.Fatalf("the plan ends at %s, the last record goes from %s to %s", p.End, last.at, last.end)
	}
	// The object of the one segment has other bytes now, and says nothing of them.
	log.data[damaged.at-log.start+30] ^= 1
	w.forget(log, mib.Number(damaged.at))
	for _, tt := range []struct {
		at   int // entry at whose beginning the recovery ended
		says string
	}{
		{len(log.entries) - 1, ""},
		{len(log.entries) - 2, "a record from " + log.entries[len(log.entries)-2].at.String()},
		{bad, "WAL at " + damaged.at.String()},
	} {
		got, err := s.Behind(t.Context(), p, log.entries[tt.at].at)
		if err != nil || !strings.HasPrefix(got, tt.says) || tt.says == "" && got != "" {
			t.Errorf("behind entry %d: %q, %v, want %q", tt.at, got, err, tt.says)
		}
	}
	if got, err := s.Behind(t.Context(), p, p.End); got != "" || err != nil {
		t.Errorf("behind the end: %q, %v", got, err)
	}
}
