package archive

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
)

// Digest is the SHA-256 of the plain bytes of an object.
type Digest [sha256.Size]byte

// String is 64 lower-case hexadecimal digits.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// short is how the digest stands in a key.
func (d Digest) short() string { return d.String()[:shortDigest] }

// The trailer is a skippable frame of zstd: a magic number and the length of
// what follows (both 4 bytes, little-endian), then JSON, then the same length
// once more, as the last 4 bytes of the object, so that it is found from there.
const (
	trailerMagic  = 0x184D2A5E
	trailerFrame  = 8 // magic and length
	trailerLength = 4 // at the end

	// maxTrailer bounds a trailer, with its frame. A reader gets it with the
	// last maxTrailer bytes of the object.
	maxTrailer = 4 << 10
)

// trailer says what an object holds.
type trailer struct {
	Digest Digest
	Size   int64 // plain bytes
}

type trailerFile struct {
	SHA256 string `json:"sha256"`
	Size   int64  `json:"size"`
}

// encode gives the bytes that end the object.
func (t trailer) encode() ([]byte, error) {
	text, err := json.Marshal(trailerFile{SHA256: t.Digest.String(), Size: t.Size})
	if err != nil {
		return nil, err
	}
	length := uint32(len(text) + trailerLength)
	out := binary.LittleEndian.AppendUint32(nil, trailerMagic)
	out = binary.LittleEndian.AppendUint32(out, length)
	out = append(out, text...)
	return binary.LittleEndian.AppendUint32(out, length), nil
}

var errNoTrailer = errors.New("it does not end with a digest")

// decodeTrailer reads the trailer from the last bytes of an object, maxTrailer
// of them or all there are.
func decodeTrailer(end []byte) (trailer, error) {
	if len(end) < trailerFrame+trailerLength {
		return trailer{}, errNoTrailer
	}
	length := int64(binary.LittleEndian.Uint32(end[len(end)-trailerLength:]))
	begin := int64(len(end)) - length - trailerFrame
	if length < trailerLength || begin < 0 {
		return trailer{}, errNoTrailer
	}
	frame := end[begin:]
	if binary.LittleEndian.Uint32(frame) != trailerMagic || int64(binary.LittleEndian.Uint32(frame[4:])) != length {
		return trailer{}, errNoTrailer
	}
	var file trailerFile
	if err := json.Unmarshal(frame[trailerFrame:len(frame)-trailerLength], &file); err != nil {
		return trailer{}, fmt.Errorf("its digest cannot be read: %w", err)
	}
	t := trailer{Size: file.Size}
	n, err := hex.Decode(t.Digest[:], []byte(file.SHA256[:min(len(file.SHA256), 2*sha256.Size)]))
	if err != nil || n != sha256.Size || t.Digest.String() != file.SHA256 || t.Size < 0 {
		return trailer{}, fmt.Errorf("its digest cannot be read: %q of %d bytes", file.SHA256, file.Size)
	}
	return t, nil
}
