// Package push is PostgreSQL's archive_command. [Run] is one call of it: it puts one
// file of pg_wal into the archive, and returns nil only once the archive durably
// holds it. The server then may recycle the file, so nil is the dangerous answer.
//
// # What is put
//
// A complete segment: its WAL reaches its end, or a switch with nothing behind it.
// The server also asks for segments that are neither: a standby with
// archive_mode=always hands back what restore_command gave it, a tail that was
// filled up with zeros, and hands over the last segment of a timeline that it
// followed to a fork, with whatever an earlier use of the file left behind it. The
// first is not put: if it were, the true segment would be refused from then on. It
// is asked for again until the archive has the segment, of which it must be the
// beginning. The second is what the server itself calls a partial, and is put as
// one.
//
// Partials of one segment differ from server to server, so each has a key with its
// digest. A partial never fails for what is in it: the server would ask for it again
// for ever, and for nothing else.
//
// Histories and backup histories are put byte for byte.
//
// # Which server may
//
// The system identifier says which cluster the archive is of. A restored clone has
// the same one, and inherits archive_command with the configuration. It is told from
// a promoted standby by where it left the parent timeline: see [segment.CheckBranch].
// A history that is refused keeps out everything of its timeline, because a server
// archives nothing before its histories, and because a file of an unknown timeline
// is put only after the history that stands beside it.
//
// # What is not noticed
//
// A clone that leaves the parent within a segment of what is archived of it cannot
// be told from a standby that was promoted there. Nothing in its data directory
// says what it is: both have restored WAL, both have left the timeline for "no
// recovery target". So it is let in where an archive lags behind, or where the
// primary was idle.
package push
