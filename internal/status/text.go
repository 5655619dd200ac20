package status

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/walrecv/walrecv/segment"
)

// most is how many lines a table for people has. JSON has them all.
const most = 20

// Text writes the report for people.
func (r *Report) Text(w io.Writer) error {
	t := &texter{tabs: tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)}
	t.head(r)
	t.timelines(r)
	t.ranges(r)
	t.gaps(r)
	t.marks(r)
	t.windows(r)
	t.backups(r)
	t.restorePoints(r)
	t.problems(r)
	if err := t.tabs.Flush(); t.err == nil {
		t.err = err
	}
	return t.err
}

// texter writes lines of which the cells are aligned. A blank line ends a table.
type texter struct {
	tabs *tabwriter.Writer
	err  error
}

func (t *texter) line(cells ...any) {
	words := make([]string, len(cells))
	for i, c := range cells {
		words[i] = cell(c)
	}
	if _, err := io.WriteString(t.tabs, strings.Join(words, "\t")+"\n"); err != nil && t.err == nil {
		t.err = err
	}
}

// table begins a table.
func (t *texter) table(heads ...any) {
	t.line()
	t.line(heads...)
}

// more says how many lines of a table were left out.
func (t *texter) more(all int) {
	if all > most {
		t.line(fmt.Sprintf("... and %d more; --json lists all", all-most))
	}
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
	if strings.ContainsFunc(text, func(r rune) bool { return !strconv.IsPrint(r) }) {
		return strconv.Quote(text)
	}
	if text == "" {
		return "-"
	}
	return text
}

func (t *texter) head(r *Report) {
	t.line("archive", r.Archive)
	t.line("cluster", fmt.Sprintf("%s, PostgreSQL %d, segments of %s", r.SystemID, r.Major, segment.Size(r.SegmentSize)))
	t.line("segments", r.Segments.words())
	if r.Timeline != 0 {
		t.line("timeline", r.Timeline)
	}
	t.recoverable(r)
	if r.Window != nil && !r.Window.FirstCommit.IsZero() {
		t.line("commits", fmt.Sprintf("%s to %s", cell(r.Window.FirstCommit), cell(r.Window.LastCommit)))
	}
	t.drill(r)
}

// words says what was counted.
func (c Counts) words() string {
	text := strconv.Itoa(c.Total)
	var parts []string
	for _, part := range []struct {
		n    int
		what string
	}{{c.Verified, "verified"}, {c.Unverified, "not verified"}, {c.Faulty, "not sound"}, {c.Unreadable, "unreadable"}, {c.Encrypted, "encrypted"}} {
		if part.n > 0 && part.n == c.Total {
			parts = append(parts, part.what)
		} else if part.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", part.n, part.what))
		}
	}
	if len(parts) > 0 {
		text += " (" + strings.Join(parts, ", ") + ")"
	}
	return text
}

func (t *texter) timelines(r *Report) {
	if len(r.Timelines) == 0 {
		return
	}
	t.table("TIMELINE", "PARENT", "FORK", "HISTORY", "SEGMENTS", "VERIFIED", "PARTIALS", "TAIL UP TO", "FIRST COMMIT", "LAST COMMIT")
	for _, l := range r.Timelines {
		parent := ""
		if l.Parent != 0 {
			parent = strconv.FormatUint(uint64(l.Parent), 10)
		}
		tail := ""
		if l.Tail != nil {
			tail = l.Tail.End.String()
		}
		t.line(l.Timeline, parent, l.Fork, l.History, l.Segments.Total, l.Segments.Verified, l.Partials, tail, l.FirstCommit, l.LastCommit)
	}
}

func (t *texter) ranges(r *Report) {
	all := 0
	for _, l := range r.Timelines {
		for _, s := range l.Ranges {
			if all++; all == 1 {
				t.table("TIMELINE", "FIRST SEGMENT", "LAST SEGMENT", "FROM", "TO", "SEGMENTS")
			}
			if all <= most {
				t.line(l.Timeline, s.First, s.Last, s.Start, s.End, s.Segments)
			}
		}
	}
	t.more(all)
}

func (t *texter) gaps(r *Report) {
	if len(r.Gaps) == 0 {
		return
	}
	t.table("GAP ON", "FROM", "TO", "SEGMENTS", "ACCEPTED", "FOUND", "REASON")
	for _, g := range r.Gaps[:min(len(r.Gaps), most)] {
		accepted := "no"
		switch {
		case g.Accepted:
			accepted = "yes"
		case g.Arriving:
			accepted = "arriving"
		}
		t.line(g.Timeline, g.Start, g.End, g.Segments, accepted, g.Found, g.Reason)
	}
	t.more(len(r.Gaps))
}

func (t *texter) marks(r *Report) {
	if len(r.Marks) == 0 {
		return
	}
	t.table("DAMAGE IN", "AT", "SOUND UNTIL", "FOUND", "NOW", "REASON")
	for _, m := range r.Marks[:min(len(r.Marks), most)] {
		now := "damaged"
		if m.Cleared {
			now = "sound"
		}
		t.line(m.Segment, m.LSN, m.SoundUntil, m.Found, now, m.Reason)
	}
	t.more(len(r.Marks))
}

// restorePoints shows the newest ones.
func (t *texter) restorePoints(r *Report) {
	if len(r.RestorePoints) == 0 {
		return
	}
	t.table("RESTORE POINT", "LSN", "TIME", "TIMELINE", "RECOVERABLE")
	for _, p := range r.RestorePoints[max(0, len(r.RestorePoints)-most):] {
		recoverable := "no"
		switch {
		case p.Recoverable:
			recoverable = "yes"
		case p.InWindow:
			recoverable = "with a base backup from before it"
		}
		t.line(p.Name, p.LSN, p.Time, p.Timeline, recoverable)
	}
	t.more(len(r.RestorePoints))
	if r.MoreRestorePoints > 0 {
		t.line(fmt.Sprintf("and %d of which the archive does not know the names", r.MoreRestorePoints))
	}
}

func (t *texter) problems(r *Report) {
	t.line()
	if len(r.Problems) == 0 {
		t.line("Nothing is known to be wrong; walrecv verify reads everything and makes sure.")
		return
	}
	t.line("Wrong:")
	for _, p := range r.Problems[:min(len(r.Problems), most)] {
		t.line("  - " + cell(p.What))
		t.line("    " + p.Do)
	}
	t.more(len(r.Problems))
}
