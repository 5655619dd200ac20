package main

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"strings"
	"syscall"
	"testing"

	"github.com/walrecv/walrecv/receiver"
	"github.com/walrecv/walrecv/segment"
)

func TestListen(t *testing.T) {
	var log bytes.Buffer
	l, err := listen(t.Context(), "127.0.0.1:0", slog.New(slog.NewJSONHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	address := l.Addr().String()
	if !strings.Contains(log.String(), `"address":"`+address+`"`) || strings.HasSuffix(address, ":0") {
		t.Errorf("listening on %s, and the log says %s", address, log.String())
	}
	log.Reset()
	_, err = listen(t.Context(), address, slog.New(slog.NewJSONHandler(&log, nil)))
	if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), "the address "+address+" is in use") || log.Len() > 0 {
		t.Errorf("%v; the log says %s", err, log.String())
	}
	if _, err := listen(t.Context(), "192.0.2.1:0", slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "cannot listen on 192.0.2.1:0") {
		t.Errorf("an address of somebody else: %v", err)
	}
	if _, _, err := net.SplitHostPort(address); err != nil {
		t.Error(err)
	}
}

// A receiver that is not asked to tell anything does without.
func TestNoWatch(t *testing.T) {
	w, err := (&receiveConfig{}).newWatch(t.Context(), slog.New(slog.DiscardHandler))
	if err != nil || w != nil {
		t.Fatalf("%v, %v", w, err)
	}
	defer w.close()
	w.serve(nil, nil, nothing{})()
	if w.onSync() != nil || w.onUpload() != nil || w.noting(nil, nil) != nil || w.metered(nil) != nil {
		t.Error("somebody is told")
	}
}

// What is sealed on an ancestor counts up to where that was left, and what lies on
// another branch not at all.
func TestOnTimeline(t *testing.T) {
	history := segment.History{Timeline: 5, Entries: []segment.HistoryEntry{{Timeline: 1, End: 100}, {Timeline: 3, End: 200}}}
	known := true
	w := &watch{history: func() (segment.History, bool) { return history, known }}
	for _, c := range []struct {
		live segment.TimelineID
		at   segment.Position
		want segment.LSN
	}{
		{5, segment.Position{Timeline: 5, LSN: 250}, 250},
		{5, segment.Position{Timeline: 5, LSN: 400}, 300}, // flushed is noted after it is sealed
		{5, segment.Position{Timeline: 3, LSN: 150}, 150},
		{5, segment.Position{Timeline: 3, LSN: 220}, 200},
		{5, segment.Position{Timeline: 1, LSN: 350}, 100},
		{5, segment.Position{Timeline: 4, LSN: 150}, 0},
		{6, segment.Position{Timeline: 5, LSN: 250}, 0}, // the history is not the one of now
		{6, segment.Position{Timeline: 6, LSN: 250}, 250},
	} {
		p := receiver.Progress{Timeline: c.live, Flushed: 300}
		if got := w.onTimeline(p, c.at); got != c.want {
			t.Errorf("%v, on timeline %d: %d, want %d", c.at, c.live, got, c.want)
		}
	}
	known = false
	if got := w.onTimeline(receiver.Progress{Timeline: 5, Flushed: 300}, segment.Position{Timeline: 3, LSN: 150}); got != 0 {
		t.Errorf("without a history: %d", got)
	}
}
