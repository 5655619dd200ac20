package integration

import (
	"strings"
	"testing"

	"github.com/walrecv/walrecv/internal/pgtest"
)

// walrecv slot, against every server.
func TestSlotCommands(t *testing.T) {
	t.Parallel()
	eachMajor(t, func(t *testing.T, major int) {
		c := small(t, major, nil)
		run := func(want int, args ...string) (stdout string) {
			t.Helper()
			code, stdout, stderr := pgtest.Run(t, pgtest.Build(t), append(args, "-d", c.ReplConn())...)
			if code != want {
				t.Errorf("walrecv %q: exit %d, stderr %q; want %d", args, code, stderr, want)
			}
			return stdout
		}
		run(0, "slot", "create", "archiver")
		reserved := c.Query("select restart_lsn from pg_replication_slots where slot_name = 'archiver' and slot_type = 'physical'")
		if shown := run(0, "slot", "show", "archiver"); reserved == "" || !strings.Contains(shown, "restart_lsn  "+reserved+"\n") {
			t.Errorf("the server says restart_lsn %q; shown:\n%s", reserved, shown)
		}
		run(1, "slot", "create", "archiver")
		run(0, "slot", "create", "archiver", "--if-not-exists")
		run(0, "slot", "drop", "archiver")
		run(1, "slot", "drop", "archiver")
		if left := c.Query("select count(*) from pg_replication_slots"); left != "0" {
			t.Errorf("%s slots are left", left)
		}
	})
}
