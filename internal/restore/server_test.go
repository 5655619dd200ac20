package restore

import (
	"bytes"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/walrecv/walrecv/segment"
)

// server asks as PostgreSQL's recovery does: for the newest timeline, for the
// segments along its history, newest timeline first, and in the end for a
// timeline that nobody has taken. What it is given it compares with the branch
// that it should be on.
type server struct {
	w     *world
	truth branch

	goal    segment.History
	file    segment.TimelineID // of the last segment it was given
	pos     segment.LSN        // everything before it has been replayed
	code    int                // what ended it; 0: nothing did
	message string
	taken   segment.TimelineID // the timeline it chose in the end
	strayed bool               // it was given WAL of another branch
}

// branch is what a recovery to the end should replay.
type branch struct {
	start segment.LSN
	wal   func(number uint64) []byte // of full length
}

// newServer is a server with a backup that begins at a position of timeline 1.
func newServer(w *world, b branch) *server {
	return &server{w: w, truth: b, pos: b.start, file: 1}
}

// ask asks for a file. False says that it is not there, or that the server ends.
func (s *server) ask(file string) bool {
	a := s.w.ask(file)
	if a.Code > 125 && s.code == 0 {
		s.code, s.message = a.Code, a.Message
	}
	return a.Code == CodeDelivered
}

// newest probes the timelines above t, one after the other.
func (s *server) newest(t segment.TimelineID) segment.TimelineID {
	for s.code == 0 && s.ask(segment.HistoryName(t+1)) {
		t++
	}
	return t
}

// keep asks for a history and leaves it in pg_wal, as the server does with those
// of its target and of what lies in between.
func (s *server) keep(t segment.TimelineID) (h segment.History, ok bool) {
	if t == 1 || !s.ask(segment.HistoryName(t)) {
		return segment.History{Timeline: t}, false
	}
	data := s.w.read("/data/pg_wal/RECOVERYHISTORY")
	s.w.write("/data/pg_wal/"+segment.HistoryName(t), data)
	h, err := segment.ParseHistory(t, data)
	if err != nil {
		s.w.t.Fatalf("a history that the server cannot read was delivered: %v", err)
	}
	return h, true
}

// begin chooses the timeline to go to.
func (s *server) begin(from segment.TimelineID) {
	newest := s.newest(from)
	if s.code != 0 {
		return
	}
	s.goal, _ = s.keep(newest)
	for t := from; t < newest && s.code == 0; t++ {
		s.keep(t)
	}
}

// fetch asks for the segment at the server's position.
func (s *server) fetch() bool {
	number := testSize.Number(s.pos)
	line := append([]segment.HistoryEntry{}, s.goal.Entries...)
	line = append(line, segment.HistoryEntry{Timeline: s.goal.Timeline, End: segment.MaxLSN})
	for _, e := range slices.Backward(line) {
		begin, _, _ := s.goal.Bounds(e.Timeline)
		if e.Timeline < s.file || s.code != 0 {
			return false
		}
		if number >= testSize.Number(begin) && s.ask(name(seg(e.Timeline, number))) {
			s.file = e.Timeline
			return true
		}
	}
	return false
}

// replay goes through the segment that was delivered and reports whether it goes
// on behind it.
func (s *server) replay() bool {
	number := testSize.Number(s.pos)
	got, want := s.w.read("/data/pg_wal/RECOVERYXLOG"), s.truth.wal(number)
	same := firstDifference(got, want)
	if rest := got[same:]; len(bytes.Trim(rest, "\x00")) > 0 {
		s.strayed = true
		return false
	}
	s.pos = max(s.pos, testSize.Start(number)+segment.LSN(same))
	return same == int64(len(got))
}

// recover runs a recovery to its end.
func (s *server) recover() {
	s.begin(1)
	for s.code == 0 && s.fetch() && s.replay() {
	}
	if s.code != 0 || s.strayed {
		return
	}
	s.fetch() // it asks twice before it believes it
	if s.code == 0 {
		s.ask(name(seg(s.file, testSize.Number(s.pos-1))))
	}
	if s.code != 0 {
		return
	}
	s.taken = s.newest(s.goal.Timeline) + 1
	if s.code == 0 && s.goal.Timeline > 1 {
		s.ask(segment.HistoryName(s.goal.Timeline))
	}
}

// follow runs a standby that has nothing but the archive, until nothing new comes
// for longer than a note is fresh.
func (s *server) follow() {
	if s.goal.Timeline == 0 {
		s.begin(1)
	}
	for idle := 0; idle < 3 && s.code == 0 && !s.strayed; {
		before := s.pos
		for s.fetch() && s.replay() {
		}
		if t := s.newest(s.goal.Timeline); t != s.goal.Timeline && s.code == 0 {
			if h, ok := s.keep(t); ok {
				s.goal = h
			}
		}
		time.Sleep(freshFor)
		idle++
		if s.pos > before {
			idle = 0
		}
	}
}

// TestServerAsksInOrder compares the server of these tests with what PostgreSQL
// was seen to ask for, in a recovery along two timelines.
func TestServerAsksInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, recoverySignal)
		m := oldPrimaryLivedOn(w)
		var asked []string
		w.asked = func(file string, code int) { asked = append(asked, file) }
		s := newServer(w, m.truth)
		s.recover()
		want := []string{
			"00000002.history", "00000003.history", "00000002.history",
			"000000010000000000000002", "000000010000000000000003",
			"000000020000000000000004", "000000020000000000000005", "000000020000000000000006",
			"000000020000000000000007", "000000020000000000000007", "000000020000000000000006",
			"00000003.history", "00000002.history",
		}
		if !slices.Equal(asked, want) {
			t.Errorf("asked for\n%q, want\n%q", asked, want)
		}
		if s.code != 0 || s.strayed || s.pos != m.end || s.taken != 3 {
			t.Errorf("it ended with code %d at %s, want %s; on timeline %d, strayed %v", s.code, s.pos, m.end, s.taken, s.strayed)
		}
	})
}
