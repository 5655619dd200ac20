package integration

import (
	"slices"
	"strings"

	"github.com/walrecv/walrecv/internal/backup"
)

// deletes checks that backups can be deleted, as long as nothing is lost with them.
func (b *backups) deletes() {
	b.t.Helper()
	run := func(want int, says string, args ...string) {
		b.t.Helper()
		code, stdout, stderr := withStore(b.t, b.env, append([]string{"backup", "delete", "--archive", b.url}, args...)...)
		if code != want || !strings.Contains(stdout+stderr, says) {
			b.t.Errorf("backup delete %v: exit code %d, %s%s; want %d and %q", args, code, stdout, stderr, want, says)
		}
	}
	all := slices.DeleteFunc(b.list(), func(l backup.Line) bool { return l.State != backup.Good })
	if len(all) < 3 {
		b.t.Fatalf("%d backups are too few to delete some", len(all))
	}
	run(1, "nothing could be recovered to", all[0].ID, "--window", "1d")
	run(0, "is deleted", all[0].ID)
	run(1, "there is no base backup "+all[0].ID, all[0].ID)
	last := len(all) - 1
	for _, line := range all[1:last] {
		run(0, "is deleted", line.ID)
	}
	run(1, "nothing could be restored without it", all[last].ID)
	b.isTheServers(all[last].ID)
	run(0, "is deleted", "--force", all[last].ID)
	if left := b.good(); left > 0 {
		b.t.Errorf("%d backups are left", left)
	}
}
