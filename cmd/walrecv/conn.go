package main

import (
	"log/slog"

	"github.com/spf13/pflag"

	"github.com/walrecv/walrecv/receiver"
)

// connOptions say how to reach the server, as libpq's programs take it. What is
// not given comes from libpq's own environment variables.
type connOptions struct {
	dbname     string // a connection string or URI
	host       string // one or more, separated by commas
	port       string // one or more, separated by commas
	username   string
	noPassword bool // never ask
	password   bool // ask before connecting

	primaryOnly bool   // a standby will not do
	application string // application_name, if the user gives none; empty: the default
}

// addConnOptions declares the connection options. They have no variables of
// their own: libpq's serve, and Kubernetes sets WALRECV_PORT to something else
// wherever there is a service named walrecv.
func addConnOptions(fs *pflag.FlagSet, o *connOptions) {
	fs.VarP(textValue(&o.dbname), "dbname", "d", "connect as the connection string `CONNSTR` says")
	fs.VarP(textValue(&o.host), "host", "h", "database server host or socket directory `HOSTNAME`")
	fs.VarP(portValue(&o.port), "port", "p", "database server port number `PORT`")
	fs.VarP(textValue(&o.username), "username", "U", "connect as the database user `NAME`")
	boolVar(fs, &o.noPassword, "no-password", "w", "never prompt for password")
	boolVar(fs, &o.password, "password", "W", "force password prompt (should happen automatically)")
	annotate(fs, holdsConninfo, "dbname")
	annotate(fs, notInEnvironment, "dbname", "host", "port", "username", "no-password", "password")
}

// portValue is a port or a list of ports; the connection string's parser knows
// the rules.
func portValue(target *string) pflag.Value {
	return parsed[string]{
		target, "port", func(text string) (string, error) { return text, nil },
		func(s string) string { return s },
	}
}

// check refuses options that contradict each other.
func (o *connOptions) check() error {
	if o.noPassword && o.password {
		return usageError("cannot use --no-password together with --password")
	}
	return nil
}

// connection reads and checks what the options, libpq's variables and the files
// they name say about the connection. Nothing is connected yet.
func (a *app) connection(o connOptions, log *slog.Logger) (*receiver.ConnConfig, error) {
	env := environment(a.environ)
	options := receiver.ConnOptions{
		Conninfo:      o.dbname,
		Host:          o.host,
		Port:          o.port,
		User:          o.username,
		NoPassword:    o.noPassword,
		ForcePassword: o.password,
		PrimaryOnly:   o.primaryOnly,
		AppName:       o.application,
		Getenv:        func(name string) string { return env[name] },
		Log:           log,
	}
	if haveTerminal() {
		options.Password = askPassword
	}
	config, err := receiver.ParseConnInfo(options)
	if err != nil {
		return nil, usageError("%w", err)
	}
	if a.exposed(o.dbname) {
		log.Warn("everybody on this host can see the password that is on the command line: put it into a password file (~/.pgpass, or passfile=FILE), into PGPASSWORD, or into the configuration file")
	}
	return config, nil
}
