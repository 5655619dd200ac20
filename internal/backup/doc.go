// Package backup keeps base backups in an archive: what is there ([List]), one that
// comes from a server ([Begin]), one that is to go ([Delete]).
//
// A base backup is a directory of objects. Its first object says where it begins,
// and keeps the WAL from there; its last one says that it is good, and is put once
// everything that a restore needs was found in the archive. Between the two stand the
// tars that the server sent, cut into pieces, and its manifest. What they are made of
// is in docs/format.md.
package backup
