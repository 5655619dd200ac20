package integration

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walrecv/walrecv/internal/pgtest"
)

// restoreCommand is what the documentation tells users to configure.
func restoreCommand(bin, args string) string {
	return `answer() { r=$?; [ $r -le 1 ] || [ $r -ge 126 ] || r=200; exit $r; }; trap answer EXIT; ` + bin + ` restore ` + args + ` %f %p`
}

// clients commit rows one by one and remember those whose COMMIT was answered.
type clients struct {
	cancel context.CancelFunc
	pause  time.Duration
	wg     sync.WaitGroup

	mu           sync.Mutex
	acknowledged []string // client:number
	at           []time.Time
}

// startClients begins to commit on a server, as fast as it goes; see
// startClientsOn.
func startClients(t testing.TB, c *pgtest.Cluster, n int) *clients {
	t.Helper()
	return startClientsOn(t, c.ConnString("postgres"), n, 0)
}

// startClientsOn begins to commit, with synchronous_commit=on and a pause after
// each commit. A client whose connection breaks connects again, for as long as it
// is not stopped.
func startClientsOn(t testing.TB, conninfo string, n int, pause time.Duration) *clients {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cs := &clients{cancel: cancel, pause: pause}
	t.Cleanup(cs.stop)
	for client := range n {
		name := fmt.Sprintf("%d-%d", time.Now().UnixNano(), client)
		cs.wg.Go(func() {
			for i := 0; ctx.Err() == nil; i = cs.commit(ctx, conninfo, name, i) {
				select { // not to spin while the server is down
				case <-ctx.Done():
				case <-time.After(20 * time.Millisecond):
				}
			}
		})
	}
	return cs
}

// commit uses one connection for as long as it holds, and returns the number to
// go on with.
func (cs *clients) commit(ctx context.Context, conninfo, client string, i int) int {
	conn, err := pgconn.Connect(ctx, conninfo)
	if err != nil {
		return i
	}
	defer conn.Close(context.Background())
	for ctx.Err() == nil {
		row := fmt.Sprintf("%s:%d", client, i)
		i++
		// A notice after the commit would say that it did not wait.
		_, err := conn.Exec(ctx, fmt.Sprintf("insert into acked values ('%s', repeat('x', %d))", row, i%900)).ReadAll()
		if err != nil {
			return i
		}
		cs.mu.Lock()
		cs.acknowledged = append(cs.acknowledged, row)
		cs.at = append(cs.at, time.Now())
		cs.mu.Unlock()
		time.Sleep(cs.pause)
	}
	return i
}

// more waits for that many more acknowledged rows.
func (cs *clients) more(t testing.TB, n int) {
	t.Helper()
	want := len(cs.rows()) + n
	pgtest.Eventually(t, patience, func() bool { return len(cs.rows()) >= want }, "the clients do not come on")
}

func (cs *clients) stop() {
	cs.cancel()
	cs.wg.Wait()
}

// rowsBefore are those that were acknowledged before a time.
func (cs *clients) rowsBefore(t time.Time) []string {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	var rows []string
	for i, row := range cs.acknowledged {
		if cs.at[i].Before(t) {
			rows = append(rows, row)
		}
	}
	return rows
}

func (cs *clients) rows() []string {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	return append([]string(nil), cs.acknowledged...)
}

// missing are the acknowledged rows that a cluster does not have.
func missing(c *pgtest.Cluster, acknowledged []string) []string {
	have := map[string]bool{}
	for _, row := range c.QueryRows("select row from acked") {
		have[row[0]] = true
	}
	var lost []string
	for _, row := range acknowledged {
		if !have[row] {
			lost = append(lost, row)
		}
	}
	return lost
}

// checkHeapAndIndexes runs pg_amcheck over everything.
func checkHeapAndIndexes(t testing.TB, c *pgtest.Cluster) {
	t.Helper()
	c.Exec("create extension if not exists amcheck")
	if c.Major < 14 { // whose amcheck knows indexes only, and what the heap has of them
		c.Exec("select bt_index_check(i.indexrelid, true) from pg_index i join pg_class x on x.oid = i.indexrelid " +
			"join pg_am m on m.oid = x.relam where m.amname = 'btree' and x.relpersistence = 'p' and i.indisvalid")
		return
	}
	p := c.Command(t, "pg_amcheck", "--heapallindexed", "--no-dependent-indexes", "postgres").Start()
	if code := p.Wait(patience); code != 0 {
		t.Errorf("pg_amcheck ended with %d: %s%s", code, p.Stdout(), p.Stderr())
	}
}

// With walrecv as the only synchronous standby no acknowledged commit is lost,
// whoever is killed when.
func TestNoAcknowledgedCommitIsLost(t *testing.T) {
	rounds := 4
	if pgtest.Long() {
		rounds = 20
	}
	for _, major := range pgtest.Versions(t) {
		t.Run(fmt.Sprintf("pg%d", major), func(t *testing.T) {
			seed := rand.Uint64()
			t.Logf("seed %d, %d rounds", seed, rounds)
			killRounds(t, major, rounds, rand.New(rand.NewPCG(seed, 0)))
		})
	}
}

func killRounds(t *testing.T, major, rounds int, rng *rand.Rand) {
	c := pgtest.New(t, pgtest.Options{
		Major: major, WALSegmentSize: 1 << 20,
		// A slot keeps what a killed receiver still needs.
		Settings: map[string]string{"max_wal_size": "200MB"},
	})
	c.Start()
	c.Exec("create table acked(row text primary key, filler text)")
	archive := filepath.Join(pgtest.TempDir(t), "archive")
	if err := os.Mkdir(archive, 0o700); err != nil {
		t.Fatal(err)
	}
	pgtest.Give(t, archive)
	r := newReceiver(t, c, "--synchronous", "--archive", archive).start()
	backup := filepath.Join(pgtest.TempDir(t), "backup")
	c.BaseBackup(t, backup)
	c.Set(map[string]string{"synchronous_standby_names": "walrecv"})
	c.Reload()
	c.WaitFor("select sync_state from pg_stat_replication", "sync", patience)

	load := startClients(t, c, 6)
	restored := 0
	for round := range rounds {
		load.more(t, 100+rng.IntN(1500))
		if rng.IntN(2) == 0 && round != rounds-1 {
			r.Kill()
			r.start()
			continue
		}
		c.Kill9()
		acknowledged := load.rows()
		restored++
		checkRestored(t, c, backup, restoreCommand(r.bin, "--archive "+archive+" --spool "+r.spool), acknowledged)
		c.Start()
		c.WaitFor("select coalesce(max(sync_state), '') from pg_stat_replication", "sync", patience)
	}
	load.stop()
	t.Logf("%d rows acknowledged, restored %d times", len(load.rows()), restored)
	r.stop()
}

// checkRestored recovers a base backup to the end of what was kept, and looks
// for every acknowledged row.
func checkRestored(t *testing.T, c *pgtest.Cluster, backup, command string, acknowledged []string) {
	t.Helper()
	n := c.Recover(t, backup, map[string]string{"restore_command": command})
	defer n.Destroy()
	if lost := missing(n, acknowledged); len(lost) > 0 {
		t.Errorf("%d of %d acknowledged rows are missing, the first is %s", len(lost), len(acknowledged), lost[0])
	}
	checkHeapAndIndexes(t, n)
}
