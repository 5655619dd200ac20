package receiver

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgservicefile"
)

// option is what is known of a libpq keyword.
type option struct {
	env    string                   // variable it can come from
	pgconn bool                     // handed to pgconn as it is; the others are ours, or have no effect
	check  func(value string) error // nil: any value
	refuse string                   // why it cannot be used
}

// connOptions are all keywords of libpq 13 to 18. What libpq would heed and we
// cannot is refused rather than ignored, if it is about safety; whatever is not
// in the list would reach the server as a setting and make it hang up.
var connOptions = map[string]option{
	"host":                 {env: "PGHOST"},
	"hostaddr":             {env: "PGHOSTADDR"},
	"port":                 {env: "PGPORT"},
	"user":                 {env: "PGUSER", pgconn: true},
	"password":             {env: "PGPASSWORD"},
	"passfile":             {env: "PGPASSFILE"},
	"service":              {env: "PGSERVICE"},
	"servicefile":          {env: "PGSERVICEFILE"},
	"connect_timeout":      {env: "PGCONNECT_TIMEOUT"},
	"options":              {env: "PGOPTIONS"},
	"client_encoding":      {env: "PGCLIENTENCODING"},
	"application_name":     {env: "PGAPPNAME"},
	"target_session_attrs": {env: "PGTARGETSESSIONATTRS", check: oneOf("any", "read-write", "read-only", "primary", "standby", "prefer-standby")},
	"load_balance_hosts":   {env: "PGLOADBALANCEHOSTS", check: oneOf("disable", "random")},
	"requirepeer":          {env: "PGREQUIREPEER", refuse: unsupportedPeer},

	"sslmode":                  {env: "PGSSLMODE", pgconn: true, check: oneOf("disable", "allow", "prefer", "require", "verify-ca", "verify-full")},
	"sslnegotiation":           {env: "PGSSLNEGOTIATION", pgconn: true, check: oneOf("postgres", "direct")},
	"sslcert":                  {env: "PGSSLCERT", pgconn: true},
	"sslkey":                   {env: "PGSSLKEY", pgconn: true},
	"sslpassword":              {env: "PGSSLPASSWORD"},
	"sslcertmode":              {env: "PGSSLCERTMODE", pgconn: true, check: oneOf("disable", "allow", "require")},
	"sslrootcert":              {env: "PGSSLROOTCERT", pgconn: true},
	"sslsni":                   {env: "PGSSLSNI", pgconn: true, check: oneOf("0", "1")},
	"ssl_min_protocol_version": {env: "PGSSLMINPROTOCOLVERSION", check: checkTLSVersion},
	"ssl_max_protocol_version": {env: "PGSSLMAXPROTOCOLVERSION", check: checkTLSVersion},
	"channel_binding":          {env: "PGCHANNELBINDING", pgconn: true, check: oneOf("disable", "prefer", "require")},
	"require_auth":             {env: "PGREQUIREAUTH", pgconn: true},
	"min_protocol_version":     {env: "PGMINPROTOCOLVERSION", pgconn: true, check: oneOf("3.0", "3.2", "latest")},
	"max_protocol_version":     {env: "PGMAXPROTOCOLVERSION", pgconn: true, check: oneOf("3.0", "3.2", "latest")},
	"gssencmode":               {env: "PGGSSENCMODE", check: checkGSSEncMode},

	"fallback_application_name": {},
	"keepalives":                {check: checkNumber},
	"keepalives_idle":           {check: checkNumber},
	"keepalives_interval":       {check: checkNumber},
	"keepalives_count":          {check: checkNumber},
	"tcp_user_timeout":          {check: checkNumber},

	// Without effect: a physical replication connection has no database, and
	// what it is is ours to say; the rest does nothing in libpq either, or
	// only with a Kerberos library.
	"dbname":         {env: "PGDATABASE"},
	"replication":    {},
	"authtype":       {},
	"tty":            {},
	"sslcompression": {env: "PGSSLCOMPRESSION"},
	"krbsrvname":     {env: "PGKRBSRVNAME"},
	"gsslib":         {env: "PGGSSLIB"},
	"gssdelegation":  {env: "PGGSSDELEGATION"},

	"sslcrl":              {env: "PGSSLCRL", refuse: unsupportedCRL},
	"sslcrldir":           {env: "PGSSLCRLDIR", refuse: unsupportedCRL},
	"sslkeylogfile":       {refuse: "writing the keys of TLS connections to a file is not supported"},
	"scram_client_key":    {refuse: "logging in with SCRAM keys is not supported: use a password or a certificate"},
	"scram_server_key":    {refuse: "logging in with SCRAM keys is not supported: use a password or a certificate"},
	"oauth_issuer":        {refuse: unsupportedOAuth},
	"oauth_client_id":     {refuse: unsupportedOAuth},
	"oauth_client_secret": {refuse: unsupportedOAuth},
	"oauth_scope":         {refuse: unsupportedOAuth},
}

const (
	unsupportedCRL   = "certificate revocation lists are not supported, and would be needed to be as safe as the option says"
	unsupportedOAuth = "OAuth is not supported: use a password or a certificate"
)

// gatherSettings merges what says how to connect, and checks the result. It also tells
// where each of the settings came from, as [Setting.From] has it.
func gatherSettings(o ConnOptions) (s settings, from map[string]string, err error) {
	written, err := parseConninfo(o.Conninfo)
	if err != nil {
		return nil, nil, err
	}
	s, from = make(settings), make(map[string]string)
	set := func(key, value, source string) { s[key], from[key] = value, source }
	for key, known := range connOptions {
		if value := getenv(o.Getenv, known.env); value != "" {
			set(key, value, known.env)
		}
	}
	for _, w := range written {
		if w.key == "service" || w.key == "servicefile" {
			set(w.key, w.value, FromConninfo)
		}
	}
	if s["service"] != "" {
		service, err := s.findService(o.Getenv)
		if err != nil {
			return nil, nil, err
		}
		for key, value := range service {
			set(key, value, s["servicefile"])
		}
	}
	for _, w := range written {
		if w.key != "service" && w.key != "servicefile" {
			set(w.key, w.value, FromConninfo)
		}
	}
	for _, given := range []struct{ key, value, source string }{
		{"host", o.Host, FromHost}, {"port", o.Port, FromPort}, {"user", o.User, FromUser},
	} {
		if given.value != "" {
			set(given.key, given.value, given.source)
		}
	}
	return s, from, s.check()
}

func getenv(lookup func(string) string, name string) string {
	if name == "" {
		return ""
	}
	return lookup(name)
}

// findService reads the settings of the service that was asked for: from the user's
// service file, or the system's if that does not know it. It notes which one it was.
func (s settings) findService(lookup func(string) string) (settings, error) {
	var files []string
	if path := s["servicefile"]; path != "" {
		files = append(files, path)
	} else if home := lookup("HOME"); home != "" {
		files = append(files, filepath.Join(home, ".pg_service.conf"))
	}
	directory := lookup("PGSYSCONFDIR")
	if directory == "" {
		directory = "/etc/postgresql-common" // where Debian's libpq looks
	}
	files = append(files, filepath.Join(directory, "pg_service.conf"))
	for _, path := range files {
		parsed, err := pgservicefile.ReadServicefile(path)
		if os.IsNotExist(err) && path != s["servicefile"] {
			continue
		}
		if err != nil {
			return nil, &ConnInfoError{Option: "service", Reason: "the service file cannot be read", Err: err}
		}
		service, err := parsed.GetService(s["service"])
		if err != nil {
			continue
		}
		s["servicefile"] = path
		for key := range service.Settings {
			if key == "service" || key == "servicefile" {
				return nil, &ConnInfoError{Option: "service", Reason: "a service cannot refer to another one"}
			}
		}
		return service.Settings, nil
	}
	return nil, &ConnInfoError{Option: "service", Reason: fmt.Sprintf("there is no service %q in %s", printable(s["service"]), strings.Join(files, " or "))}
}

// check refuses what is unknown, unsupported or out of range. The keys are taken
// in order, so that the message is the same every time.
func (s settings) check() error {
	keys := make([]string, 0, len(s))
	for key := range s {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		value := s[key]
		known, ok := connOptions[key]
		switch {
		case !ok:
			return &ConnInfoError{Option: printable(key), Reason: "there is no such option (server settings go into options='-c name=value')"}
		case strings.IndexByte(value, 0) >= 0:
			return &ConnInfoError{Option: key, Reason: "it contains a NUL byte"}
		case value == "" && key != "sslcertmode":
			continue // unset, as in libpq
		case known.refuse != "":
			return &ConnInfoError{Option: key, Reason: known.refuse}
		case known.check != nil:
			if err := known.check(value); err != nil {
				return &ConnInfoError{Option: key, Reason: err.Error()}
			}
		}
	}
	return nil
}

func oneOf(values ...string) func(string) error {
	return func(value string) error {
		if slices.Contains(values, value) {
			return nil
		}
		return fmt.Errorf("it must be one of %s", strings.Join(values, ", "))
	}
}

func checkNumber(value string) error {
	_, err := parseNumber(value)
	return err
}

func parseNumber(value string) (int, error) {
	n, err := strconv.ParseInt(strings.TrimSpace(value), 10, 32)
	if err != nil {
		return 0, fmt.Errorf("it must be a whole number")
	}
	return int(n), nil
}

// checkGSSEncMode accepts the values under which libpq, too, may connect
// without GSSAPI encryption.
func checkGSSEncMode(value string) error {
	if value == "require" {
		return fmt.Errorf("GSSAPI encryption is not supported: use TLS")
	}
	return oneOf("disable", "prefer")(value)
}
