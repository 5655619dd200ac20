// Package restore answers PostgreSQL's restore_command. [Run] is one call of it:
// it looks for a segment or a history file in an archive and in a receiver's
// spool, puts it where PostgreSQL wants it, and says what PostgreSQL may believe.
//
// The answer is the dangerous part. PostgreSQL takes every exit code from 1 to
// 125 for "the archive ends here": during a recovery it then opens the database,
// on a standby it turns to other sources, and with several timelines it goes on
// with the WAL of an ancestor, on an abandoned branch. So 1 is given only for
// what is proven to be absent; on a standby, which must not be held up, also for
// what could not be found out, and then what was said is remembered in a note.
//
// # Where it looks
//
// There are up to two places: the spool, where a segment is first, and the
// archive, where it is last. The archive is one of format 1 or a directory as
// pg_receivewal leaves it; the spool is such a directory, too. A segment moves
// from being a partial in the spool to being sealed there, to the archive, and
// out of the spool; meanwhile the archive has it in chunks, or, at the end of a
// timeline, as a partial. So the order of one look is: sealed in the spool, sealed
// in the archive, chunks, partials in both places, and sealed in both again. What
// was anywhere on that way when the look began is found by it. If all of it found
// nothing, names are listed, spool first, to see whether anything is there that can
// only have come after what was asked for. If so, there is a hole, and nothing is
// proven. Nor is it where prune has removed WAL up to there or beyond: of a branch that
// was left nothing later may be there any more.
//
// An archive far away is asked for several of these at a time, see [storage.Early]. Three
// orders remain, each with the answer to the first before the second is asked for: chunks
// are listed before it is looked for what they become, a partial or the sealed segment;
// later chunks before later segments; and all of that before the identity is read again
// and before what prune has removed. So whatever is there when the chunks
// are listed, all of which begin in one moment, is found there or where it goes to.
//
// # Forks
//
// The history files in pg_wal say which way the server goes: PostgreSQL puts the
// history of its target timeline there before it asks for the first segment. A
// segment of an ancestor is delivered up to the fork only, with zeros behind it,
// because the server must not replay what came after the fork on a branch that
// it leaves there. The highest timeline in pg_wal that descends from the asked
// one is taken for the target: among siblings PostgreSQL goes for the newest, and
// it never fetches the history of one that is above its target. Histories that
// contradict each other about a common ancestor count as damage. A standby that
// was told to stay on a timeline, and streams from a primary that has left it,
// gets the histories from there all the same: it is given nothing beyond the fork.
//
// A history file has no digest, and one with a wrong position takes the server to
// another branch. So it is delivered only if no WAL of its timeline lies before its
// fork, and if it goes on where its parent's ends; otherwise it counts as damage.
// That cannot tell anything about a timeline that has no WAL in any place yet.
//
// # Partials
//
// A partial is delivered with zeros behind its WAL. Its WAL ends at the last byte
// that is not zero, found from the end backwards, or before that at a page that
// was left by an earlier use of the file. It is not delivered if pg_wal has the
// same WAL already, and perhaps more, under the segment's own name: PostgreSQL
// would overwrite that file.
//
// # Chunks
//
// What an archive has of a segment in chunks is put together as far as they go from
// its start without a hole, and then delivered like a partial; where it ends is known
// to the byte. What comes behind a hole within a segment does not count: several
// uploads are in flight at a time, and the last of them can be lost. Chunks that
// differ where they overlap are damage, whoever is right. One that is not what was
// put is done without if others have the same bytes, and one that is gone when it is
// read was replaced, so that the chunks are listed again.
//
// # Damage, and what is only late
//
// Uploads are done several at a time, so a segment can be missing for a moment
// although a later one is there. A hole is therefore looked at again for some
// seconds before it is reported, and what is damaged is read twice.
//
// # The note of a standby
//
// A 1 that is not proven can take a standby to the wrong branch, because the next
// file it asks for may be the ancestor's. What was answered so is written to
// walrecv.restore.json in the data directory: the note has to be where every
// later call finds it, whatever its configuration, where the server's user can
// write, and where it is copied, moved and deleted together with the state that
// it describes. Not in pg_wal, which is often put elsewhere, emptied by hand and
// gone through by the server. While a file is noted, no segment of a lower
// timeline with that number or a higher one is delivered, unless the same call
// proves that the noted file is absent; and a noted history is looked for again
// before any segment.
//
// The note also says since when the store does not answer, so that the calls
// that follow need not wait for it once more each: a standby asks for several
// files before it streams, and for several before it is promoted.
//
// A note that cannot be read is taken for one that notes every later timeline
// that the places know of.
package restore
