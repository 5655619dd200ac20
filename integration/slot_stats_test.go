package integration

import (
	"fmt"
	"math"
	"testing"

	"github.com/walrecv/walrecv/internal/pgtest"
)

// slotStatus is the metric that says what the slot's status is.
func slotStatus(status string) string { return fmt.Sprintf("slot_wal_status{status=%q}", status) }

// What is told of the slot is what the server says of it, up to its loss, to a role
// that has no right but to replicate and to connect; also while nothing is streamed.
func TestSlotStats(t *testing.T) {
	t.Parallel()
	for _, major := range pgtest.Versions(t) {
		t.Run(fmt.Sprintf("pg%d", major), func(t *testing.T) {
			t.Parallel()
			settings := forgetful()
			settings["max_slot_wal_keep_size"] = "4MB"
			c := smallWith(t, pgtest.Options{Major: major, Settings: settings})
			c.Exec("create role sender login replication")
			wire := newWire(t, c)
			r := watched(fresh(t, c, append(wire.args(), "-U", "sender", "-S", "walrecv", "--ensure-slot")...), "--slot-stats").start()
			emit(c, 1500)
			r.flushed()
			r.metricBecomes(slotStatus("reserved"), is(1))
			r.metricBecomes("slot_active", is(1))
			r.metricBecomes(fmt.Sprintf("cluster_info{system_identifier=%q}", c.SystemID()), is(1))

			r.keptOut(c, wire, func() { emit(c, 2500) })
			about := func(what string) func(float64) bool { // the server writes a little by itself
				n := queryNumber(c, t, "select "+what+" from pg_replication_slots where slot_name = 'walrecv'")
				return func(v float64) bool { return math.Abs(v-n) < 64<<10 }
			}
			r.metricBecomes("slot_retained_bytes", about("pg_current_wal_lsn() - restart_lsn"))
			r.metricBecomes("slot_safe_wal_bytes", about("safe_wal_size"))

			c.Exec("alter role sender replication")
			r.metricBecomes("streaming", is(1))
			r.keptOut(c, wire, func() { lose(t, c, "walrecv") })
			r.metricBecomes(slotStatus("lost"), is(1))
			r.becomes("/readyz", 200, "the server has invalidated the replication slot")
			if pgtest.Long() {
				dropSlot(c, "walrecv")
				r.metricBecomes(slotStatus("missing"), is(1))
			}
			r.stop()
		})
	}
}
