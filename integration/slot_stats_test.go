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
			conn := fmt.Sprintf("host=127.0.0.1 port=%d user=sender", c.Port)
			r := watched(fresh(t, c, "-d", conn, "-S", "walrecv", "--ensure-slot"), "--slot-stats").start()
			emit(c, 1500)
			r.flushed()
			r.metricBecomes(slotStatus("reserved"), is(1))
			r.metricBecomes("slot_active", is(1))
			r.metricBecomes(fmt.Sprintf("cluster_info{system_identifier=%q}", c.SystemID()), is(1))

			// The receiver is kept out, and the slot with what it holds back stays behind.
			c.Exec("alter role sender noreplication")
			c.Exec("select pg_terminate_backend(pid) from pg_stat_replication")
			r.metricBecomes("slot_active", is(0))
			emit(c, 2500)
			slot := func(what string) float64 {
				return queryNumber(c, t, "select "+what+" from pg_replication_slots where slot_name = 'walrecv'")
			}
			retained, safe := slot("pg_current_wal_lsn() - restart_lsn"), slot("safe_wal_size")
			about := func(n float64) func(float64) bool { // the server writes a little by itself
				return func(v float64) bool { return math.Abs(v-n) < 64<<10 }
			}
			r.metricBecomes("slot_retained_bytes", about(retained))
			r.metricBecomes("slot_safe_wal_bytes", about(safe))
			lose(t, c, "walrecv")
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
