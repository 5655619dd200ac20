package receiver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// maxMessage bounds a message of the server: far above the 128 KiB of a piece
// of WAL and any history file, far below what would hurt.
const maxMessage = 16 << 20

// passwordSource says where the password of an attempt came from.
type passwordSource int

const (
	noPassword passwordSource = iota
	fromSettings
	fromPassfile
	fromOperator
)

// attempt is one try to connect to one host.
type attempt struct {
	c            *ConnConfig
	host         host
	config       *pgconn.Config
	passwordFrom passwordSource
	local        atomic.Value // net.Addr: our end of the last connection
}

// attempt makes the configuration for a host. pgconn gets no secrets to parse,
// so that its error texts cannot hold any.
func (c *ConnConfig) attempt(h host, p purpose) (*attempt, error) {
	config, err := pgconn.ParseConfigWithOptions(c.pgconnString(h), pgconn.ParseConfigOptions{
		GetSSLPassword: func(context.Context) string { return c.settings["sslpassword"] },
	})
	if err != nil {
		return nil, parseError(err)
	}
	h.name = config.Host // the default, if there was none
	a := &attempt{c: c, host: h, config: config}
	if err := c.setTLS(config); err != nil {
		return nil, err
	}
	config.Database = replicationDatabase
	config.RuntimeParams = map[string]string{"application_name": c.AppName()}
	if p == walsender {
		config.RuntimeParams["replication"] = "true"
	}
	for _, key := range []string{"options", "client_encoding"} {
		if value := c.settings[key]; value != "" && value != "auto" {
			config.RuntimeParams[key] = value
		}
	}
	config.Password, a.passwordFrom = c.findPassword(h, p, config.User)
	if p == sql {
		config.Database = sqlDatabase
	}
	config.ValidateConnect = nil
	config.ConnectTimeout = c.timeout
	config.MaxProtocolMessageBodyLen = maxMessage
	config.DialFunc = a.dialer()
	config.LookupFunc = a.lookup
	config.OnNotice = a.notice
	config.OnPgError = closeOnFatal
	return a, nil
}

// pgconnString writes the settings that pgconn is to deal with. What it must
// not look up by itself is given a value here and put right later.
func (c *ConnConfig) pgconnString(h host) string {
	var b strings.Builder
	set := func(key, value string) {
		fmt.Fprintf(&b, "%s='%s' ", key, strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(value))
	}
	set("host", h.name)
	set("port", fmt.Sprint(h.port))
	set("password", "-")
	set("dbname", replicationDatabase)
	set("target_session_attrs", "any")
	set("connect_timeout", "0")
	if c.settings["service"] != "" {
		set("service", c.settings["service"])
		set("servicefile", c.settings["servicefile"])
	}
	for _, key := range sortedKeys(c.settings) {
		if connOptions[key].pgconn && (c.settings[key] != "" || key == "sslcertmode") {
			set(key, c.settings[key])
		}
	}
	return b.String()
}

func sortedKeys(s settings) []string {
	keys := make([]string, 0, len(s))
	for key := range s {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// parseError takes the connection string that the user did not write out of an
// error of pgconn.
func parseError(err error) error {
	var parse *pgconn.ParseConfigError
	if errors.As(err, &parse) && errors.Unwrap(parse) != nil {
		err = errors.Unwrap(parse)
	}
	return &ConnInfoError{Reason: "it cannot be used", Err: err}
}

// findPassword looks for the password as libpq does. Passwords in .pgpass are
// looked up for each host, and for replication as the database's name.
func (c *ConnConfig) findPassword(h host, p purpose, user string) (string, passwordSource) {
	c.mu.Lock()
	asked, typed := c.asked, c.password
	c.mu.Unlock()
	if asked {
		return typed, fromOperator
	}
	if password := c.settings["password"]; password != "" {
		return password, fromSettings
	}
	databases := []string{replicationDatabase}
	if p == sql {
		databases = []string{sqlDatabase, replicationDatabase}
	}
	for _, database := range databases {
		if password, found := c.passfilePassword(h, database, user); found && password != "" {
			return password, fromPassfile
		}
	}
	return "", noPassword
}

// setTLS does what libpq does and pgconn does not.
func (c *ConnConfig) setTLS(config *pgconn.Config) error {
	configs := []*tls.Config{config.TLSConfig}
	for _, f := range config.Fallbacks {
		configs = append(configs, f.TLSConfig)
	}
	verify := strings.HasPrefix(c.settings["sslmode"], "verify-")
	for _, t := range configs {
		if t == nil {
			continue
		}
		if verify && t.RootCAs == nil {
			return &ConnInfoError{Option: "sslmode", Reason: c.settings["sslmode"] +
				" needs a root certificate: give sslrootcert=FILE, or sslrootcert=system for those of the operating system"}
		}
		t.MinVersion = tlsVersions[c.settings["ssl_min_protocol_version"]]
		t.MaxVersion = tlsVersions[c.settings["ssl_max_protocol_version"]]
	}
	if verify {
		c.warnOfRevocationList()
	}
	return nil
}

// warnOfRevocationList tells of a list that libpq would use without being told.
func (c *ConnConfig) warnOfRevocationList() {
	home := c.options.Getenv("HOME")
	path := filepath.Join(home, ".postgresql", "root.crl")
	if _, err := os.Stat(path); err == nil && home != "" {
		c.warnOnce("certificate revocation lists are not supported: the list is not used", "file", path)
	}
}

// tlsVersions are libpq's names; Go's default takes the place of "".
var tlsVersions = map[string]uint16{
	"":        0,
	"TLSv1":   tls.VersionTLS10,
	"TLSv1.1": tls.VersionTLS11,
	"TLSv1.2": tls.VersionTLS12,
	"TLSv1.3": tls.VersionTLS13,
}

func checkTLSVersion(value string) error {
	return oneOf("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")(value)
}

// dialer returns the function that makes the network connection. It notes our
// address, which goes into advice about pg_hba.conf.
func (a *attempt) dialer() pgconn.DialFunc {
	dial := a.c.options.Dial
	if dial == nil {
		dial = a.c.netDialer().DialContext
	}
	peer := a.c.settings["requirepeer"]
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		if peer != "" && network == "unix" {
			if err := checkPeer(conn, peer); err != nil {
				return nil, errors.Join(err, conn.Close())
			}
		}
		a.local.Store(localAddr{conn.LocalAddr()})
		return conn, nil
	}
}

// localAddr wraps an address, since an atomic.Value takes one type only.
type localAddr struct{ net.Addr }

// netDialer heeds the keepalives options. A number that is not given is Go's
// (15 s), not the hours of the operating system; 0 is the system's.
func (c *ConnConfig) netDialer() *net.Dialer {
	number := func(key string) (n int, given bool) {
		n, err := parseNumber(c.settings[key]) // checked before
		return n, err == nil
	}
	d := &net.Dialer{}
	if on, given := number("keepalives"); given && on == 0 {
		d.KeepAlive = -1
		return withUserTimeout(d, c.settings["tcp_user_timeout"])
	}
	seconds := func(key string) time.Duration {
		n, given := number(key)
		if given && n <= 0 {
			return -1
		}
		return time.Duration(n) * time.Second
	}
	count, given := number("keepalives_count")
	if given && count <= 0 {
		count = -1
	}
	d.KeepAliveConfig = net.KeepAliveConfig{
		Enable: true, Idle: seconds("keepalives_idle"), Interval: seconds("keepalives_interval"), Count: count,
	}
	return withUserTimeout(d, c.settings["tcp_user_timeout"])
}

// withUserTimeout sets the socket option for TCP connections.
func withUserTimeout(d *net.Dialer, text string) *net.Dialer {
	milliseconds, err := parseNumber(text)
	if err != nil || milliseconds <= 0 || !haveUserTimeout {
		return d
	}
	d.Control = func(network, _ string, raw syscall.RawConn) error {
		if !strings.HasPrefix(network, "tcp") {
			return nil
		}
		return setUserTimeout(raw, milliseconds)
	}
	return d
}

// lookup resolves the host's name, within the time of an attempt, unless its
// address was given.
func (a *attempt) lookup(ctx context.Context, name string) ([]string, error) {
	if a.host.address != "" {
		return []string{a.host.address}, nil
	}
	if a.c.options.Dial != nil {
		return []string{name}, nil // who dials also resolves
	}
	if a.c.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, a.c.timeout)
		defer cancel()
	}
	addresses, err := net.DefaultResolver.LookupHost(ctx, name)
	if a.c.settings["load_balance_hosts"] == "random" {
		a.c.options.Shuffle(len(addresses), func(i, j int) { addresses[i], addresses[j] = addresses[j], addresses[i] })
	}
	return addresses, err
}

func (a *attempt) notice(_ *pgconn.PgConn, n *pgconn.Notice) {
	level := slog.LevelInfo
	if n.SeverityUnlocalized == "WARNING" { // as about the damaged pages in a base backup
		level = slog.LevelWarn
	}
	a.c.log.Log(context.Background(), level, "the server says: "+n.Message, "severity", n.SeverityUnlocalized, "sqlstate", n.Code)
}

// closeOnFatal is pgconn's own rule, by the severity that is not translated.
func closeOnFatal(_ *pgconn.PgConn, err *pgconn.PgError) bool {
	severity := err.SeverityUnlocalized
	if severity == "" {
		severity = err.Severity
	}
	return severity != "FATAL" && severity != "PANIC"
}
