package main

import (
	"fmt"
	"io/fs"
	"strings"
	"syscall"

	"github.com/walrecv/walrecv/receiver"
)

// checkPrivate refuses a file with a secret that others than its owner can read, by the
// rule that PostgreSQL has for private keys: root's file may be read by a group, which
// is how one is given to a service. what is in the file is named in the error.
func checkPrivate(path, what string, info fs.FileInfo) error {
	allowed := fs.FileMode(0o600)
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && stat.Uid == 0 {
		allowed = 0o640
	}
	mode := info.Mode()
	if !mode.IsRegular() || mode.Perm()&0o077&^allowed == 0 {
		return nil // a pipe is nobody else's
	}
	return fmt.Errorf("%s holds %s, and others can read it (its mode is %04o); run: chmod %04o %s",
		path, what, mode.Perm(), allowed, path)
}

// readPrivate reads a file with a secret.
func readPrivate(path, what string) ([]byte, error) {
	data, info, err := readLimited(path)
	if err != nil {
		return nil, err
	}
	return data, checkPrivate(path, what, info)
}

// checkSecrets refuses a configuration file with a password that others can read,
// whichever command it is for.
func (d *document) checkSecrets() error {
	holds := func(table map[string]any) bool {
		conninfo, _ := table["dbname"].(string)
		return receiver.HasSecret(conninfo)
	}
	secret := holds(d.content)
	for _, value := range d.content {
		table, _ := value.(map[string]any)
		secret = secret || holds(table)
	}
	if !secret {
		return nil
	}
	if err := checkPrivate(d.path, "a password", d.info); err != nil {
		return usageError("%w", err)
	}
	return nil
}

// exposed tells whether everybody on this host can see a password: that of a connection
// string which stands on the command line.
func (a *app) exposed(conninfo string) bool {
	if !receiver.HasSecret(conninfo) {
		return false
	}
	for _, arg := range a.args {
		if strings.Contains(arg, conninfo) {
			return true
		}
	}
	return false
}
