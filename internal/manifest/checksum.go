package manifest

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"hash"
	"hash/crc32"
)

// Algorithm is how the checksum of a file is made.
type Algorithm uint8

// The algorithms of PostgreSQL.
const (
	None Algorithm = iota // no checksum
	CRC32C
	SHA224
	SHA256
	SHA384
	SHA512
)

// algorithms are their names in a manifest, sizes in bytes, and makers.
var algorithms = []struct {
	name string
	size int
	make func() hash.Hash
}{
	None:   {"NONE", 0, nil},
	CRC32C: {"CRC32C", crc32.Size, newCRC32C},
	SHA224: {"SHA224", sha256.Size224, sha256.New224},
	SHA256: {"SHA256", sha256.Size, sha256.New},
	SHA384: {"SHA384", sha512.Size384, sha512.New384},
	SHA512: {"SHA512", sha512.Size, sha512.New},
}

// String is the name that stands in a manifest.
func (a Algorithm) String() string { return algorithms[a].name }

// Size is how long a checksum is, in bytes.
func (a Algorithm) Size() int { return algorithms[a].size }

// New begins a checksum; nil for None.
func (a Algorithm) New() hash.Hash {
	if a == None {
		return nil
	}
	return algorithms[a].make()
}

// of is the checksum of some content.
func (a Algorithm) of(content []byte) []byte {
	h := a.New()
	if h == nil {
		return nil
	}
	h.Write(content)
	return h.Sum(nil)
}

// parseAlgorithm knows the names as PostgreSQL writes them.
func parseAlgorithm(name string) (Algorithm, bool) {
	for a, known := range algorithms {
		if known.name == name {
			return Algorithm(a), true
		}
	}
	return None, false
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// crc32c is CRC-32C with its bytes in the order of the server's memory, which is
// little-endian on all machines that are supported.
type crc32c struct{ hash.Hash32 }

func newCRC32C() hash.Hash { return crc32c{crc32.New(castagnoli)} }

// Sum implements hash.Hash.
func (c crc32c) Sum(b []byte) []byte { return binary.LittleEndian.AppendUint32(b, c.Sum32()) }
