package archive

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
)

// Digest is the SHA-256 of the plain bytes of an object.
type Digest [sha256.Size]byte

// String is 64 lower-case hexadecimal digits.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// MarshalText gives the text of String.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads the text of String.
func (d *Digest) UnmarshalText(text []byte) (err error) {
	*d, err = parseDigest(string(text))
	return err
}

// parseDigest reads the text of a Digest.
func parseDigest(text string) (d Digest, err error) {
	n, err := hex.Decode(d[:], []byte(text[:min(len(text), 2*sha256.Size)]))
	if err != nil || n != sha256.Size || d.String() != text {
		return Digest{}, fmt.Errorf("%q is not a SHA-256", text)
	}
	return d, nil
}

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
	maxTrailer = 16 << 10
)

// trailer says what an object holds.
type trailer struct {
	Digest Digest
	Size   int64 // plain bytes

	// Summary is what stands in a segment, from [encodeSummary]; nil where that is
	// not known.
	Summary json.RawMessage
	// BadSummary says that there is a summary that is not what was put. The
	// content has its own digest, and may be sound.
	BadSummary error
}

type trailerFile struct {
	SHA256     string          `json:"sha256"`
	Size       int64           `json:"size"`
	Summary    json.RawMessage `json:"summary,omitempty"`
	SummaryCRC string          `json:"summary_crc32c,omitempty"`
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// summaryCRC is the checksum of a summary's text as it stands in the trailer.
func summaryCRC(text []byte) string { return fmt.Sprintf("%08x", crc32.Checksum(text, castagnoli)) }

// encode gives the bytes that end the object.
func (t trailer) encode() ([]byte, error) {
	file := trailerFile{SHA256: t.Digest.String(), Size: t.Size}
	if t.Summary != nil {
		file.Summary, file.SummaryCRC = t.Summary, summaryCRC(t.Summary)
	}
	text, err := json.Marshal(file)
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
	digest, err := parseDigest(file.SHA256)
	if err != nil || file.Size < 0 {
		return trailer{}, fmt.Errorf("its digest cannot be read: %q of %d bytes", file.SHA256, file.Size)
	}
	t := trailer{Digest: digest, Size: file.Size}
	if file.Summary != nil || file.SummaryCRC != "" {
		t.Summary, t.BadSummary = file.checkedSummary()
	}
	return t, nil
}

func (f trailerFile) checkedSummary() (json.RawMessage, error) {
	if crc := summaryCRC(f.Summary); crc != f.SummaryCRC {
		return nil, fmt.Errorf("its summary has CRC-32C %s, %q was put", crc, f.SummaryCRC)
	}
	return f.Summary, nil
}
