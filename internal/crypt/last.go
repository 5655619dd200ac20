package crypt

import (
	"bufio"
	"bytes"
	"io"

	"filippo.io/age"
)

// HeadLength is how many bytes of the beginning of an object have its header and
// what else has to be known of it.
const HeadLength = maxHeader + nonceSize

// chunkLength is the length of age's chunks, in bytes, but for the last one, which
// can be shorter. Each is authenticated as a whole.
const (
	chunkOverhead = 16
	chunkLength   = 64<<10 + chunkOverhead
)

// ReadLast gives the last n plain bytes of an object of length bytes, or all of
// them; n is at most 64 KiB. head are the first HeadLength bytes, or all there are,
// and tail reads so many of the last ones as are needed, once at most. Nothing is
// said of the bytes between. Errors are those of tail, and as of NewReader.
func (ids Identities) ReadLast(head []byte, length, n int64, tail func(n int64) ([]byte, error)) ([]byte, error) {
	header, err := readHeader(bufio.NewReader(bytes.NewReader(head)))
	if err != nil {
		return nil, err
	}
	e := &ends{length: length, head: head}
	if int64(len(head)) < length {
		if e.tail, err = tail(lastChunks(length-int64(len(header))-nonceSize, n)); err != nil {
			return nil, err
		}
	}
	note := &noting{ids: ids}
	plain, size, err := age.DecryptReaderAt(e, length, note)
	if err != nil {
		return nil, note.explain(err)
	}
	last := make([]byte, min(n, size))
	if got, err := plain.ReadAt(last, size-int64(len(last))); got < len(last) {
		return nil, err
	}
	return last, nil
}

// lastChunks is how many bytes the chunks have that hold the last n plain ones, of
// payload bytes in all.
func lastChunks(payload, n int64) int64 {
	last := payload % chunkLength
	if last < n+chunkOverhead {
		last += chunkLength
	}
	return min(last, payload)
}

// ends has the beginning and the end of an object.
type ends struct {
	length     int64
	head, tail []byte
}

// ReadAt implements io.ReaderAt, for what there is.
func (e *ends) ReadAt(p []byte, at int64) (n int, err error) {
	if behind := at - (e.length - int64(len(e.tail))); behind >= 0 {
		n = copy(p, e.tail[behind:])
	} else if at < int64(len(e.head)) {
		n = copy(p, e.head[at:])
	}
	if n < len(p) {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}
