package receiver

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"

	"github.com/walrecv/walrecv/segment"
)

// brokenDisk fails with the first Append, and takes what follows.
type brokenDisk struct {
	countingSink
	err error
}

func (d *brokenDisk) Append(at segment.LSN, p []byte) error {
	if err := d.err; err != nil {
		d.err = nil
		return &os.PathError{Op: "write", Path: "x.partial", Err: err}
	}
	return d.countingSink.Append(at, p)
}

// TestDiskThatTimesOut: what a soft mount or a block device answers is a timeout, too,
// but not that of the socket. What was not written is missing, so nothing goes on.
func TestDiskThatTimesOut(t *testing.T) {
	const each = blockLen + 100<<10 // comes in two parts
	for _, errno := range []syscall.Errno{syscall.ETIMEDOUT, syscall.EAGAIN, syscall.EIO} {
		disk := &brokenDisk{err: errno}
		s := hotStream(t, disk, walMessages(2*each, each))
		stop, err := s.copyLoop(t.Context())
		if stop || !errors.Is(err, errno) {
			t.Errorf("%v: stopped %v, %v", errno, stop, err)
		}
		if disk.n > 0 || s.pos != hotStart {
			t.Errorf("%v: went on with %d bytes, at %s", errno, disk.n, s.pos)
		}
	}
}

// TestPartsAreContiguous: what comes of a message later belongs behind its beginning.
func TestPartsAreContiguous(t *testing.T) {
	const each = blockLen + 100<<10
	s := hotStream(t, &discard{}, walMessages(each, each))
	if _, err := s.receive(t.Context()); err != nil || s.in.rest == 0 {
		t.Fatalf("%v, %d bytes to come", err, s.in.rest)
	}
	s.pos -= 10
	if _, err := s.receive(t.Context()); err == nil {
		t.Error("was written at another place")
	}
}

// TestFailedStatusIsTheLast: part of it may have been sent, and the server would read
// the next one shifted.
func TestFailedStatusIsTheLast(t *testing.T) {
	start := func(messages [][]byte) (s *stream, sent *int) {
		s, sent = hotStream(t, &discard{countingSink{n: hotStart + 10}}, messages), new(int)
		s.feedback.send = func(segment.LSN, segment.LSN, bool) error {
			*sent++
			return fmt.Errorf("send status: %w", os.ErrDeadlineExceeded)
		}
		return s, sent
	}
	t.Run("of who reads", func(t *testing.T) {
		s, sent := start(walMessages(4<<10, 1<<10))
		stop, err := s.copyLoop(t.Context())
		if stop || !errors.Is(err, os.ErrDeadlineExceeded) || *sent != 1 {
			t.Errorf("stopped %v, %v, %d were sent", stop, err, *sent)
		}
	})
	t.Run("of another", func(t *testing.T) {
		s, sent := start(nil)
		if err := s.feedback.report(); err == nil {
			t.Fatal("the first status is due at once")
		}
		if err := s.feedback.wroteAll(hotStart + 10); !errors.Is(err, os.ErrDeadlineExceeded) || *sent != 1 {
			t.Errorf("%v, %d were sent", err, *sent)
		}
	})
}
