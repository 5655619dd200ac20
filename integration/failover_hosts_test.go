package integration

import (
	"strings"
	"syscall"
	"testing"

	"github.com/walrecv/walrecv/internal/pgtest"
)

// streamsFrom waits until the receiver streams from that server and no other.
func (r *receiver) streamsFrom(here *pgtest.Cluster, others ...*pgtest.Cluster) {
	r.t.Helper()
	const mine = "select count(*) from pg_stat_replication where application_name = 'walrecv' and state = 'streaming'"
	here.WaitFor(mine, "1", patience)
	for _, other := range others {
		if other.Running() {
			other.WaitFor(mine, "0", patience)
		}
	}
}

// TestFailoverFindsTheServer: of several hosts in a connection string the one with
// the wanted role is streamed from, in whatever order they stand there.
func TestFailoverFindsTheServer(t *testing.T) {
	t.Parallel()
	eachMajor(t, func(t *testing.T, major int) {
		primary := newPrimary(t, major)
		standby := standbyOf(t, primary, primary, nil)
		for _, order := range [][]*pgtest.Cluster{{primary, standby}, {standby, primary}} {
			for attribute, want := range map[string]*pgtest.Cluster{
				"any": order[0], "primary": primary, "read-write": primary,
				"standby": standby, "read-only": standby, "prefer-standby": standby,
			} {
				t.Run(attribute+" "+map[bool]string{true: "primary", false: "standby"}[order[0] == primary]+" first", func(t *testing.T) {
					r := fresh(t, want.With(t), "-d", allOf(order...)+" target_session_attrs="+attribute).start()
					other := standby
					if want == standby {
						other = primary
					}
					r.streamsFrom(want.With(t), other.With(t))
					mark(primary.With(t), strings.ReplaceAll(t.Name(), "/", " "))
					r.reaches(want.With(t), primary.FlushLSN())
					r.stop()
				})
			}
		}
	})
}

// TestPrimaryOnly: a server that is a standby, or has become one, is not streamed
// from: the receiver waits for a primary, at its start and later, also where only
// one host is to be had.
func TestPrimaryOnly(t *testing.T) {
	t.Parallel()
	eachMajor(t, func(t *testing.T, major int) {
		a := newPrimary(t, major)
		b := standbyOf(t, a, a, nil)
		const refused = "--primary-only waits for a primary"
		archive := newArchive(t)
		r := newReceiver(t, a, "--archive", archive, "--primary-only", "-v").start()
		late := fresh(t, b, "--primary-only", "-v")
		late.launch()
		late.retries(3, refused)
		mark(a, "1")
		r.flushed()

		// a is demoted, and r knows no other host.
		a.Stop(pgtest.Fast)
		b.Promote()
		a.Follow(b)
		a.Start()
		late.streams()
		mark(b, "2")
		late.flushed()
		a.WaitFor("select count(*) from mark", "2", patience)
		pgtest.Eventually(t, patience, func() bool { return len(r.logged(refused)) >= 3 }, "the demoted server is not refused")
		if n := a.Query("select count(*) from pg_stat_replication where state = 'streaming'"); n != "0" {
			t.Errorf("%s receivers stream from the demoted server", n)
		}

		// a is the primary again.
		b.Stop(pgtest.Fast)
		a.Promote()
		b.Follow(a)
		b.Start()
		mark(a, "3")
		r.flushed()
		awaitArchived(t, a, archive)
		r.stop()
		late.stop()
		for i, r := range []*receiver{r, late} {
			r.undisturbed()
			if n := len(r.alarms(refused)); n == 0 {
				t.Errorf("receiver %d has not warned of the demoted server", i)
			}
		}
		// What nobody streamed while b was the primary came from a, which has it all.
		w := archiveOf(t, a, archive)
		for tli, h := range []string{"00000002.history", "00000003.history"} {
			if got := readFile(t, w.dir+"/"+h); string(got) != string(readFile(t, a.WALFile(h))) {
				t.Errorf("the history of timeline %d is not the server's", tli+2)
			}
		}
	})
}

// TestPrimaryOnlyAmongHosts follows the primary role from one host to the other.
func TestPrimaryOnlyAmongHosts(t *testing.T) {
	t.Parallel()
	eachMajor(t, func(t *testing.T, major int) {
		a := newPrimary(t, major)
		b := standbyOf(t, a, a, nil)
		r := newReceiver(t, a, "--archive", newArchive(t), "--primary-only", "-d", allOf(b, a)).start()
		r.streamsFrom(a, b)
		for range 2 {
			a.Stop(pgtest.Fast)
			b.Promote()
			a.Follow(b)
			a.Start()
			r.streamsFrom(b, a)
			a, b = b, a
		}
		fill(a, 2)
		r.reaches(a, a.FlushLSN())
		r.stop()
		r.undisturbed()
	})
}

// TestFailoverPassesOverWhoIsBehind: an old primary that came back by itself, and a
// standby that lags, are no reason to end or to wait while another host will do.
func TestFailoverPassesOverWhoIsBehind(t *testing.T) {
	t.Parallel()
	eachMajor(t, func(t *testing.T, major int) {
		a := newPrimary(t, major)
		b := standbyOf(t, a, a, nil)
		lagging := standbyOf(t, a, a, nil)
		disconnect(lagging)
		r := newReceiver(t, b, "-v", "--archive", newArchive(t), "--primary-only", "-d", allOf(a, b)).start()
		mark(a, "1")
		r.reaches(a, a.FlushLSN())
		follows(b, "1")
		a.Kill9()
		b.Promote()
		mark(b, "2")
		r.flushed()

		a.Start()
		const again = "select pg_terminate_backend(pid) from pg_stat_replication"
		b.Exec(again)
		mark(b, "3")
		r.flushed()
		if len(r.alarms("passed over a server")) != 1 {
			t.Error("nothing is said of the stale primary")
		}

		// With the old one alone it waits for the new one.
		b.Stop(pgtest.Fast)
		waits := func() []record { return r.logged("trying again", "the server that can be reached is behind") }
		pgtest.Eventually(t, patience, func() bool { return len(waits()) >= 4 }, "it does not wait")
		if n := len(r.alarms("trying again", "the server that can be reached is behind")); n != 1 {
			t.Errorf("%d warnings of one state", n)
		}
		b.Start()
		mark(b, "4")
		r.flushed()
		r.stop()
		r.undisturbed()

		r.args = append(r.args, "-d", allOf(lagging, b)+" target_session_attrs=any")
		for i, arg := range r.args {
			if arg == "--primary-only" {
				r.args = append(r.args[:i], r.args[i+1:]...)
				break
			}
		}
		r.start()
		r.streamsFrom(b, lagging)
		r.flushed()
		r.stop()
	})
}

// TestFailoverFromAFrozenHost: the first host takes connections and says nothing,
// as a machine does whose disk hangs. connect_timeout bounds that.
func TestFailoverFromAFrozenHost(t *testing.T) {
	t.Parallel()
	eachMajor(t, func(t *testing.T, major int) {
		a := newPrimary(t, major)
		b := standbyOf(t, a, a, nil)
		b.Promote()
		if err := syscall.Kill(a.PID(), syscall.SIGSTOP); err != nil { // its children have nothing to say here
			t.Fatal(err)
		}
		r := newReceiver(t, b, "--primary-only", "-d", allOf(a, b)+" connect_timeout=2").start()
		mark(b, "1")
		r.flushed()
		r.stop()
	})
}
