package main

import (
	"github.com/spf13/pflag"
)

// connOptions say how to reach the server, as libpq's programs take it. What is
// not given comes from libpq's own environment variables.
type connOptions struct {
	dbname     string // a connection string; a plain name of a database is ignored, as in pg_receivewal
	host       string // one or more, separated by commas
	port       string // one or more, separated by commas
	username   string
	noPassword bool // never ask
	password   bool // ask before connecting
}

// addConnOptions declares the connection options. They have no variables of
// their own: libpq's serve, and Kubernetes sets WALRECV_PORT to something else
// wherever there is a service named walrecv.
func addConnOptions(fs *pflag.FlagSet, o *connOptions) {
	fs.VarP(textValue(&o.dbname), "dbname", "d", "connection string, `CONNSTR`")
	fs.VarP(textValue(&o.host), "host", "h", "database server host or socket directory, `HOSTNAME`")
	fs.VarP(portValue(&o.port), "port", "p", "database server port number, `PORT`")
	fs.VarP(textValue(&o.username), "username", "U", "connect as the database user `NAME`")
	boolVar(fs, &o.noPassword, "no-password", "w", "never prompt for password")
	boolVar(fs, &o.password, "password", "W", "force password prompt (should happen automatically)")
	annotate(fs, notInEnvironment, "dbname", "host", "port", "username", "no-password", "password")
}

// portValue is a port or a list of ports; the connection string's parser knows
// the rules.
func portValue(target *string) pflag.Value {
	return parsed[string]{target, "port", func(text string) (string, error) { return text, nil },
		func(s string) string { return s }}
}

// check refuses options that contradict each other.
func (o *connOptions) check() error {
	if o.noPassword && o.password {
		return usageError("cannot use --no-password together with --password")
	}
	return nil
}
