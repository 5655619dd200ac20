package archive

import (
	"bytes"
	"io"
	"testing"

	"github.com/walrecv/walrecv/internal/crypt"
)

// nowhere takes what is written.
type nowhere struct{}

func (nowhere) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }

// BenchmarkEncode makes the object of a segment of 16 MiB, of real WAL again and
// again, in the clear and encrypted.
func BenchmarkEncode(b *testing.B) {
	data := bytes.Repeat(realSegment(b, "000000010000000000000006"), 16)
	keyed, _ := testKeys(b, "k")
	unkeyed, _ := testKeys(b, "")
	for what, enc := range map[string]*crypt.Encryption{"plain": nil, "keyed": keyed.Encryption, "unkeyed": unkeyed.Encryption} {
		b.Run(what, func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				c := content{ReadCloser: io.NopCloser(bytes.NewReader(data))}
				if _, err := encode(nowhere{}, enc, c, int64(len(data))); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
