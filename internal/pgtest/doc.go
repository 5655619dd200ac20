// Package pgtest runs real PostgreSQL servers for tests. Only tests import it.
//
//	for _, major := range pgtest.Versions(t) {
//		c := pgtest.New(t, pgtest.Options{Major: major, WALSegmentSize: 1 << 20})
//		c.Start()
//		c.Exec("create table t(i int)")
//		c.Kill9()
//	}
//
// Every server is a throwaway: its own directory, its own port, its own socket,
// durability against power loss switched off (fsync=off; a killed server still
// recovers, since the kernel keeps what it wrote). Two test runs at once do not
// meet.
//
// # Who runs what
//
// PostgreSQL refuses to run as root. Where the tests run as root, the servers
// and everything started by [Command] run as the user postgres, elsewhere as
// the user of the tests. Files for such programs belong in [TempDir], which that
// user owns and can reach, not in the test's own TempDir, which it cannot.
//
// # What stays behind
//
// Nothing. Processes and directories end with the test that made them, and a
// watchdog process ends and removes them when the test process is gone without
// having done so: killed with SIGKILL, out of time, panicked.
//
// # Failures and concurrency
//
// A method without an error result ends the test when it fails, so it must be
// called from the test's own goroutine; the Try variants return the error and
// may be called from any. Methods that start, stop or reconfigure a server must
// not run at the same time for one server. The log of a server is printed when
// its test fails.
//
// # Environment
//
//   - WALRECV_TEST_MAJORS: the majors that [Versions] returns, such as "13,14"
//   - WALRECV_TEST_PG18: the bin directory of that major's server
//   - WALRECV_TEST_LONG: not empty for the long form of tests that have one
package pgtest
