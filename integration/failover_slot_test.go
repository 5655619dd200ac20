package integration

import (
	"testing"

	"github.com/walrecv/walrecv/internal/pgtest"
)

// handOver is a promotion that a receiver with a slot has to go along with; the
// new primary has no such slot.
type handOver struct {
	old, new *pgtest.Cluster
	receiver *receiver
	archive  string
	first    string
	kept     string
}

func newHandOver(t *testing.T, major int) *handOver {
	t.Helper()
	h := &handOver{old: newPrimary(t, major), archive: newArchive(t), kept: pgtest.TempDir(t)}
	h.new = standbyOf(t, h.old, h.old, nil)
	h.first = walFile(h.old)
	h.receiver = fresh(t, h.new, "-S", "walrecv", "--archive", h.archive, "-v", "-d", allOf(h.old, h.new)+" target_session_attrs=primary")
	return h
}

// promote loses the old primary, after the receiver has archived something.
func (h *handOver) promote(t *testing.T) {
	t.Helper()
	fill(h.old, 2)
	h.receiver.reaches(h.old, h.old.FlushLSN())
	h.new.WaitFor("select pg_last_wal_replay_lsn() >= '"+h.old.FlushLSN()+"'", "t", patience)
	h.old.Kill9()
	keepWAL(t, h.kept, h.old, 1)
	h.new.Promote()
	mark(h.new, "child")
}

// whole checks that there is no hole after all.
func (h *handOver) whole(t *testing.T) {
	t.Helper()
	fill(h.new, 2)
	h.receiver.reaches(h.new, h.new.FlushLSN())
	last := awaitArchived(t, h.new, h.archive)
	h.receiver.stop()
	keepWAL(t, h.kept, h.new, 2)
	w := archiveOf(t, h.new, h.archive)
	w.isWhole(w.history(h.kept, 2), h.kept, h.first, last)
}

// TestFailoverMakesTheSlot: with --ensure-slot the new primary gets the slot, and
// the log says from where to where, and for how long, nothing held WAL back.
func TestFailoverMakesTheSlot(t *testing.T) {
	t.Parallel()
	eachMajor(t, func(t *testing.T, major int) {
		h := newHandOver(t, major)
		h.receiver.args = append(h.receiver.args, "--ensure-slot")
		h.receiver.start()
		h.promote(t)
		h.whole(t)
		if n := h.new.Query("select count(*) from pg_replication_slots where slot_name = 'walrecv' and restart_lsn is not null"); n != "1" {
			t.Error("the new primary has no slot that holds WAL back")
		}
		if n := len(h.receiver.alarms("slot was missing", "held_until", "slot_from", "unprotected_for")); n != 1 {
			t.Errorf("the time without protection was told of %d times, want 1", n)
		}
	})
}

// TestFailoverWaitsForTheSlot: without --ensure-slot a receiver that has streamed
// waits for whoever makes the slot, and one that starts ends with 5.
func TestFailoverWaitsForTheSlot(t *testing.T) {
	t.Parallel()
	eachMajor(t, func(t *testing.T, major int) {
		h := newHandOver(t, major)
		h.old.Exec("select pg_create_physical_replication_slot('walrecv', true)")
		h.receiver.start()
		h.promote(t)
		pgtest.Eventually(t, patience, func() bool { return len(h.receiver.logged("not streaming", `slot \"walrecv\"`)) >= 3 },
			"it does not wait for the slot")
		if n := len(h.receiver.alarms("not streaming", `slot \"walrecv\"`)); n != 1 {
			t.Errorf("%d warnings of the missing slot, want 1", n)
		}
		if n := h.new.Query("select count(*) from pg_replication_slots"); n != "0" {
			t.Error("it has made a slot that nobody asked for")
		}
		h.new.Exec("select pg_create_physical_replication_slot('walrecv', true)")
		h.receiver.reaches(h.new, h.new.FlushLSN())
		h.receiver.stop()

		dropSlot(h.new, "walrecv")
		files := treeOf(t, h.archive)
		h.receiver.ends(5, `slot "walrecv"`, "--ensure-slot")
		elsewhere := fresh(t, h.new, h.receiver.args[3:]...)
		elsewhere.ends(5, `slot "walrecv"`, "--ensure-slot")
		sameFiles(t, treeOf(t, h.archive), files)

		h.new.Exec("select pg_create_physical_replication_slot('walrecv', true)")
		h.receiver.start()
		h.whole(t)
	})
}
