package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
)

// row is one row of the clients' table.
type row struct {
	client, n int
	payload   string
}

// rowsOf reads the clients' table.
func rowsOf(ctx context.Context, c *cluster) ([]row, error) {
	values, err := c.query(ctx, "select client, n, payload from demo_rows")
	if err != nil {
		return nil, err
	}
	rows := make([]row, len(values))
	for i, v := range values {
		client, err1 := strconv.Atoi(string(v[0]))
		n, err2 := strconv.Atoi(string(v[1]))
		if err := errors.Join(err1, err2); err != nil {
			return nil, err
		}
		rows[i] = row{client, n, string(v[2])}
	}
	return rows, nil
}

// compare judges the restored rows by what the clients saw. Every row that a
// client saw committed has to be there. One that was sent last, and not
// answered, may be there. Nothing else may. It returns how many rows of the
// second kind are there.
func compare(restored []row, clients []*client) (inDoubt int, err error) {
	there := map[[2]int]string{}
	for _, r := range restored {
		there[[2]int{r.client, r.n}] = r.payload
	}
	missing, altered := 0, 0
	for _, c := range clients {
		sent, seen := int(c.sent.Load()), int(c.seen.Load())
		for n := 1; n <= sent; n++ {
			key := [2]int{c.id, n}
			got, ok := there[key]
			switch {
			case !ok && n <= seen:
				missing++
			case ok && got != payload(c.seed, c.id, n):
				altered++
			case ok && n > seen:
				inDoubt++
			}
			delete(there, key)
		}
	}
	if missing+altered+len(there) > 0 {
		return 0, fmt.Errorf("of the rows that clients saw committed, %d are missing; %d rows are altered; %d rows were sent by nobody",
			missing, altered, len(there))
	}
	return inDoubt, nil
}

// benchSums are zero in a database in which every transaction of pgbench is
// whole.
const benchSums = `select
	(select sum(abalance) from pgbench_accounts) - (select sum(delta) from pgbench_history),
	(select sum(bbalance) from pgbench_branches) - (select sum(delta) from pgbench_history),
	(select sum(tbalance) from pgbench_tellers) - (select sum(delta) from pgbench_history),
	(select count(*) from pgbench_history)`

// compareBench judges the restored tables of pgbench by how many transactions
// it saw committed. It returns how many more there are.
func compareBench(ctx context.Context, c *cluster, seen int64) (inDoubt int64, err error) {
	rows, err := c.query(ctx, benchSums)
	if err != nil {
		return 0, err
	}
	for i, table := range []string{"pgbench_accounts", "pgbench_branches", "pgbench_tellers"} {
		if string(rows[0][i]) != "0" {
			return 0, fmt.Errorf("the balances of %s and the history of pgbench differ by %s", table, rows[0][i])
		}
	}
	there, err := strconv.ParseInt(string(rows[0][3]), 10, 64)
	if err != nil {
		return 0, err
	}
	if there < seen || there > seen+benchClients {
		return 0, fmt.Errorf("pgbench saw %d transactions committed, and %d are there", seen, there)
	}
	return there - seen, nil
}

// checkDatabase runs pg_amcheck: every table and index has to be sound.
func checkDatabase(ctx context.Context, c *cluster) error {
	if err := c.exec(ctx, "create extension amcheck"); err != nil {
		return err
	}
	return c.s.tool(ctx, c.environment(), c.pg.program("pg_amcheck"), "--heapallindexed", "--jobs", "2", "postgres")
}

// digest is the SHA-256 of a segment's bytes.
type digest = [sha256.Size]byte

// digestSegments reads the primary's own files of the segments that the archive
// holds. One that the primary has removed is left out.
func digestSegments(c *cluster, archived []string) (map[string]digest, error) {
	found := map[string]digest{}
	for _, file := range archived {
		data, err := os.ReadFile(filepath.Join(c.dir(), "pg_wal", segmentOf(file)))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		found[segmentOf(file)] = sha256.Sum256(data)
	}
	return found, nil
}

// compareSegments unpacks archived segments with zstd, without walrecv, and
// compares them with the primary's.
func compareSegments(ctx context.Context, s *stage, archived []string, want map[string]digest) (compared int, err error) {
	for _, file := range archived {
		digest, ok := want[segmentOf(file)]
		if !ok {
			continue
		}
		got := sha256.New()
		var complaint bytes.Buffer
		cmd := s.command(ctx, "zstd", "-d", "-c", "-q", file)
		cmd.Stdout, cmd.Stderr = got, &complaint
		err := cmd.Run()
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		if err != nil {
			return 0, fmt.Errorf("zstd -d %s: %w: %s", filepath.Base(file), err, bytes.TrimSpace(complaint.Bytes()))
		}
		if !bytes.Equal(got.Sum(nil), digest[:]) {
			return 0, fmt.Errorf("zstd -d %s does not give the bytes of the primary's segment", filepath.Base(file))
		}
		compared++
	}
	if compared < len(want) {
		return 0, fmt.Errorf("%d archived segments are gone from the archive", len(want)-compared)
	}
	return compared, nil
}
