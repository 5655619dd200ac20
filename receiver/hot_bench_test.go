package receiver

import (
	"fmt"
	"testing"

	"github.com/walrecv/walrecv/segment"
)

// discard is a Sink without a disk.
type discard struct{ countingSink }

func (d *discard) Append(at segment.LSN, p []byte) error {
	d.n = at + segment.LSN(len(p))
	return nil
}
func (d *discard) Sync() (segment.LSN, error) { return d.n, nil }

// benchStream takes all messages of a stream again and again.
func benchStream(b *testing.B, each int, sink func() Sink, step func(*stream) error) {
	const bytes = 8 << 20
	messages := walMessages(bytes, each)
	b.SetBytes(int64(each))
	b.ReportAllocs()
	s := hotStream(b, sink(), messages)
	for b.Loop() {
		if s.pos == hotStart+bytes {
			b.StopTimer()
			s = hotStream(b, sink(), messages)
			b.StartTimer()
		}
		if err := step(s); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkMessage is what it takes to receive a message and to read it as WAL, of
// many small records, beside the disk.
func BenchmarkMessage(b *testing.B) {
	for _, each := range []int{256, 8 << 10, 128 << 10} {
		b.Run(fmt.Sprint(each), func(b *testing.B) {
			benchStream(b, each, func() Sink { return &discard{} }, func(s *stream) error {
				_, err := s.receive(b.Context())
				return err
			})
		})
	}
}

// BenchmarkCommit is what a commit waits for: a message, its sync, the answer.
func BenchmarkCommit(b *testing.B) {
	for _, each := range []int{256, 8 << 10} {
		b.Run(fmt.Sprint(each), func(b *testing.B) {
			benchStream(b, each, func() Sink { return hotWriter(b) }, func(s *stream) error {
				_, err := s.receive(b.Context())
				return err
			})
		})
	}
}

// BenchmarkStatus is the answer alone.
func BenchmarkStatus(b *testing.B) {
	sink := &discard{countingSink{n: hotStart}}
	s := hotStream(b, sink, nil)
	b.ReportAllocs()
	for b.Loop() {
		sink.n++
		if err := s.feedback.wroteAll(sink.n); err != nil {
			b.Fatal(err)
		}
	}
}
