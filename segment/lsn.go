package segment

import (
	"fmt"
	"strings"
)

// LSN is a position in the write-ahead log: the offset of a byte from the
// beginning of the stream. Where a position says how far something got, it is
// the first byte that is missing, so that begin plus length is the end.
type LSN uint64

// MaxLSN is the greatest position. It stands for "no end" where a timeline is
// still being written.
const MaxLSN = ^LSN(0)

// lsnHalfDigits is the length limit of each half of an LSN's text.
const lsnHalfDigits = 8

// String gives the position as PostgreSQL prints it: two hexadecimal halves in
// upper case, without leading zeros, as in "16/B374D848".
func (l LSN) String() string {
	return fmt.Sprintf("%X/%X", uint32(l>>32), uint32(l))
}

// ParseLSN reads a position as PostgreSQL prints it: one to eight hexadecimal
// digits of either case, a slash, one to eight more, and nothing else.
func ParseLSN(text string) (LSN, error) {
	high, low, _ := strings.Cut(text, "/")
	h, highOK := parseLSNHalf(high)
	l, lowOK := parseLSNHalf(low)
	if !highOK || !lowOK {
		return 0, fmt.Errorf("%q is not a WAL position", text)
	}
	return LSN(h)<<32 | LSN(l), nil
}

// MarshalText gives the text of [LSN.String], which is how a position stands in
// JSON: a number would lose digits in readers that keep numbers as floats.
func (l LSN) MarshalText() ([]byte, error) {
	return []byte(l.String()), nil
}

// UnmarshalText reads what [ParseLSN] reads. The position is left alone if that
// fails.
func (l *LSN) UnmarshalText(text []byte) error {
	parsed, err := ParseLSN(string(text))
	if err != nil {
		return err
	}
	*l = parsed
	return nil
}

func parseLSNHalf(digits string) (uint32, bool) {
	if len(digits) == 0 || len(digits) > lsnHalfDigits {
		return 0, false
	}
	return parseHex(strings.ToUpper(digits))
}

// parseHex reads at most eight upper-case hexadecimal digits; the caller has
// seen to the length. Signs, underscores, blanks and prefixes, which the
// standard library's parsers take in one place or the other, are refused.
func parseHex(digits string) (uint32, bool) {
	var value uint32
	for i := range len(digits) {
		c := digits[i]
		switch {
		case c >= '0' && c <= '9':
			value = value<<4 | uint32(c-'0')
		case c >= 'A' && c <= 'F':
			value = value<<4 | uint32(c-'A'+10)
		default:
			return 0, false
		}
	}
	return value, true
}
