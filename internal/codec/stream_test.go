package codec

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"
)

func newStream(t *testing.T, w io.Writer) *Stream {
	t.Helper()
	s, err := NewStream(w)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStream(t *testing.T) {
	for _, size := range []int{0, 1, streamPiece, streamPiece + 1, (streamPieces + 1) * streamPiece} {
		plain := sample(size)
		var out bytes.Buffer
		s := newStream(t, &out)
		if _, err := io.Copy(s, iotest.HalfReader(bytes.NewReader(plain))); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s.Abort() // nothing is left to give up
		if got, err := decompress(Zstd, out.Bytes(), size); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%d bytes: read back %d, %v", size, len(got), err)
		}
		if got := tool(t, out.Bytes(), "zstd", "-dc"); !bytes.Equal(got, plain) {
			t.Errorf("%d bytes: zstd -d gave %d other bytes", size, len(got))
		}
		if _, err := s.Write(plain); !errors.Is(err, errClosed) {
			t.Errorf("a write after the end: %v", err)
		}
		if err := s.Close(); !errors.Is(err, errClosed) {
			t.Errorf("a second end: %v", err)
		}
	}
}

// TestStreamGivenUp: nobody writes after Abort, and the encoder is as good as new.
func TestStreamGivenUp(t *testing.T) {
	plain := sample(streamPiece + 1)
	for range 5 {
		var out bytes.Buffer
		s := newStream(t, &out)
		if _, err := s.Write(plain); err != nil {
			t.Fatal(err)
		}
		s.Abort()
		out.Write(nil) // a race, if anybody still did
	}
	var out bytes.Buffer
	s := newStream(t, &out)
	if _, err := s.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := decompress(Zstd, out.Bytes(), len(plain)); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("read back %d bytes, %v", len(got), err)
	}
}

// TestStreamIntoNothing: what the writer below fails with comes out, at the end at the
// latest.
func TestStreamIntoNothing(t *testing.T) {
	full := errors.New("full")
	for _, size := range []int{0, 1, 400_000, (streamPieces + 1) * streamPiece} {
		s := newStream(t, failing{full})
		_, err := s.Write(sample(size))
		if err == nil {
			err = s.Close()
		}
		if !errors.Is(err, full) {
			t.Errorf("%d bytes: %v", size, err)
		}
		s.Abort()
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }
