// Package prefetch is the directory in which WAL waits before restore_command asks
// for it, and how the calls of restore_command and the helper that fills it talk to
// each other. It knows no archive: who fetches is given a file to write.
//
// # What is in a directory
//
// One directory serves one data directory, one cluster and one pair of places that WAL
// comes from; all of them are in its name, so that nothing mixes. In it are
//
//   - segments under their own names, whole, and synced if a helper has staged them, each
//     to be taken by the call that asks for it;
//   - what is being fetched, under names that end in ".tmp", which no two processes share;
//   - "asked", a FIFO in which the calls say what they were asked for;
//   - "calls", where no helper may run: for which server the calls fill the
//     directory themselves, and in which run of the machine;
//   - "log", what the helper had to say.
//
// # Who may believe it
//
// A file is used only while the helper that put it there lives, or, without a helper,
// for the server whose calls put it there. Nobody removes what a process that was
// killed has left but the next helper, at its start, so what is older than that is
// nothing to rely on, though it is whole.
//
// The FIFO is how a call finds out that there is a helper: a FIFO that nobody reads
// cannot be opened for writing. A process number that is written down somewhere could
// be somebody else's by now. The lock of the directory keeps helpers from being two. If
// the directory is removed, its helper has lost it, and leaves alone what comes after it
// under that name.
package prefetch
