package drill

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
)

// emergencyDatabase is one that can be connected to where others were dropped.
const emergencyDatabase = "template1"

// codeNoRole is what a server says of a role that it does not know or that may not
// log in.
const codeNoRole = "28000"

// connect opens a connection over the server's socket, as the first of some roles that
// the server lets in, and says which. What a database or a role preloads may not be there on this
// machine.
func (p *place) connect(ctx context.Context, database string, roles []string) (conn *pgconn.PgConn, user string, err error) {
	// pgconn looks into the environment for what is not said here.
	config, err := pgconn.ParseConfig("host=/ port=1 user=none password=none sslmode=disable target_session_attrs=any connect_timeout=30")
	if err != nil {
		return nil, "", err
	}
	config.Host, config.Port, config.Database = p.socket, port, database
	config.RuntimeParams = map[string]string{
		"application_name": "walrecv drill",
		"options":          "-c session_preload_libraries= -c local_preload_libraries= -c statement_timeout=0 -c lc_messages=C",
	}
	for _, config.User = range roles {
		if conn, err = pgconn.ConnectConfig(ctx, config); err == nil {
			return conn, config.User, nil
		}
		if said := new(pgconn.PgError); !errors.As(err, &said) || said.Code != codeNoRole {
			break
		}
	}
	return nil, "", err
}

// ask returns the one value of a query, as text.
func ask(ctx context.Context, conn *pgconn.PgConn, query string) (string, error) {
	result := conn.ExecParams(ctx, query, nil, nil, nil, nil).Read()
	if result.Err != nil {
		return "", result.Err
	}
	if len(result.Rows) != 1 || len(result.Rows[0]) != 1 {
		return "", fmt.Errorf("%s: not one value", query)
	}
	return string(result.Rows[0][0]), nil
}
