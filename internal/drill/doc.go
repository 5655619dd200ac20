// Package drill proves that an archive restores: it restores a base backup into a
// scratch directory, starts PostgreSQL on it, lets it recover from the archive as a
// real one would, looks whether what came out is what it should be, measures how long
// that took and how much would be lost, and removes everything.
//
// Nothing of a drill reaches anybody else: its server listens on a socket in a private
// directory only, archives nothing, and runs neither subscriptions nor background
// workers. Nothing of it stays, also if this process is killed: a process of its own
// waits for that (see [Watch]).
package drill
