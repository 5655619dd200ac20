package receiver

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// commandTimeout bounds a command that only asks something: a server that is
// stopped keeps its connections and says nothing.
const commandTimeout = time.Minute

// simpleQuery runs one command over the simple protocol, the only one that a
// walsender knows, and reads up to ReadyForQuery also where the command fails:
// an error of the server leaves the connection usable. A nil value is NULL.
func simpleQuery(ctx context.Context, conn *pgconn.PgConn, command string) (rows [][][]byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	results, err := conn.Exec(ctx, command).ReadAll()
	if err != nil {
		return nil, err
	}
	if len(results) != 1 {
		return nil, fmt.Errorf("the server answered with %d results instead of one", len(results))
	}
	return results[0].Rows, nil
}

// singleRow runs a command that has one row of at least the given columns.
func singleRow(ctx context.Context, conn *pgconn.PgConn, command string, columns int) ([][]byte, error) {
	rows, err := simpleQuery(ctx, conn, command)
	if err != nil {
		return nil, err
	}
	if len(rows) != 1 {
		return nil, fmt.Errorf("the server answered with %d rows instead of one", len(rows))
	}
	if len(rows[0]) < columns {
		return nil, fmt.Errorf("the server answered with %d columns instead of %d", len(rows[0]), columns)
	}
	return rows[0], nil
}

// Show reads a setting of the server, over any connection. Walsenders know SHOW in upper case only.
func Show(ctx context.Context, conn *pgconn.PgConn, name string) (string, error) {
	row, err := singleRow(ctx, conn, "SHOW "+name, 1)
	if err != nil {
		return "", fmt.Errorf("SHOW %s: %w", name, err)
	}
	return string(row[0]), nil
}

// quoteIdent quotes an identifier. Slot names are always quoted: without quotes
// a name that begins with a digit is a syntax error.
func quoteIdent(name string) string {
	return `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
}

// quoteLiteral quotes a string for SQL.
func quoteLiteral(text string) string {
	return `'` + strings.ReplaceAll(text, `'`, `''`) + `'`
}
