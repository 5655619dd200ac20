// Package codec compresses and reads back files in the formats that WAL is kept
// in: gzip, lz4 and zstd. It knows nothing of WAL.
//
// What it writes can be read by the command-line tools of each format, and
// carries a checksum; lz4 and zstd also carry the length. What it reads may come
// from those tools or from pg_receivewal. A reader never takes a file that was
// cut short for a whole one, never yields more than the caller allows, and needs
// an amount of memory that does not depend on what the file claims.
package codec

import (
	"fmt"
	"strings"
)

// Method is a way to compress, under the name that the user gives it.
type Method string

// The methods.
const (
	None Method = "none"
	Gzip Method = "gzip"
	LZ4  Method = "lz4"
	Zstd Method = "zstd"
)

// methods lists all there is to know about a method in one place. A level of 0
// stands for the method's default.
var methods = map[Method]struct {
	suffix   string
	min, max int
}{
	None: {suffix: ""},
	Gzip: {suffix: ".gz", min: 1, max: 9},
	LZ4:  {suffix: ".lz4", min: 1, max: 12},
	Zstd: {suffix: ".zst", min: 1, max: 22},
}

// Suffix is what the method adds to the name of a file, with its dot. It is
// empty for None.
func (m Method) Suffix() string { return methods[m].suffix }

// checkLevel refuses a method that does not exist, and a level it does not have.
func checkLevel(m Method, level int) error {
	def, ok := methods[m]
	switch {
	case !ok:
		return unknownMethod(string(m))
	case level == 0:
		return nil
	case m == None:
		return fmt.Errorf("compression method %q does not accept a compression level", m)
	case level < def.min || level > def.max:
		return fmt.Errorf("compression method %q expects a compression level between %d and %d, not %d", m, def.min, def.max, level)
	}
	return nil
}

func unknownMethod(text string) error {
	return fmt.Errorf("unrecognized compression method %q (none, gzip, lz4 or zstd)", text)
}

// DetectSuffix splits the suffix of a method off the name of a file. A name with
// none of them is returned as it is, with None.
func DetectSuffix(name string) (base string, m Method) {
	for _, m := range []Method{Gzip, LZ4, Zstd} {
		if base, ok := strings.CutSuffix(name, m.Suffix()); ok {
			return base, m
		}
	}
	return name, None
}
