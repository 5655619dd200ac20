package pgtest

import "testing"

// Managed makes the directory and the port of a cluster that another program
// initializes, configures, starts and stops, in DataDir, with its socket in
// SocketDir: Patroni, say. What needs no more than a running server works as for
// every other cluster: Query, BaseBackup, Restore.
//
// That program has to run below a [Process] of the same test that was started
// later, so that the servers it starts end before the directory is removed.
func Managed(t testing.TB, major int, segmentSize int64) *Cluster {
	t.Helper()
	c := newCluster(t, major, segmentSize)
	c.settings = baseSettings()
	if err := c.writeHBA(nil); err != nil { // for what is restored from it
		t.Fatalf("pgtest: %v", err)
	}
	return c
}

// Port reserves a TCP port of 127.0.0.1 for a program that listens with
// SO_REUSEADDR, until the end of the test.
func Port(t testing.TB) int {
	t.Helper()
	p, err := reservePort()
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	t.Cleanup(func() {
		if err := p.release(); err != nil {
			t.Errorf("pgtest: %v", err)
		}
	})
	return p.number
}
