package s3

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"sync"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// The kinds of digest, as storage.S3Checksums lists them.
const (
	sumSHA256    = "sha256"
	sumCRC32C    = "crc32c"
	sumCRC64NVME = "crc64nvme"
	sumNone      = "none"
)

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	nvme       = sync.OnceValue(func() *crc64.Table { return crc64.MakeTable(0x9a6c9329ac4bc9b5) })
)

// newHash is what makes the digest; nil for none.
func (s *Store) newHash() hash.Hash {
	switch s.loc.Checksum {
	case sumCRC32C:
		return crc32.New(castagnoli)
	case sumCRC64NVME:
		return crc64.New(nvme())
	case sumNone:
		return nil
	}
	return sha256.New()
}

// ownHash makes a digest of a part in any case: for ourselves, where the store
// compares none.
func (s *Store) ownHash() hash.Hash {
	if h := s.newHash(); h != nil {
		return h
	}
	return sha256.New()
}

// sum is the digest of a part.
func (s *Store) sum(data []byte) []byte {
	h := s.ownHash()
	_, _ = h.Write(data) // never fails
	return h.Sum(nil)
}

// algorithm is what an upload has to name when it begins, so that its parts can have
// digests.
func (s *Store) algorithm() types.ChecksumAlgorithm {
	switch s.loc.Checksum {
	case sumCRC32C:
		return types.ChecksumAlgorithmCrc32c
	case sumCRC64NVME:
		return types.ChecksumAlgorithmCrc64nvme
	case sumNone:
		return ""
	}
	return types.ChecksumAlgorithmSha256
}

// digestHeader is a digest as a request has it.
type digestHeader struct {
	sha256, crc32c, crc64nvme *string
	option                    func(*s3.Options) // of the request
}

// header makes a header of a digest, without which a bucket with object lock takes
// nothing. The SDK's own would come after the content, in a framing that not every
// store knows.
func (s *Store) header(sum []byte) digestHeader {
	text := base64.StdEncoding.EncodeToString(sum)
	h := digestHeader{option: func(*s3.Options) {}}
	switch s.loc.Checksum {
	case sumCRC32C:
		h.crc32c = &text
	case sumCRC64NVME:
		h.crc64nvme = &text
	case sumNone:
	default:
		h.sha256 = &text
		h.option = s3.WithAPIOptions(addPayloadHash(hex.EncodeToString(sum)))
	}
	return h
}
