// Package extract lays a base backup of an archive out as a data directory.
//
// The tars of a backup come from a server by way of a store, and are believed
// nothing: only regular files and directories are made, at paths that stay below the
// directory they belong to, none of them twice, and each file must be the one that
// the backup manifest lists, by size and checksum. Nothing that exists is opened for
// writing, and everything is made through an [os.Root], so that no link leads
// elsewhere. The only links are those of tablespaces in pg_tblspc, which come from
// what the backup says of itself.
//
// Directories that are not empty are refused and left alone. A run that fails removes
// what it made. The file without which no server starts, global/pg_control, is made
// last, when all others are durable and the caller has added its own.
package extract
