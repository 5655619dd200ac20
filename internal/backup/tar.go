package backup

import (
	"errors"
	"fmt"
	"math"
)

// tarBlock is what everything in a tar is a multiple of, in bytes.
const tarBlock = 512

// tarReader finds the borders between the files of a tar that passes in pieces of any
// length. It looks at nothing but the headers.
type tarReader struct {
	header [tarBlock]byte
	have   int   // bytes of header
	left   int64 // bytes of the file's content that have not come, with what fills its last block
	glued  bool  // the last header is about the next file
	ended  bool  // the blocks of zeros that end a tar have begun
	passed int64 // bytes in all
}

// next takes bytes from the beginning of p, at least one, and gives what is to be
// written of the tar, which can be nothing yet, and the rest of p. border says that
// a tar that is cut before out can be read, as can what follows.
func (t *tarReader) next(p []byte) (out, rest []byte, border bool, err error) {
	n := len(p)
	switch {
	case t.ended:
	case t.left > 0:
		n = int(min(int64(n), t.left))
		t.left -= int64(n)
	default:
		n = copy(t.header[t.have:], p)
		t.have += n
		t.passed += int64(n)
		if t.have < tarBlock {
			return nil, p[n:], false, nil
		}
		t.have = 0
		border, err = t.file()
		return t.header[:], p[n:], border, err
	}
	t.passed += int64(n)
	return p[:n], p[n:], false, nil
}

// file reads a header.
func (t *tarReader) file() (border bool, err error) {
	if t.header == [tarBlock]byte{} {
		t.ended = true
		return false, nil
	}
	size, err := tarSize(&t.header)
	if err != nil {
		return false, fmt.Errorf("the tar of the server cannot be read at byte %d: %w", t.passed-tarBlock, err)
	}
	border = !t.glued
	switch t.header[156] {
	case '1', '2', '3', '4', '5', '6': // links, devices, directories: nothing but a header
		t.glued = false
	case 'x', 'g', 'L', 'K': // an extended header, a long name
		t.glued, t.left = true, size
	default:
		t.glued, t.left = false, size
	}
	return border, nil
}

// end says what keeps the tar from being whole.
func (t *tarReader) end() error {
	if t.have > 0 || t.left > 0 || t.glued {
		return fmt.Errorf("the tar of the server ends after %d bytes, within a file", t.passed)
	}
	return nil
}

// tarSize is how many bytes of content follow a header, with what fills the last
// block.
func tarSize(h *[tarBlock]byte) (int64, error) {
	sum := int64(0)
	for i, c := range h {
		if i >= 148 && i < 156 {
			c = ' ' // the sum itself
		}
		sum += int64(c)
	}
	if want, ok := tarNumber(h[148:156]); !ok || want != sum {
		return 0, errors.New("its header has another checksum")
	}
	size, ok := tarNumber(h[124:136])
	if !ok || size > math.MaxInt64-tarBlock {
		return 0, errors.New("its header has no size")
	}
	return (size + tarBlock - 1) / tarBlock * tarBlock, nil
}

// tarNumber reads a number: octal digits with blanks or zeros around them, or, if its
// first bit is set, binary, as sizes of 8 GiB and more have to be.
func tarNumber(field []byte) (n int64, ok bool) {
	if field[0]&0x80 != 0 {
		if field[0] != 0x80 {
			return 0, false // negative, or far too large
		}
		for _, c := range field[1:] {
			if n > math.MaxInt64>>8 {
				return 0, false
			}
			n = n<<8 | int64(c)
		}
		return n, true
	}
	i := 0
	for i < len(field) && field[i] == ' ' {
		i++
	}
	digits := 0
	for ; i < len(field) && field[i] >= '0' && field[i] <= '7'; i++ {
		n = n<<3 | int64(field[i]-'0')
		digits++
	}
	for ; i < len(field) && (field[i] == ' ' || field[i] == 0); i++ {
	}
	return n, digits > 0 && i == len(field)
}
