package receiver_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/walrecv/walrecv/internal/fakepg"
	"github.com/walrecv/walrecv/segment"
)

// Timelines are followed wherever they fork, while streaming.
func TestFollowsPromotionWhileStreaming(t *testing.T) {
	for name, fork := range map[string]uint64{
		"inside a segment": 3*mib + 299_992,
		"on a border":      3 * mib,
		"at the start":     2*mib + 40,
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, fakepg.Config{End: fork})
			r.start()
			r.flushed(1, fork)
			r.server.Promote(2, fork)
			r.server.SetEnd(5*mib + 104)
			r.flushed(2, 5*mib+104)
			r.server.Promote(3, 5*mib+104)
			r.server.SetEnd(5*mib + 500)
			r.flushed(3, 5*mib+500)
			r.halt()
			r.compare(1, mib, segment.LSN(fork))
			r.compare(2, segment.LSN(fork&^(mib-1)), 5*mib+104)
			r.compare(3, 5*mib, 5*mib+500)
			r.sound()
			for _, want := range []string{"00000002.history", "00000003.history"} {
				if !strings.Contains(r.spooled(), want) {
					t.Errorf("%s is missing: %s", want, r.spooled())
				}
			}
		})
	}
}

// Timelines that changed while the receiver was away: from behind the fork,
// exactly at it, and ahead of it.
func TestFollowsPromotionAfterBeingAway(t *testing.T) {
	for name, fork := range map[string]uint64{
		"behind the fork":            4*mib + 1000,
		"at the fork":                3*mib + 199_960,
		"at a fork on a border":      3 * mib,
		"ahead, in the same segment": 3*mib + 40,
		"ahead, in another segment":  2*mib + 4072,
	} {
		t.Run(name, func(t *testing.T) {
			const had = 3*mib + 199_960
			r := newRig(t, fakepg.Config{End: had})
			r.start()
			r.flushed(1, had)
			r.halt()
			if fork > had {
				r.server.SetEnd(fork)
			}
			r.server.Promote(2, fork)
			r.server.SetEnd(6*mib + 99)
			r.start()
			r.flushed(2, 6*mib+99)
			r.halt()
			if told := strings.Contains(r.logs.String(), "it was promoted without it"); told != (fork < had) {
				t.Errorf("abandoned WAL was told of: %v", told)
			}
			r.compare(1, mib, segment.LSN(min(fork, had)))
			r.compare(2, segment.LSN(fork&^(mib-1)), 6*mib+99)
			r.sound()
		})
	}
}

// Two promotions while away, the second in the same segment as the first.
func TestFollowsSeveralPromotionsAtOnce(t *testing.T) {
	r := newRig(t, fakepg.Config{End: 2*mib + 100})
	r.start()
	r.flushed(1, 2*mib+100)
	r.halt()
	r.server.SetEnd(3*mib + 1000)
	r.server.Promote(2, 3*mib+1000)
	r.server.SetEnd(3*mib + 1960)
	r.server.Promote(3, 3*mib+1960)
	r.server.SetEnd(4*mib + 10)
	r.start()
	r.flushed(3, 4*mib+10)
	r.halt()
	r.compare(1, mib, 3*mib+1000)
	r.compare(2, 3*mib, 3*mib+1960)
	r.compare(3, 3*mib, 4*mib+10)
	r.sound()
}

// A fork exactly where streaming would start: there is no copy phase at all.
func TestForkExactlyAtTheStart(t *testing.T) {
	r := newRig(t, fakepg.Config{End: 3 * mib})
	r.start()
	r.flushed(1, 3*mib)
	// The connection breaks, and the next one finds the promoted server. The
	// receiver must not have asked for its timeline before it promoted.
	r.halt()
	r.server.Promote(2, 3*mib)
	r.server.SetEnd(3*mib + 700)
	r.start()
	r.flushed(2, 3*mib+700)
	r.halt()
	r.compare(2, 3*mib, 3*mib+700)
	r.sound()
}

// The histories of all timelines are kept, also of those that were never
// streamed; one that the server lacks is not missed.
func TestKeepsAllHistories(t *testing.T) {
	r := newRig(t, fakepg.Config{
		Timeline:  4,
		History:   []fakepg.Fork{{Timeline: 1, End: 2 * mib}, {Timeline: 3, End: 3*mib + 50}},
		Begin:     4 * mib,
		End:       4*mib + 1000,
		Histories: map[uint32]string{2: "1\t0/150000\tabandoned\n"},
	})
	r.start()
	r.flushed(4, 4*mib+1000)
	r.halt()
	for _, want := range []string{"00000002.history", "00000003.history", "00000004.history"} {
		if !strings.Contains(r.spooled(), want) {
			t.Errorf("%s is missing: %s", want, r.spooled())
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	must(t, r.server.WaitConnections(ctx, 0))
}

// A server that was promoted twice in one segment has renamed the file of the
// timeline in between, and looks for it when the first one's rest is asked for.
func TestSegmentThatOnlyTheNewestTimelineHas(t *testing.T) {
	r := newRig(t, fakepg.Config{End: 3 * mib, Slots: map[string]fakepg.Slot{"s": {RestartLSN: mib}}})
	r.o.Slot = "s"
	r.fill(3 * mib)
	var fails atomic.Int32
	s := fakepg.New(fakepg.Config{
		Timeline: 3, Begin: mib, End: 4*mib + 100,
		History: []fakepg.Fork{{Timeline: 1, End: 3*mib + 1000}, {Timeline: 2, End: 3*mib + 1960}},
		Slots:   map[string]fakepg.Slot{"s": {RestartLSN: 3 * mib}},
		Command: func(c *fakepg.Conn, command string) (bool, error) {
			if strings.HasPrefix(command, "START_REPLICATION") && !strings.HasSuffix(command, "TIMELINE 3") {
				fails.Add(1)
				return true, c.Fail(fakepg.Error{Code: "58P01", Message: "requested WAL segment has already been removed"})
			}
			return false, nil
		},
	})
	t.Cleanup(s.Close)
	addr, err := s.Listen()
	must(t, err)
	r.server, r.addr = s, addr
	r.start()
	r.flushed(3, 4*mib+100)
	r.halt()
	r.compare(3, 3*mib, 4*mib+100)
	if fails.Load() != 1 {
		t.Errorf("%d tries on other timelines", fails.Load())
	}
}
