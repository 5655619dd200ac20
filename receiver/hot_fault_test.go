package receiver

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

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

// sleepySink takes longer to sync than the server may be silent.
type sleepySink struct{ discard }

func (s *sleepySink) Sync() (segment.LSN, error) {
	time.Sleep(receiveTimeout)
	return s.discard.Sync()
}

type deadlineSocket struct {
	serverSide
	until time.Time
}

func (d *deadlineSocket) SetReadDeadline(until time.Time) error {
	d.until = until
	return nil
}

// TestSyncTakesNothingFromTheDeadline: how long the server may be silent is counted
// from when it is listened to. Here a message follows the WAL, so that the sync is
// right in front of a read.
func TestSyncTakesNothingFromTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keepalive := make([]byte, messageHeadLen+18)
		keepalive[0], keepalive[4], keepalive[messageHeadLen] = copyDataType, 4+18, 'k'
		wal := walMessages(1<<10, 1<<10)[0]
		s := hotStream(t, &sleepySink{}, [][]byte{slices.Concat(wal, keepalive)})
		socket := &deadlineSocket{}
		s.deadline.conn = socket
		begin := time.Now()
		for range 2 {
			if ended, err := s.receive(t.Context()); ended || err != nil {
				t.Fatal(ended, err)
			}
		}
		if time.Since(begin) > 0 {
			t.Fatal("synced before all was taken")
		}
		if _, err := s.receive(t.Context()); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatal(err)
		}
		if left := time.Until(socket.until); left < receiveTimeout/2-deadlineSlack {
			t.Errorf("%s are left to read", left)
		}
	})
}

// stuckKeeper holds the verifier up.
type stuckKeeper struct {
	noKeeper
	release chan struct{}
}

func (k stuckKeeper) Before(at segment.LSN, h segment.History) (segment.Name, io.ReadCloser, error) {
	<-k.release
	return k.noKeeper.Before(at, h)
}

// TestVerifierDelaysNoSync: whether a message comes at a time or all at once, what was
// written is synced and acknowledged, however long it takes to read it as WAL.
func TestVerifierDelaysNoSync(t *testing.T) {
	messages := walMessages(60<<10, 1<<10)
	for name, reads := range map[string][][]byte{
		"one by one":  messages,
		"all at once": {slices.Concat(messages...)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sink := &discard{}
				s := hotStream(t, sink, reads)
				s.feedback.streams()
				synctest.Wait()
				k := stuckKeeper{release: make(chan struct{})}
				s.verifier.keeper = k
				s.verifier.begin(verifyBegin{
					at: segment.Position{Timeline: 1, LSN: hotStart}, history: segment.History{Timeline: 1},
					cluster: segment.Cluster{Identity: segment.Identity{Size: hotSize}},
				}, s.feedback.failed)
				synctest.Wait()
				go func() { _, _ = s.copyLoop(t.Context()) }() // until there is no more
				synctest.Wait()
				written := s.pos
				if !s.verifier.busy() || written == hotStart+60<<10 {
					t.Errorf("nothing waits, at %s", written)
				}
				if told := s.feedback.told; told != written {
					t.Errorf("%s is acknowledged of %s", told, written)
				}
				close(k.release)
				synctest.Wait()
				if told := s.feedback.told; told != hotStart+60<<10 {
					t.Errorf("%s is acknowledged at the end", told)
				}
			})
		})
	}
}
