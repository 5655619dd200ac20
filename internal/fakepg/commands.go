package fakepg

import (
	"fmt"
	"strconv"
	"strings"
)

// command answers one simple query.
func (c *Conn) command(text string) error {
	s := c.server
	s.update(func() { s.commands = append(s.commands, text) })
	if s.config.Command != nil {
		if handled, err := s.config.Command(c, text); handled || err != nil {
			return err
		}
	}
	if strings.HasPrefix(text, "BASE_BACKUP (") && s.major >= 15 && c.replication() {
		return c.baseBackup() // its options hold strings, which tokens does not know
	}
	words, ok := tokens(text)
	if !ok || len(words) == 0 {
		return c.Fail(Error{Code: "42601", Message: "syntax error"})
	}
	switch keyword, arguments := words[0], words[1:]; {
	case keyword.is("SHOW"):
		return c.show(arguments)
	case !c.replication():
		return c.Fail(Error{Code: "42601", Message: "syntax error at or near " + strconv.Quote(keyword.text)})
	case keyword.is("IDENTIFY_SYSTEM"):
		return c.identifySystem()
	case keyword.is("TIMELINE_HISTORY"):
		return c.timelineHistory(arguments)
	case keyword.is("START_REPLICATION"):
		return c.startReplication(arguments)
	case keyword.is("CREATE_REPLICATION_SLOT"):
		return c.createSlot(arguments)
	case keyword.is("DROP_REPLICATION_SLOT"):
		return c.dropSlot(arguments)
	case keyword.is("READ_REPLICATION_SLOT") && s.major >= 15:
		return c.readSlot(arguments)
	default:
		return c.Fail(Error{Code: "0A000", Message: "cannot execute SQL commands in WAL sender for physical replication"})
	}
}

// replication tells whether the connection is one of a walsender.
func (c *Conn) replication() bool {
	switch c.parameters["replication"] {
	case "true", "on", "yes", "1", "database":
		return true
	}
	return false
}

func (c *Conn) show(arguments []token) error {
	if len(arguments) != 1 {
		return c.syntaxError()
	}
	name := arguments[0].text
	value, ok := c.server.parameters()[name]
	if !ok {
		return c.Fail(Error{Code: "42704", Message: fmt.Sprintf("unrecognized configuration parameter %q", name)})
	}
	return c.oneRow("SHOW", []string{name}, &value)
}

func (c *Conn) oneRow(tag string, columns []string, values ...*string) error {
	if err := c.Rows(columns, values); err != nil {
		return err
	}
	return c.Complete(tag)
}

func (c *Conn) syntaxError() error {
	return c.Fail(Error{Code: "42601", Message: "syntax error"})
}

func (c *Conn) identifySystem() error {
	s := c.server
	s.mu.Lock()
	timeline, end := s.timeline, s.end
	s.mu.Unlock()
	var database *string
	if c.parameters["replication"] == "database" {
		database = Text("%s", c.parameters["database"])
	}
	return c.oneRow("IDENTIFY_SYSTEM", []string{"systemid", "timeline", "xlogpos", "dbname"},
		Text("%d", s.config.SystemID), Text("%d", timeline), Text("%s", FormatLSN(end)), database)
}

func (c *Conn) timelineHistory(arguments []token) error {
	if len(arguments) != 1 {
		return c.syntaxError()
	}
	timeline, err := strconv.ParseUint(arguments[0].text, 10, 32)
	if err != nil || timeline == 0 {
		return c.syntaxError()
	}
	name, content, ok := c.server.HistoryFile(uint32(timeline))
	columns := []string{"filename", "content"}
	if !ok {
		// The row description is out before the file is opened.
		if err := c.Rows(columns); err != nil {
			return err
		}
		return c.Fail(Error{Code: "58P01", Message: fmt.Sprintf("could not open file \"pg_wal/%s\": No such file or directory", name)})
	}
	return c.oneRow("TIMELINE_HISTORY", columns, &name, &content)
}

// startReplication reads START_REPLICATION [SLOT "name"] [PHYSICAL] X/X
// [TIMELINE n].
func (c *Conn) startReplication(arguments []token) error {
	slot := ""
	if len(arguments) >= 2 && arguments[0].is("SLOT") {
		slot = arguments[1].text
		arguments = arguments[2:]
	}
	if len(arguments) >= 1 && arguments[0].is("PHYSICAL") {
		arguments = arguments[1:]
	}
	if len(arguments) != 1 && len(arguments) != 3 {
		return c.syntaxError()
	}
	start, err := parseLSN(arguments[0].text)
	if err != nil {
		return c.syntaxError()
	}
	timeline := c.server.Timeline()
	if len(arguments) == 3 {
		number, err := strconv.ParseUint(arguments[2].text, 10, 32)
		if err != nil || number == 0 || !arguments[1].is("TIMELINE") {
			return c.syntaxError()
		}
		timeline = uint32(number)
	}
	if slot != "" {
		if refusal := c.acquire(slot); refusal != nil {
			return c.Fail(*refusal)
		}
		defer c.release()
	}
	return c.start(timeline, start)
}

// token is a word of a command, a quoted identifier or a sign.
type token struct {
	text   string
	quoted bool
}

// is tells whether the token is a keyword, which PostgreSQL's replication
// grammar knows in upper case only.
func (t token) is(keyword string) bool { return !t.quoted && t.text == keyword }

// tokens splits a command. It reports false for an unterminated quote or an
// identifier that begins with a digit without quotes.
func tokens(text string) ([]token, bool) {
	var out []token
	for text = strings.TrimLeft(text, " \t\r\n"); text != ""; text = strings.TrimLeft(text, " \t\r\n") {
		switch {
		case text[0] == '"':
			name, rest, ok := quoted(text[1:])
			if !ok {
				return nil, false
			}
			out = append(out, token{name, true})
			text = rest
		case strings.ContainsRune("(),;", rune(text[0])):
			if text[0] != ';' {
				out = append(out, token{text: text[:1]})
			}
			text = text[1:]
		default:
			n := strings.IndexAny(text, " \t\r\n(),;\"")
			if n < 0 {
				n = len(text)
			}
			out = append(out, token{text: text[:n]})
			text = text[n:]
		}
	}
	return out, true
}

// quoted reads a quoted identifier whose opening quote was read.
func quoted(text string) (name, rest string, ok bool) {
	var b strings.Builder
	for {
		i := strings.IndexByte(text, '"')
		if i < 0 {
			return "", "", false
		}
		b.WriteString(text[:i])
		text = text[i+1:]
		if !strings.HasPrefix(text, `"`) {
			return b.String(), text, true
		}
		b.WriteByte('"')
		text = text[1:]
	}
}
