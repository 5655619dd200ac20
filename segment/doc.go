// Package segment knows PostgreSQL's write-ahead log as files: what a position
// in the log is ([LSN]), which segment holds it ([Size], [Name]), how timelines
// branch ([History]), what a sound segment looks like from the outside
// ([CheckFirstPage], [CheckPages]) and which records stand in it ([Reader],
// [FindEnd], [Summarizer]).
//
// # Words
//
// The log of a cluster is one byte stream, addressed by LSN. It is cut into
// segments of one fixed [Size], chosen when the cluster was made: 16 MiB by
// default, any power of two from 1 MiB to 1 GiB. Never assume 16 MiB. A segment
// has a number, counted from the beginning of the stream, and together with
// the timeline it was written on the number makes the file's [Name].
//
// A promotion or a point-in-time recovery ends one timeline at a position, the
// fork, and begins the next one there. Positions are half-open everywhere: the
// byte at the fork belongs to the newer timeline. The segment in which the fork
// lies exists once for each of the two timelines, with equal bytes before it.
//
// # Concurrency
//
// LSN, TimelineID, Size, Name, History, PageHeader and Identity are plain
// values without hidden state. They may be copied and used from any goroutine
// as long as nobody writes to the entries of a History.
package segment
