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

// table is the result of one command. A nil value is NULL.
type table struct {
	columns []string
	rows    [][][]byte
}

// simpleQuery runs one command over the simple protocol, the only one that a
// walsender knows, and reads up to ReadyForQuery also where the command fails:
// an error of the server leaves the connection usable.
func simpleQuery(ctx context.Context, conn *pgconn.PgConn, command string) (table, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	results, err := conn.Exec(ctx, command).ReadAll()
	if err != nil {
		return table{}, err
	}
	if len(results) != 1 {
		return table{}, fmt.Errorf("the server answered with %d results instead of one", len(results))
	}
	t := table{rows: results[0].Rows}
	for _, field := range results[0].FieldDescriptions {
		t.columns = append(t.columns, field.Name)
	}
	return t, nil
}

// singleRow runs a command that has one row of at least the given columns.
func singleRow(ctx context.Context, conn *pgconn.PgConn, command string, columns int) ([][]byte, error) {
	t, err := simpleQuery(ctx, conn, command)
	if err != nil {
		return nil, err
	}
	if len(t.rows) != 1 || len(t.rows[0]) < columns {
		return nil, fmt.Errorf("the server answered with %d rows of %d columns instead of one row of %d", len(t.rows), len(t.columns), columns)
	}
	return t.rows[0], nil
}

// show reads a setting of the server. Walsenders know SHOW in upper case only.
func show(ctx context.Context, conn *pgconn.PgConn, name string) (string, error) {
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
