package integration

import (
	"fmt"
	"strings"
	"testing"

	"github.com/walrecv/walrecv/internal/pgtest"
)

// round is one or more promotions, and the way back of the servers that failed.
type round struct {
	ends   []end // the receiver does not see what happens if there are several
	rejoin func(tr *trio, c *pgtest.Cluster)
}

// TestFailover follows one promotion after the other, with one receiver that is
// never restarted, and restores moments of every timeline from what it archived.
func TestFailover(t *testing.T) {
	t.Parallel()
	rounds := []round{
		{ends: []end{killed}, rejoin: rewound},
		{ends: []end{switchedOver}, rejoin: asItIs},
		{ends: []end{onBorder}, rejoin: anew},
	}
	if pgtest.Long() {
		rounds = append(rounds, []round{
			{ends: []end{killed, killed}, rejoin: anew},
			{ends: []end{onBorder}, rejoin: anew},
			{ends: []end{switchedOver}, rejoin: asItIs},
			{ends: []end{onBorder, killed}, rejoin: rewound},
			{ends: []end{killedLongAgo}, rejoin: rewound},
		}...)
	}
	for _, major := range pgtest.FewVersions(t) {
		t.Run(fmt.Sprintf("pg%d", major), func(t *testing.T) {
			t.Parallel()
			failover(t, major, rounds)
		})
	}
}

func failover(t *testing.T, major int, rounds []round) {
	tr := newTrio(t, major)
	for _, r := range rounds {
		if rewindOf(t, major) == "" {
			r.rejoin = anew
		}
		tr.moment()
		tr.moment()
		release := func() {}
		if len(r.ends) > 1 {
			release = tr.hold()
		}
		for i, how := range r.ends {
			if i > 0 {
				tr.moment()
			}
			tr.promote(how)
		}
		tr.rejoin(r.rejoin)
		release()
	}
	tr.moment()
	end := tr.finish()
	t.Logf("seconds from the promotion, and from its request, until WAL was flushed by the receiver: %s", strings.Join(tr.took, ", "))
	a := archiveOf(t, tr.primary, tr.archive)
	a.isWhole(a.history(tr.kept, tr.timeline), tr.kept, tr.first, lastOf(t, tr.primary, tr.archive))
	tr.recoversAll(end)
}

// lastOf is the newest complete segment of a server's timeline in the archive.
func lastOf(t testing.TB, c *pgtest.Cluster, archive string) string {
	t.Helper()
	a := archiveOf(t, c, archive)
	names := a.segments(a.name(walFile(c)).Timeline)
	return names[len(names)-1].Format(a.size)
}
