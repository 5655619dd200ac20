package receiver

import (
	"context"
	"errors"
)

// errStopWaiting ends the handling of a message that waits for room, because the
// receiver is to stop. What is left of the message was not received.
var errStopWaiting = errors.New("stopped while waiting for room")

// room waits until the sink can take another segment. Nothing is read meanwhile:
// the connection fills up, and the server waits with what it has. It stands between
// two segments, so that everything that came can be synced, sealed and archived,
// which is what makes room. The connection stays: the server hears of us all the
// time, holds the slot for us, and its end is noticed by what we send.
func (s *stream) room(ctx context.Context) error {
	free := s.sink.Room()
	if free == nil {
		return nil
	}
	s.heard(s.server) // it is there, and so is its WAL
	s.feedback.pause(true)
	s.pause(true)
	defer s.feedback.pause(false)
	defer s.pause(false)
	for free != nil {
		select {
		case <-free:
			free = s.sink.Room()
		case <-s.feedback.broken:
			return s.feedback.failure()
		case <-ctx.Done():
			return errStopWaiting
		}
	}
	return nil
}

func (s *stream) pause(paused bool) {
	s.progress.paused(paused)
	s.o.changed()
}
