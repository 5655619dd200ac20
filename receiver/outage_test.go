package receiver_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/walrecv/walrecv/internal/fakepg"
	"github.com/walrecv/walrecv/receiver"
	"github.com/walrecv/walrecv/segment"
)

// A long time without the server is told in one line for each reason there was, and in one
// when it is over, however often it was tried and whichever reasons took turns.
func TestLongOutageIsToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reasons := []error{syscall.ECONNREFUSED, syscall.EHOSTUNREACH, errors.New("no such host")}
		server := fakepg.New(fakepg.Config{End: mib + 5000, Slots: map[string]fakepg.Slot{"archive": {RestartLSN: mib}}})
		defer server.Close()
		var down atomic.Bool
		var tries atomic.Int64
		conn, err := receiver.ParseConnInfo(receiver.ConnOptions{
			Conninfo: "host=primary user=replicator sslmode=disable",
			Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
				if down.Load() {
					return nil, reasons[int(tries.Add(1))%len(reasons)]
				}
				return server.Dial(ctx, network, address)
			},
		})
		must(t, err)
		var logs lockedBuffer
		log := slog.New(slog.NewTextHandler(&logs, nil))
		spool, err := segment.OpenSpool(newDisk(t), spoolDir, log, segment.SpoolOptions{})
		must(t, err)
		defer spool.Close()
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		r := receiver.New(receiver.Options{Conn: conn, Slot: "archive", FlushInterval: time.Millisecond}, &keeper{Spool: spool}, log)
		go func() { done <- r.Run(ctx) }()
		must(t, server.WaitFlush(ctx, 1, mib+5000))
		time.Sleep(time.Minute)
		for day := range 2 {
			before := len(logs.String())
			down.Store(true)
			server.CutAll()
			time.Sleep(10 * time.Minute)
			down.Store(false)
			end := server.Append(1000)
			must(t, server.WaitFlush(ctx, 1, end))
			time.Sleep(time.Minute)
			told := logs.String()[before:]
			if n := strings.Count(told, "\n"); n > len(reasons)+2 || strings.Count(told, "level=WARN msg=\"not streaming") < 2 ||
				strings.Count(told, "msg=streaming") != 1 || tries.Load() < 300 {
				t.Errorf("time %d, %d tries, %d lines:\n%s", day, tries.Load(), n, told)
			}
		}
		stop()
		must(t, <-done)
	})
}
