// Package archive keeps the WAL of PostgreSQL clusters in a [storage.Store]: it
// knows under which key what stands (format 1, docs/format.md), how an object is
// made and proven to be sound, and how a spool directory gets into the archive.
//
// # Objects
//
// A segment is one zstd frame with the content's length and checksum, followed
// by a trailer that `zstd -d` skips and that holds the SHA-256 of the plain
// bytes. So the digest of an object can be had without reading it, and every
// object can be read without this program.
//
// The trailer of a segment also says what stands in it ([segment.Summary]), and
// index objects say it of many segments at a time: see [Archive.Infos]. The index
// is a cache that can be lost.
//
// No object is ever rewritten. Putting the same content again is success, putting
// another one under a taken key is a [ConflictError]: two servers, a clone, or a
// second archiver write into one archive.
//
// # Errors
//
// An error that wraps fs.ErrNotExist says that an object is proven to be absent.
// [DamagedError], [ConflictError], [WrongClusterError], [FormatError] and
// [ErrEncrypted] are findings: trying again gives the same. Everything else means
// that nothing is known, and that another try may help.
package archive
