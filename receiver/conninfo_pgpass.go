package receiver

import (
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// passfilePath is the file that libpq would look into for passwords.
func (c *ConnConfig) passfilePath() string {
	if path := c.settings["passfile"]; path != "" {
		return path
	}
	home := c.options.Getenv("HOME")
	if home == "" {
		return ""
	}
	return filepath.Join(home, ".pgpass")
}

// passfilePassword looks a password up. A file that others may read is not
// used, as in libpq, which warns and goes on without. But root's file may be
// readable by a group, which is how it looks when systemd gives it to a service.
func (c *ConnConfig) passfilePassword(h host, database, user string) (password string, found bool) {
	path := c.passfilePath()
	if path == "" {
		return "", false
	}
	info, err := os.Stat(path)
	if err != nil {
		return "", false
	}
	if !info.Mode().IsRegular() {
		c.warnOnce("password file is not used: it is not a plain file; give one, or PGPASSWORD", "file", path)
		return "", false
	}
	closed := fs.FileMode(0o077)
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && stat.Uid == 0 {
		closed = 0o037
	}
	if open := info.Mode().Perm() & closed; open != 0 {
		c.warnOnce("password file is not used: group or others have access to it; run: chmod 0600",
			"file", path, "permissions", info.Mode().Perm().String())
		return "", false
	}
	data, err := os.ReadFile(path)
	if err != nil {
		c.warnOnce("password file is not used", "file", path, "error", err)
		return "", false
	}
	return findPassword(string(data), h, database, user)
}

// socketDirectories are where servers put their socket by default. Lines for
// localhost hold for them.
var socketDirectories = []string{"/var/run/postgresql", "/run/postgresql", "/tmp"}

// findPassword returns the password of the first line that matches. Fields are
// separated by colons; a backslash takes the next character as it is; a lone *
// matches anything.
func findPassword(data string, h host, database, user string) (password string, found bool) {
	hosts := []string{h.name}
	for _, directory := range socketDirectories {
		if h.name == directory {
			hosts = append(hosts, "localhost")
		}
	}
	for line := range strings.Lines(data) {
		line = strings.TrimRight(line, "\r\n")
		if line == "" || line[0] == '#' {
			continue
		}
		for _, name := range hosts {
			rest := line
			if matchField(&rest, name) &&
				matchField(&rest, strconv.Itoa(int(h.port))) &&
				matchField(&rest, database) &&
				matchField(&rest, user) {
				return unescapePassword(rest), true
			}
		}
	}
	return "", false
}

// matchField takes one field off the line and compares it.
func matchField(line *string, want string) bool {
	if rest, ok := strings.CutPrefix(*line, "*:"); ok {
		*line = rest
		return true
	}
	var field strings.Builder
	for i := 0; i < len(*line); i++ {
		switch c := (*line)[i]; c {
		case ':':
			*line = (*line)[i+1:]
			return field.String() == want
		case '\\':
			if i++; i < len(*line) {
				field.WriteByte((*line)[i])
			}
		default:
			field.WriteByte(c)
		}
	}
	return false
}

// unescapePassword reads the last field, which ends at the end of the line or
// at a colon that is not escaped.
func unescapePassword(text string) string {
	var b strings.Builder
	for i := 0; i < len(text) && text[i] != ':'; i++ {
		if text[i] == '\\' && i+1 < len(text) {
			i++
		}
		b.WriteByte(text[i])
	}
	return b.String()
}
