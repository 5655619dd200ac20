package integration

import (
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/pgtest"
	"github.com/walrecv/walrecv/internal/s3test"
)

// TestBothMachinesLost kills primary and receiver under load and removes what they
// had on disk. S3 alone gives back what was committed some time before; with
// --ack=archive and synchronous commits, all that was acknowledged.
func TestBothMachinesLost(t *testing.T) {
	rounds := 1
	if pgtest.Long() {
		rounds = 10
	}
	seed := rand.Uint64()
	t.Logf("seed %d, %d rounds each", seed, rounds)
	rng := rand.New(rand.NewPCG(seed, 0))
	for _, synchronous := range []bool{false, true} {
		name := "tail"
		if synchronous {
			name = "acknowledged"
		}
		t.Run(name, func(t *testing.T) {
			for round := range rounds {
				wait := time.Duration(rng.Int64N(int64(2 * time.Second)))
				t.Run(fmt.Sprint(round), func(t *testing.T) { loseBoth(t, synchronous, wait) })
			}
		})
	}
}

// loseBoth is one round: the load runs for a while, and then all is lost.
func loseBoth(t *testing.T, synchronous bool, wait time.Duration) {
	late := time.Second + pgtest.Allow(time.Second) // the tail interval, and a bit
	s := s3test.Start(t)
	c := pgtest.New(t, pgtest.Options{Major: pgtest.Version(t), WALSegmentSize: 1 << 20, Settings: map[string]string{"max_wal_size": "1GB"}})
	c.Start()
	c.Exec("create table acked(row text primary key, filler text)")
	args := []string{"--archive", s.URL("wal")}
	if synchronous {
		args = append(args, "--ack", "archive", "--synchronous")
	}
	r := newReceiver(t, c, args...)
	r.env = s.Environ()
	r.start()
	backup := c.BaseBackup(t, "").Dir
	pause, runs := 10*time.Millisecond, late+time.Second+wait
	if synchronous {
		c.Set(map[string]string{"synchronous_standby_names": "walrecv"})
		c.Reload()
		c.WaitFor("select sync_state from pg_stat_replication", "sync", patience)
		pause, runs = 0, time.Second+wait
	}
	load := startClientsOn(t, c.ConnString("postgres"), 6, pause)
	load.more(t, 50)
	pauseFor(t.Context(), runs)

	lost := time.Now()
	want := load.rowsBefore(lost.Add(-late))
	c.Kill9()
	r.Kill()
	load.stop()
	if synchronous {
		want = load.rows()
	}
	for _, dir := range []string{c.DataDir, r.spool} {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	all := len(load.rows())
	n := c.Recover(t, backup, map[string]string{"restore_command": s3Command(r.bin, s, s.URL("wal"), "")})
	defer n.Destroy()
	gone := missing(n, want)
	t.Logf("%d rows were acknowledged, %d of them must be there, %d of all are not", all, len(want), len(missing(n, load.rows())))
	if len(gone) > 0 {
		t.Errorf("%d of %d rows are missing, the first is %s", len(gone), len(want), gone[0])
	}
	if len(want) == 0 {
		t.Error("nothing was shown")
	}
	checkHeapAndIndexes(t, n)
}
