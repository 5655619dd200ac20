// Package manifest reads the backup manifest of a PostgreSQL base backup, which
// says of every file how long it is and what its checksum is, and compares files
// with it.
//
// It is JSON with one file a line, and its last line is the SHA-256 of all that
// stands before that line. So a manifest proves itself: no byte of it can change
// without notice, but for the white space and the case of hexadecimal digits in
// the last line.
//
// The paths are those of the restored directory, with slashes: a file in a
// tablespace is pg_tblspc/OID/... Files in pg_wal are not listed.
package manifest
