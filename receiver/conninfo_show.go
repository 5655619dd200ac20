package receiver

import (
	"slices"
	"strings"
)

// Masked is shown in place of a secret.
const Masked = "***"

// Where a setting can come from besides an environment variable and a file.
const (
	FromConninfo = "ConnOptions.Conninfo"
	FromHost     = "ConnOptions.Host"
	FromPort     = "ConnOptions.Port"
	FromUser     = "ConnOptions.User"
)

// Setting is a connection option that has a value.
type Setting struct {
	Keyword string
	Value   string // [Masked] if it is a secret
	From    string // one of the constants, an environment variable, or the path of a file
}

// Settings lists the connection options that have a value, and says where each one
// came from. A password that is in a password file for any of the hosts counts.
func (c *ConnConfig) Settings() []Setting {
	var list []Setting
	for _, key := range sortedKeys(c.settings) {
		if value := c.settings[key]; isSecret(key) {
			list = append(list, Setting{key, Masked, c.from[key]})
		} else if value != "" {
			list = append(list, Setting{key, value, c.from[key]})
		}
	}
	if c.settings["password"] != "" {
		return list
	}
	for _, h := range c.hosts {
		if a, err := c.attempt(h, walsender); err == nil && a.passwordFrom == fromPassfile {
			return append(list, Setting{"password", Masked, c.passfilePath()})
		}
	}
	return list
}

// secretOptions are the keywords whose values are nobody else's business.
var secretOptions = []string{"password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key"}

func isSecret(key string) bool { return slices.Contains(secretOptions, key) }

// HasSecret tells whether a connection string holds a secret. Of one that cannot be
// read it is not known, and so it does if it seems to.
func HasSecret(conninfo string) bool {
	written, err := parseConninfo(conninfo)
	if err != nil {
		return strings.Contains(strings.ToLower(conninfo), "pass")
	}
	return slices.ContainsFunc(written, func(w setting) bool { return isSecret(w.key) && w.value != "" })
}

// MaskConninfo is a connection string as it may be shown. One that holds a secret is
// written anew, as keywords and values.
func MaskConninfo(conninfo string) string {
	written, err := parseConninfo(conninfo)
	switch {
	case err != nil:
		return Masked // anything in it can be a piece of a password
	case !HasSecret(conninfo):
		return conninfo
	}
	var words []string
	for _, w := range written {
		value := w.value
		switch {
		case isSecret(w.key):
			value = Masked
		case value == "" || strings.ContainsAny(value, blanks+`'\`):
			value = "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(value) + "'"
		}
		words = append(words, w.key+"="+value)
	}
	return strings.Join(words, " ")
}
