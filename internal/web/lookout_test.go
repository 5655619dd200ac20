package web

import (
	"context"
	"encoding/json"
	"errors"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/walrecv/walrecv/internal/status"
)

// watched is an archive that is looked at; what is found, and how long that takes, is
// set between two looks.
type watched struct {
	looks    int
	takes    time.Duration
	fails    error
	timeline uint32
	running  int
}

func (w *watched) find(ctx context.Context) (*status.Report, error) {
	w.looks++
	if w.running++; w.running > 1 {
		return nil, errors.New("two at once")
	}
	defer func() { w.running-- }()
	select {
	case <-time.After(w.takes):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return &status.Report{Timeline: w.timeline, SegmentSize: int64(w.looks)}, w.fails
}

func TestLookout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &watched{timeline: 1}
		l := newLookout(w.find)
		defer l.close()
		ask := func(what string, timeline uint32, wantLooks int) look {
			t.Helper()
			known := l.get(t.Context(), timeline)
			synctest.Wait()
			if w.looks != wantLooks {
				t.Errorf("%s: %d looks, want %d", what, w.looks, wantLooks)
			}
			return known
		}
		time.Sleep(time.Hour)
		began := time.Now()
		if known := ask("at first", 1, 1); known.report == nil || !known.asOf.Equal(began) {
			t.Errorf("%+v", known)
		}
		time.Sleep(lookAge - time.Millisecond)
		if known := ask("before a minute is over", 1, 1); !known.asOf.Equal(began) {
			t.Errorf("as of %v", known.asOf)
		}
		time.Sleep(time.Millisecond)
		ask("then", 1, 2)

		time.Sleep(lookSoon)
		ask("on the timeline that is known", 1, 2)
		w.timeline = 2
		if known := ask("after a failover", 2, 3); known.timeline != 2 {
			t.Errorf("timeline %d", known.timeline)
		}
		time.Sleep(lookSoon)
		ask("once it is known", 2, 3)

		time.Sleep(lookAge)
		w.takes = 10 * time.Second
		asked := time.Now()
		for range 3 {
			if known := ask("while it takes long", 2, 4); known.report == nil || time.Since(asked) > 3*lookPatience {
				t.Errorf("%+v after %v", known, time.Since(asked))
			}
		}
		time.Sleep(lookShare*w.takes - time.Since(asked) - time.Millisecond)
		ask("it does nothing else otherwise", 2, 4)
		time.Sleep(time.Millisecond)
		w.takes = 0
		ask("after twenty times as long", 2, 5)

		time.Sleep(lookAge)
		w.fails = errors.New("no")
		if known := ask("when it fails", 2, 6); known.err == nil || known.report == nil || !strings.Contains(string(known.report), `"wal_segment_size":5`) {
			t.Errorf("%+v", known)
		}
		time.Sleep(lookSoon)
		ask("a moment later, after a failover", 3, 6)
		time.Sleep(lookAge)
		w.fails = nil
		if known := ask("when it works again", 2, 7); known.err != nil {
			t.Error(known.err)
		}
	})
}

// TestLookoutIsShared: however many ask at once, there is one look, and all have it.
func TestLookoutIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &watched{timeline: 1, takes: time.Second}
		l := newLookout(w.find)
		defer l.close()
		var asking sync.WaitGroup
		for range maxConnections {
			asking.Go(func() {
				if known := l.get(t.Context(), 1); known.report == nil || known.err != nil {
					t.Errorf("%+v", known)
				}
			})
		}
		asking.Wait()
		if w.looks != 1 {
			t.Errorf("%d looks", w.looks)
		}
	})
}

// TestLookoutEnds: with who served, and nobody waits for it.
func TestLookoutEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &watched{takes: time.Hour}
		l := newLookout(w.find)
		gone, leave := context.WithCancel(t.Context())
		leave()
		began := time.Now()
		l.get(gone, 1)
		synctest.Wait()
		if w.looks != 1 || time.Since(began) != 0 {
			t.Errorf("%d looks in %v, and who asked is gone", w.looks, time.Since(began))
		}
		l.close()
		if known := l.get(t.Context(), 1); !errors.Is(known.err, context.Canceled) || time.Since(began) != 0 {
			t.Errorf("%+v after %v", known, time.Since(began))
		}
	})
}

// statusOf is what /api/status answers.
func statusOf(t *testing.T, s *Server) map[string]any {
	t.Helper()
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/api/status", nil))
	var document map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &document); err != nil || w.Code != 200 {
		t.Fatalf("%d, %v: %s", w.Code, err, w.Body)
	}
	return document
}

// TestStatus is one document: the receiver, and what walrecv status says.
func TestStatus(t *testing.T) {
	fails := error(nil)
	s := New(Options{Monitor: streaming(true), Report: func(context.Context) (*status.Report, error) {
		return &status.Report{Archive: "/srv/wal", Problems: []status.Problem{{What: "a", Do: "b"}}}, fails
	}})
	got := statusOf(t, s)
	live, _ := got["live"].(map[string]any)
	if live["archived_lsn"] != "0/258" || got["archive"] != "/srv/wal" || got["as_of"] == nil || got["archive_error"] != nil || got["left_out"] != nil {
		t.Error(got)
	}
	fails = errors.New("the disk is gone")
	s = New(Options{Monitor: streaming(true), Report: s.archive.find})
	if got := statusOf(t, s); got["archive_error"] != "the disk is gone" || got["as_of"] != nil || got["archive"] != nil || got["live"] == nil {
		t.Error(got)
	}
}

// TestStatusIsBounded however much an archive holds.
func TestStatusIsBounded(t *testing.T) {
	r := &status.Report{
		RestorePoints: make([]status.RestorePoint, 100_000), Gaps: make([]status.Gap, 5000), Marks: make([]status.Mark, 201),
		Problems: make([]status.Problem, 5000), Timelines: make([]status.Timeline, 1000), Recoverable: make([]status.Recoverable, 200),
	}
	for i := range r.Timelines {
		r.Timelines[i].Timeline, r.Timelines[i].Ranges = uint32(i+1), make([]status.Range, 1000)
	}
	r.Problems[0].What = "first"
	got := statusOf(t, New(Options{Monitor: streaming(true), Report: func(context.Context) (*status.Report, error) { return r, nil }}))
	want := map[string]any{"restore_points": 99_800., "gaps": 4800., "marks": 1., "problems": 4800., "timelines": 950., "ranges": 50 * 950.}
	if diff := cmp.Diff(want, got["left_out"]); diff != "" {
		t.Error(diff)
	}
	timelines, _ := got["timelines"].([]any)
	newest, _ := timelines[len(timelines)-1].(map[string]any)
	if len(timelines) != mostTimelines || newest["timeline"] != 1000. {
		t.Errorf("%d timelines", len(timelines))
	}
	if problems, _ := got["problems"].([]any); len(problems) != mostEntries || problems[0].(map[string]any)["what"] != "first" {
		t.Errorf("%d problems", len(problems))
	}
}
