package integration

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/walrecv/walrecv/internal/docs"
	"github.com/walrecv/walrecv/internal/pgtest"
)

// TestDocumentedCommands runs every command that the documentation shows, page by
// page, from top to bottom. What cannot be run says where it belongs, in its fence;
// of that, options are checked by a test of cmd/walrecv.
func TestDocumentedCommands(t *testing.T) {
	t.Parallel()
	pages, err := docs.Pages(pgtest.ModuleRoot(t))
	if err != nil {
		t.Fatal(err)
	}
	// They wait more than they work: so several together take the place of one test.
	var running errgroup.Group
	running.SetLimit(4)
	for _, p := range pages {
		if !slices.ContainsFunc(p.Blocks, runs) {
			continue
		}
		running.Go(func() error {
			t.Run(p.Path, func(t *testing.T) {
				worldOf, special := worlds[p.Path]
				if !special {
					worldOf = streaming
				}
				runPage(worldOf(t), p)
			})
			return nil
		})
	}
	_ = running.Wait()
}

// runs tells whether a test runs what stands in a fence.
func runs(b docs.Block) bool {
	return b.Place == "" && (b.Kind == "sh" || b.Kind == "console" || b.Kind == "sql" || b.Kind == "conf")
}

func runPage(w *world, p docs.Page) {
	w.t.Helper()
	for _, b := range p.Blocks {
		if b.Kind == "toml" {
			w.write("/etc/walrecv/main.toml", b.Text) // in which every page has it
		}
		if !runs(b) {
			continue
		}
		for words, happens := range w.before {
			if strings.Contains(b.Text, words) {
				delete(w.before, words)
				happens()
			}
		}
		switch b.Kind {
		case "sh":
			for _, script := range scripts(b.Text) {
				if isReceiver(script) {
					w.receive(strings.TrimSpace(script))
					continue
				}
				if code, output := w.try(script); code != 0 {
					w.t.Fatalf("%s: this ended with %d:\n%s\n%s", b.Where, code, script, output)
				}
			}
		case "console":
			for _, call := range dialogue(b.Text) {
				code, output, missing := 0, "", ""
				says := func() bool {
					code, output = w.try(call.command)
					missing = unsaid(call.output, output)
					return missing == ""
				}
				// What a server says of itself may take it a moment.
				for end := time.Now().Add(patience); !says() && strings.HasPrefix(call.command, "psql ") && time.Now().Before(end); {
					time.Sleep(100 * time.Millisecond)
				}
				if missing != "" {
					w.t.Fatalf("%s: $ %s\nThe page has %q, and this was said:\n%s", b.Where, call.command, missing, output)
				}
				if code != 0 && call.output == "" {
					w.t.Fatalf("%s: $ %s\nThis ended with %d:\n%s", b.Where, call.command, code, output)
				}
			}
		case "sql":
			w.write("/tmp/page.sql", b.Text)
			if code, output := w.try("psql -qX -v ON_ERROR_STOP=1 -d postgres -f /tmp/page.sql"); code != 0 {
				w.t.Fatalf("%s: %s", b.Where, output)
			}
		case "conf":
			w.takes(b)
		}
	}
	for words := range w.before {
		w.t.Errorf("no fence of %s has %q", p.Path, words)
	}
	if w.proof != nil {
		w.proof()
	}
}

// takes gives a server settings of a page: it has to start with them.
func (w *world) takes(b docs.Block) {
	w.t.Helper()
	c := w.hosts["db1"]
	w.write("/tmp/page.conf", b.Text)
	code, output := w.try(fmt.Sprintf("cat %s/postgresql.conf /tmp/page.conf >/tmp/both.conf; postgres -D %s -c config_file=/tmp/both.conf -C restore_command", c.DataDir, c.DataDir))
	if code != 0 {
		w.t.Fatalf("%s: the server does not take this:\n%s\n%s", b.Where, b.Text, output)
	}
}

// receiverCommand is the beginning of a command that goes on until it is stopped.
var receiverCommand = regexp.MustCompile(`^(sudo -u \w+ )?walrecv receive\b`)

func isReceiver(script string) bool {
	return receiverCommand.MatchString(script) && !strings.Contains(script, "--endpos")
}

// scripts cuts lines of a shell before and behind every receiver.
func scripts(text string) (found []string) {
	var b strings.Builder
	end := func() {
		if strings.TrimSpace(b.String()) != "" {
			found = append(found, b.String())
		}
		b.Reset()
	}
	inside := false // a receiver
	for line := range strings.Lines(text) {
		if receiverCommand.MatchString(line) {
			end()
			inside = true
		}
		b.WriteString(line)
		if inside && !strings.HasSuffix(strings.TrimSpace(line), `\`) {
			end()
			inside = false
		}
	}
	end()
	return found
}

// exchange is a command on a terminal, and what it says.
type exchange struct{ command, output string }

func dialogue(text string) (calls []exchange) {
	more := false
	for line := range strings.Lines(text) {
		rest, command := strings.CutPrefix(line, "$ ")
		switch {
		case command:
			calls = append(calls, exchange{command: rest})
		case more:
			calls[len(calls)-1].command += strings.TrimPrefix(line, "> ")
		case len(calls) > 0:
			calls[len(calls)-1].output += line
		}
		more = (command || more) && strings.HasSuffix(strings.TrimSpace(line), `\`)
	}
	return calls
}

// unsaid returns a line that the page shows and the command has not said, in this
// order. Numbers, times, sizes and identifiers differ from call to call. Three dots
// stand for any lines, or for the end of one.
func unsaid(page, said string) string {
	lines := strings.Split(said, "\n")
	for line := range strings.Lines(page) {
		want, open := strings.CutSuffix(shape(line), "...")
		if want == "" {
			continue
		}
		for len(lines) > 0 && shape(lines[0]) != want && !(open && strings.HasPrefix(shape(lines[0]), want)) {
			lines = lines[1:]
		}
		if len(lines) == 0 {
			return strings.TrimSpace(line)
		}
		lines = lines[1:]
	}
	return ""
}

var (
	numberWord = regexp.MustCompile(`[\w./:+-]*\d[\w./:+-]*`)
	sizeWord   = regexp.MustCompile(`# (B|[kMGT]B)\b`)
)

// shape is a line without what differs from call to call.
func shape(line string) string {
	line = sizeWord.ReplaceAllString(numberWord.ReplaceAllString(line, "#"), "# B")
	return strings.Join(strings.Fields(line), " ")
}
