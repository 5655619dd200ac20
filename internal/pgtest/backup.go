package pgtest

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// controlFile is where a data directory keeps the state of its cluster.
const controlFile = "global/pg_control"

// Backup is a base backup: a copy of a data directory without WAL.
type Backup struct {
	Dir      string
	StartLSN string // where recovery from it begins to read
	StopLSN  string // from where on it is consistent
}

// BaseBackup copies the data directory of the running server into dest, which
// must not exist ("" for a directory of the test), between pg_backup_start and
// pg_backup_stop. The WAL from StartLSN to StopLSN is not in it.
func (c *Cluster) BaseBackup(t testing.TB, dest string) Backup {
	t.Helper()
	if dest == "" {
		dest = filepath.Join(c.run.tempDir(t, c.run.data), "backup")
	}
	b := Backup{Dir: dest}
	ctx, cancel := context.WithTimeout(t.Context(), sqlWithin)
	defer cancel()
	conn, err := pgconn.Connect(ctx, c.SocketConn("postgres"))
	if err == nil {
		err = c.backupOver(ctx, conn, &b)
		err = errors.Join(err, conn.Close(ctx))
	}
	if err != nil {
		t.Fatalf("base backup: %v", err)
	}
	return b
}

// backupOver needs one connection for the whole backup: the server ends the
// backup with it.
func (c *Cluster) backupOver(ctx context.Context, conn *pgconn.PgConn, b *Backup) error {
	start := "select pg_backup_start('pgtest', true)"
	stop := "select lsn, labelfile, spcmapfile from pg_backup_stop(false)"
	if c.Major < 15 {
		start = "select pg_start_backup('pgtest', true, false)"
		stop = "select lsn, labelfile, spcmapfile from pg_stop_backup(false, false)"
	}
	rows, err := queryOn(ctx, conn, start)
	if err != nil {
		return err
	}
	b.StartLSN = rows[0][0]
	if err := c.run.copyTree(c.DataDir, b.Dir, inBackup); err != nil {
		return err
	}
	// Last, so that it is not older than any other file of the copy.
	control := filepath.Join(c.DataDir, controlFile)
	if err := c.run.copyFile(control, filepath.Join(b.Dir, controlFile), 0o600); err != nil {
		return err
	}
	if rows, err = queryOn(ctx, conn, stop); err != nil {
		return err
	}
	b.StopLSN = rows[0][0]
	if rows[0][2] != "" {
		return fmt.Errorf("the cluster has tablespaces, which the copy does not: %s", rows[0][2])
	}
	return c.run.writeFile(filepath.Join(b.Dir, "backup_label"), []byte(rows[0][1]))
}

// inBackup leaves out of a base backup what the manual lists.
func inBackup(rel string, isDir bool) share {
	dir, name := filepath.Split(rel)
	switch filepath.Clean(dir) {
	case "pg_wal":
		if isDir { // the server wants its own directories there
			return empty
		}
		return nothing
	case "pg_replslot", "pg_dynshmem", "pg_notify", "pg_serial", "pg_snapshots", "pg_stat_tmp", "pg_subtrans":
		return nothing
	}
	switch {
	case rel == "postmaster.pid", rel == "postmaster.opts", rel == controlFile,
		strings.HasPrefix(name, "pgsql_tmp"), strings.HasPrefix(name, "pg_internal.init"):
		return nothing
	}
	return whole
}
