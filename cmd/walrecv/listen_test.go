package main

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"strings"
	"syscall"
	"testing"
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
