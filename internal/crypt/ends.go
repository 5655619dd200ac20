package crypt

import "io"

// How much is read at once of the beginning and of the end of an object that is
// not read as a whole, since every read can be a request. Most headers are
// shorter, and the last of age's chunks never is longer.
const (
	firstRead = 8 << 10
	lastRead  = 64<<10 + 16
)

// ends reads what has its beginning and its end in memory.
type ends struct {
	io.ReaderAt
	length int64
	parts  []part
}

type part struct {
	at    int64
	bytes []byte
}

// readEnds reads both, as one if they meet.
func readEnds(r io.ReaderAt, length int64) (*ends, error) {
	e := &ends{ReaderAt: r, length: length}
	if length <= firstRead+lastRead {
		return e, e.read(0, length)
	}
	if err := e.read(length-lastRead, lastRead); err != nil {
		return nil, err
	}
	return e, e.read(0, firstRead)
}

func (e *ends) read(at, length int64) error {
	p := part{at, make([]byte, length)}
	e.parts = append(e.parts, p)
	n, err := e.ReaderAt.ReadAt(p.bytes, at)
	if int64(n) == length {
		return nil
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// ReadAt implements io.ReaderAt.
func (e *ends) ReadAt(b []byte, at int64) (int, error) {
	end := min(at+int64(len(b)), e.length)
	for _, p := range e.parts {
		if at < p.at || end > p.at+int64(len(p.bytes)) || at >= end {
			continue
		}
		n := copy(b, p.bytes[at-p.at:end-p.at])
		if n < len(b) {
			return n, io.EOF
		}
		return n, nil
	}
	return e.ReaderAt.ReadAt(b, at)
}
