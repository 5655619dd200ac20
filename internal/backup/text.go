package backup

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/walrecv/walrecv/segment"
)

// Text writes the report for people.
func (r *Report) Text(w io.Writer) error {
	if len(r.Backups) == 0 {
		_, err := fmt.Fprintln(w, "There is no base backup in the archive.")
		return err
	}
	tabs := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	write := func(cells ...any) error {
		words := make([]string, len(cells))
		for i, c := range cells {
			words[i] = cell(c)
		}
		_, err := io.WriteString(tabs, strings.Join(words, "\t")+"\n")
		return err
	}
	err := write("BACKUP", "STATE", "STARTED", "TOOK", "TIMELINE", "START", "END", "SIZE", "STORED", "OF", "WAL", "LABEL")
	for i := range r.Backups {
		l := &r.Backups[i]
		if err == nil {
			err = write(l.ID, l.State, l.Started, l.took(), l.timelines(), l.StartLSN, l.EndLSN, size(l.PlainSize), size(l.Stored), l.From, l.WAL.words(), l.Label)
		}
	}
	if err == nil {
		err = tabs.Flush()
	}
	for _, l := range r.Backups {
		if what := l.wrong(); what != "" && err == nil {
			_, err = fmt.Fprintf(w, "%s: %s\n", l.ID, cell(what))
		}
	}
	return err
}

// took is how long the backup took.
func (l *Line) took() string {
	if l.Finished.IsZero() {
		return ""
	}
	return l.Finished.Sub(l.Started).Round(time.Second).String()
}

// timelines is that of the start, and that of the end if it is another one.
func (l *Line) timelines() string {
	switch {
	case l.Timeline == 0:
		return ""
	case l.EndTimeline == 0 || l.EndTimeline == l.Timeline:
		return strconv.FormatUint(uint64(l.Timeline), 10)
	}
	return fmt.Sprintf("%d, %d", uint32(l.Timeline), uint32(l.EndTimeline))
}

// wrong says what is wrong with the backup.
func (l *Line) wrong() string {
	if l.Damage == "" && l.WAL != nil {
		return l.WAL.Problem
	}
	return l.Damage
}

// size gives a number of bytes to three digits.
func size(bytes int64) string {
	if bytes == 0 {
		return ""
	}
	value, unit := float64(bytes), "B"
	for _, larger := range []string{"kB", "MB", "GB", "TB"} {
		if value < 1000 {
			break
		}
		value, unit = value/1024, larger
	}
	if unit == "B" {
		return fmt.Sprintf("%d B", bytes)
	}
	return strconv.FormatFloat(value, 'f', max(0, 2-max(0, len(strconv.Itoa(int(value)))-1)), 64) + " " + unit
}

// cell is a value as it stands in a table: what is not there is a dash, and what
// could play tricks on a terminal is quoted.
func cell(value any) string {
	text := fmt.Sprint(value)
	switch v := value.(type) {
	case time.Time:
		if text = ""; !v.IsZero() {
			text = v.UTC().Format("2006-01-02 15:04:05 UTC")
		}
	case segment.LSN:
		if v == 0 {
			text = ""
		}
	}
	switch {
	case strings.ContainsFunc(text, func(r rune) bool { return !strconv.IsPrint(r) }):
		return strconv.Quote(text)
	case text == "":
		return "-"
	}
	return text
}
