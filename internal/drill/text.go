package drill

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// Text writes the report for people.
func (r *Report) Text(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", r.Verdict())
	for _, f := range r.Failures {
		fmt.Fprintf(&b, "  %s: %s\n", f.Kind, indented(f.Message, "    "))
		for _, line := range f.Log {
			fmt.Fprintf(&b, "    | %s\n", plain(line))
		}
	}
	for _, row := range r.rows() {
		fmt.Fprintf(&b, "%-12s %s\n", row.name, plain(row.value))
	}
	for _, c := range r.Checks {
		fmt.Fprintf(&b, "%-12s %s\n", "check", indented(c.text(), "             "))
	}
	for _, note := range r.Notes {
		fmt.Fprintf(&b, "%-12s %s\n", "note", plain(note))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// Verdict is what came out, in one line.
func (r *Report) Verdict() string {
	if r.Success {
		return fmt.Sprintf("restored: %s of cluster %s, in %s", r.Target.Text, r.SystemID, duration(r.Times.Restore))
	}
	return fmt.Sprintf("not proven to be restorable: cluster %s, %s", r.SystemID, r.Target.Text)
}

// row is a fact and its name.
type row struct{ name, value string }

// rows are the facts of a report, as far as they are known.
func (r *Report) rows() []row {
	rows := []row{{"archive", r.Archive}, {"started", when(r.Started)}}
	add := func(name, format string, args ...any) { rows = append(rows, row{name, fmt.Sprintf(format, args...)}) }
	if b := r.Backup; b != nil {
		add("backup", "%s, PostgreSQL %d, %s to %s, %s (%s stored)", b.ID, b.Major, b.StartLSN, b.EndLSN, size(b.PlainSize), size(b.StoredSize))
	}
	target := r.Target.Text
	if r.Target.Timeline != 0 {
		target += fmt.Sprintf(" on timeline %d", r.Target.Timeline)
	}
	if r.Target.Random {
		target += ", chosen by chance"
	}
	add("target", "%s, then %s", target, r.Target.Action)
	if at := r.Result; at != nil {
		text := at.LSN.String()
		if !at.Time.IsZero() {
			text += ", last commit " + when(at.Time)
		}
		if at.NewTimeline != 0 {
			text += fmt.Sprintf(", new timeline %d", at.NewTimeline)
		}
		add("reached", "%s", text)
	}
	return append(append(rows, r.timeRows()...), r.lossRows()...)
}

func (r *Report) timeRows() (rows []row) {
	for _, t := range []struct {
		name    string
		seconds float64
	}{{"download", r.Times.Download}, {"consistent", r.Times.Consistency}, {"replay", r.Times.Target}, {"RTO", r.Times.Restore}} {
		if t.seconds > 0 {
			rows = append(rows, row{t.name, duration(t.seconds) + timeNotes[t.name]})
		}
	}
	return append(rows, row{"whole drill", duration(r.Times.Total)})
}

// timeNotes say from when a time counts.
var timeNotes = map[string]string{
	"consistent": " after the server's start",
	"replay":     " after the server's start",
	"RTO":        " from the beginning until the server could be used",
}

func (r *Report) lossRows() []row {
	l := r.Loss
	if l == nil {
		return nil
	}
	rows := []row{{"archived", fmt.Sprintf("up to %s on timeline %d", l.ArchivedLSN, l.Timeline)}}
	if l.CommitAge != nil {
		rows = append(rows, row{"last commit", fmt.Sprintf("%s, %s before the drill", when(l.LastCommit), duration(*l.CommitAge))})
	}
	switch {
	case l.Bytes != nil:
		rows = append(rows, row{"RPO", fmt.Sprintf("%s: the server was at %s", size(*l.Bytes), l.ServerLSN)})
	case l.Problem != "":
		rows = append(rows, row{"RPO", "not known: " + l.Problem})
	}
	return rows
}

// text is a check for people.
func (c Check) text() string {
	text := c.Result + ": " + c.Name
	if c.SQL != "" {
		text += " " + c.SQL
	}
	if c.Message != "" {
		text += ": " + c.Message
	}
	if c.Seconds >= 1 {
		text += " (" + duration(c.Seconds) + ")"
	}
	return text
}

// when is a time for people; a dash if it is not known.
func when(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("2006-01-02 15:04:05 UTC")
}

// duration writes seconds in as many digits as anybody needs.
func duration(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	switch {
	case d < 10*time.Second:
		return strconv.FormatFloat(seconds, 'f', 2, 64) + " s"
	case d < 10*time.Minute:
		return strconv.FormatFloat(seconds, 'f', 0, 64) + " s"
	}
	d = d.Round(time.Second)
	return fmt.Sprintf("%d:%02d:%02d h", int(d.Hours()), int(d.Minutes())%60, int(d.Seconds())%60)
}

// size is a number of bytes for people, in three digits or so.
func size(n int64) string {
	const step = 1024
	value, units := float64(n), []string{"bytes", "kB", "MB", "GB", "TB"}
	for value >= step && len(units) > 1 {
		value, units = value/step, units[1:]
	}
	digits := 0
	if value < 10 && units[0] != "bytes" {
		digits = 1
	}
	return strconv.FormatFloat(value, 'f', digits, 64) + " " + units[0]
}

// plain is text from elsewhere, without what could play tricks on a terminal.
func plain(text string) string {
	return strings.Map(func(r rune) rune {
		if strconv.IsPrint(r) {
			return r
		}
		if r == '\n' || r == '\t' {
			return ' '
		}
		return '?'
	}, text)
}

// indented is text of several lines, of which those after the first are indented.
func indented(text, by string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	for i := range lines {
		lines[i] = plain(lines[i])
	}
	return strings.Join(lines, "\n"+by)
}
