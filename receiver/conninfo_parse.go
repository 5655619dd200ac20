package receiver

import (
	"fmt"
	"strings"
)

// settings are connection options by their libpq keyword.
type settings map[string]string

// setting is an option as it was written.
type setting struct{ key, value string }

const blanks = " \t\n\r\v\f"

// isURI tells how a connection string is written.
func isURI(text string) bool {
	return strings.HasPrefix(text, "postgresql://") || strings.HasPrefix(text, "postgres://")
}

// parseConninfo reads a connection string in either form, by libpq's rules. The
// last of repeated options counts. The errors quote nothing of the string: in
// a malformed one, anything can be a piece of the password.
func parseConninfo(text string) ([]setting, error) {
	if strings.IndexByte(text, 0) >= 0 {
		return nil, &ConnInfoError{Reason: "it contains a NUL byte"}
	}
	if isURI(text) {
		return parseURI(text)
	}
	return parseKeywords(text)
}

// CheckConninfo looks whether a connection string for somebody else is one that libpq
// would take apart, in either form: its syntax and its keywords. What the values are
// worth, files above all, is for that one to find out. The errors are of type
// [*ConnInfoError].
func CheckConninfo(text string) error {
	written, err := parseConninfo(text)
	if err != nil {
		return err
	}
	for _, w := range written {
		if _, known := connOptions[w.key]; !known {
			return &ConnInfoError{Option: printable(w.key), Reason: "there is no such option"}
		}
	}
	return nil
}

// parseKeywords reads "key = value key='quoted value' ...".
func parseKeywords(text string) ([]setting, error) {
	var out []setting
	rest := strings.TrimLeft(text, blanks)
	for rest != "" {
		offset := len(text) - len(rest)
		end := strings.IndexAny(rest, "="+blanks)
		if end < 0 {
			end = len(rest)
		}
		key := rest[:end]
		rest = strings.TrimLeft(rest[end:], blanks)
		if !strings.HasPrefix(rest, "=") || key == "" {
			return nil, &ConnInfoError{Reason: fmt.Sprintf("there is no \"keyword=value\" at character %d", offset+1)}
		}
		var value string
		var ok bool
		if value, rest, ok = parseValue(strings.TrimLeft(rest[1:], blanks)); !ok {
			return nil, &ConnInfoError{Reason: fmt.Sprintf("the quote in the value of the option at character %d is not closed", offset+1)}
		}
		out = append(out, setting{key, value})
		rest = strings.TrimLeft(rest, blanks)
	}
	return out, nil
}

// parseValue reads one value, quoted or up to a blank; a backslash takes the
// next character as it is.
func parseValue(text string) (value, rest string, ok bool) {
	quoted := strings.HasPrefix(text, "'")
	stop := blanks
	if quoted {
		text = text[1:]
		stop = "'"
	}
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case c == '\\':
			if i++; i < len(text) {
				b.WriteByte(text[i])
			}
		case strings.IndexByte(stop, c) < 0:
			b.WriteByte(c)
		case quoted:
			return b.String(), text[i+1:], true
		default:
			return b.String(), text[i:], true
		}
	}
	return b.String(), "", !quoted
}

// parseURI reads postgresql://user:password@host:port,host:port/dbname?key=value
// with its own rules, which are not those of RFC 3986: there may be several
// hosts, a host may be percent-encoded path, and an @ counts up to the first /.
func parseURI(text string) ([]setting, error) {
	_, rest, _ := strings.Cut(text, "://")
	var out []setting
	add := func(key, raw string) error {
		value, err := decodePercent(raw)
		if err != nil {
			return &ConnInfoError{Option: key, Reason: err.Error()}
		}
		out = append(out, setting{key, value})
		return nil
	}
	if at := strings.IndexAny(rest, "@/"); at >= 0 && rest[at] == '@' {
		user, password, _ := strings.Cut(rest[:at], ":")
		rest = rest[at+1:]
		for _, s := range []setting{{"user", user}, {"password", password}} {
			if s.value == "" {
				continue
			}
			if err := add(s.key, s.value); err != nil {
				return nil, err
			}
		}
	}
	hosts, ports, rest, err := splitHosts(rest)
	if err != nil {
		return nil, err
	}
	if strings.Contains(hosts, "@") {
		// What stands before it is of the password, and would be shown as a host.
		return nil, &ConnInfoError{Option: "host", Reason: "there is an @ in it; in a user name or a password it is written %40 in a URI"}
	}
	path, query, _ := strings.Cut(rest, "?")
	for _, s := range []setting{{"host", hosts}, {"port", ports}, {"dbname", strings.TrimPrefix(path, "/")}} {
		if s.value == "" {
			continue
		}
		if err := add(s.key, s.value); err != nil {
			return nil, err
		}
	}
	parameters, err := parseQuery(query)
	return append(out, parameters...), err
}

// splitHosts takes the list of hosts and ports off a URI. Both are comma
// separated and of equal length.
func splitHosts(text string) (hosts, ports, rest string, err error) {
	var h, p strings.Builder
	for {
		if strings.HasPrefix(text, "[") {
			end := strings.IndexByte(text, ']')
			if end < 2 {
				return "", "", "", &ConnInfoError{Option: "host", Reason: "the brackets of an IPv6 address are empty or not closed"}
			}
			h.WriteString(text[1:end])
			text = text[end+1:]
			if text != "" && strings.IndexByte(":/?,", text[0]) < 0 {
				return "", "", "", &ConnInfoError{Option: "host", Reason: "something stands behind the bracket of an IPv6 address"}
			}
		} else {
			end := indexAnyOrLen(text, ":/?,")
			h.WriteString(text[:end])
			text = text[end:]
		}
		if strings.HasPrefix(text, ":") {
			end := indexAnyOrLen(text, "/?,")
			p.WriteString(text[1:end])
			text = text[end:]
		}
		if !strings.HasPrefix(text, ",") {
			return h.String(), p.String(), text, nil
		}
		text = text[1:]
		h.WriteByte(',')
		p.WriteByte(',')
	}
}

func indexAnyOrLen(text, chars string) int {
	if i := strings.IndexAny(text, chars); i >= 0 {
		return i
	}
	return len(text)
}

// parseQuery reads the parameters of a URI.
func parseQuery(query string) ([]setting, error) {
	var out []setting
	for query != "" {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		rawKey, rawValue, found := strings.Cut(pair, "=")
		if !found || strings.Contains(rawValue, "=") {
			return nil, &ConnInfoError{Reason: "a parameter of the URI is not of the form key=value (an = or & inside a value is written %3D or %26)"}
		}
		key, err := decodePercent(rawKey)
		if err != nil {
			return nil, &ConnInfoError{Reason: "a parameter's name: " + err.Error()}
		}
		value, err := decodePercent(rawValue)
		if err != nil {
			return nil, &ConnInfoError{Option: printable(key), Reason: err.Error()}
		}
		if key == "ssl" && value == "true" { // as JDBC writes it
			key, value = "sslmode", "require"
		}
		out = append(out, setting{key, value})
	}
	return out, nil
}

// decodePercent decodes a part of a URI. Spaces around it do not count, inside
// it they are an error.
func decodePercent(raw string) (string, error) {
	raw = strings.Trim(raw, " ")
	if strings.Contains(raw, " ") {
		return "", fmt.Errorf("it contains a space, which is written %%20 in a URI")
	}
	var b strings.Builder
	for i := 0; i < len(raw); i++ {
		if raw[i] != '%' {
			b.WriteByte(raw[i])
			continue
		}
		if i+2 >= len(raw) {
			return "", fmt.Errorf("a %% is not followed by two hexadecimal digits (a %% itself is written %%25 in a URI)")
		}
		high, low := hexDigit(raw[i+1]), hexDigit(raw[i+2])
		if high < 0 || low < 0 {
			return "", fmt.Errorf("a %% is not followed by two hexadecimal digits (a %% itself is written %%25 in a URI)")
		}
		if high == 0 && low == 0 {
			return "", fmt.Errorf("%%00 is not allowed")
		}
		b.WriteByte(byte(high<<4 | low))
		i += 2
	}
	return b.String(), nil
}

func hexDigit(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// printable makes a keyword fit for a message.
func printable(key string) string {
	const maxLength = 40
	clean := strings.Map(func(r rune) rune {
		if r > ' ' && r < 0x7f {
			return r
		}
		return '?'
	}, key)
	if len(clean) > maxLength {
		clean = clean[:maxLength] + "..."
	}
	return clean
}
