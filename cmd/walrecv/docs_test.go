package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/walrecv/walrecv/internal/docs"
)

// kindsOfBlocks are what a fence can be, and what is checked of it here. Commands
// are run elsewhere (integration/docs_test.go).
var kindsOfBlocks = map[string]func(docs.Block) error{
	"sh":      checkCommands,
	"console": func(b docs.Block) error { return checkCalls(consoleCommands(b.Text), true) },
	"usage":   func(b docs.Block) error { return checkCalls(synopsis(b.Text), false) },
	"crontab": checkCommands,
	"ini":     checkCommands,
	"yaml":    nothingToCheck,
	"conf":    checkCommands, // a server takes it, too
	"toml":    checkTOML,
	"json":    checkJSON,
	"sql":     nothingToCheck, // a server runs it
	"promql":  nothingToCheck, // promtool has tests of its own
	"text":    checkPlain,
}

// placesOfBlocks are where the commands of a fence have to be run by people, because
// a test does not have such a machine. That no command hides in one of them is up to who
// reads the change.
var placesOfBlocks = []string{"", "debian", "rpm", "systemd", "container", "kubernetes", "source"}

func readDocs(t *testing.T) []docs.Page {
	t.Helper()
	pages, err := docs.Pages("../..")
	if err != nil {
		t.Fatal(err)
	}
	return pages
}

// TestDocumentation checks what the documentation shows: that every fence says
// what it is, that options and commands exist and values are taken, that
// configuration files load.
func TestDocumentation(t *testing.T) {
	pages := readDocs(t)
	if len(pages) < 10 {
		t.Fatalf("only %d pages", len(pages))
	}
	for _, p := range pages {
		for _, b := range p.Blocks {
			if err := checkBlock(b); err != nil {
				t.Errorf("%s: %v", b.Where, err)
			}
		}
		for _, s := range p.Spans {
			if err := checkSpan(s.Text); err != nil {
				t.Errorf("%s: `%s`: %v", s.Where, s.Text, err)
			}
		}
	}
}

func checkBlock(b docs.Block) error {
	check, known := kindsOfBlocks[b.Kind]
	if !known {
		return fmt.Errorf("a fence must say what it is: ```sh for commands, which a test runs; ```text for what is only shown; see kindsOfBlocks (it says %q; indented blocks say nothing)", b.Kind)
	}
	if !slices.Contains(placesOfBlocks, b.Place) {
		return fmt.Errorf("nobody knows the place %q; see placesOfBlocks", b.Place)
	}
	if b.Place == "source" {
		return checkTargets(b)
	}
	return check(b)
}

// checkTargets checks that the Makefile has what is to be made.
func checkTargets(b docs.Block) error {
	makefile, err := os.ReadFile("../../Makefile")
	if err != nil {
		return err
	}
	for line := range strings.Lines(b.Text) {
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(line)
		for i, word := range words {
			if words[0] == "make" && i > 0 && !strings.Contains(word, "=") && !strings.Contains(string(makefile), "\n"+word+":") {
				return fmt.Errorf("make knows no %s", word)
			}
		}
	}
	return nil
}

func nothingToCheck(docs.Block) error { return nil }

func checkCommands(b docs.Block) error { return checkCalls(b.Text, true) }

// checkPlain refuses commands that nobody would run.
func checkPlain(b docs.Block) error {
	for line := range strings.Lines(b.Text) {
		if strings.HasPrefix(line, "$ ") || strings.HasPrefix(line, "walrecv ") {
			return fmt.Errorf("%q looks like a command: use ```sh, ```console or ```usage", strings.TrimSpace(line))
		}
	}
	return nil
}

func checkJSON(b docs.Block) error {
	text := b.Text
	if strings.HasPrefix(text, `"`) { // members of an object
		text = "{" + text + "}"
	}
	d := json.NewDecoder(strings.NewReader(strings.NewReplacer("{...}", "{}", ",...", "").Replace(text)))
	for {
		var value any
		if err := d.Decode(&value); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// checkTOML loads a configuration file for every command.
func checkTOML(b docs.Block) (err error) {
	dir, err := os.MkdirTemp("", "walrecv-docs-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	file := filepath.Join(dir, "walrecv.toml")
	if err := os.WriteFile(file, []byte(b.Text), 0o600); err != nil {
		return err
	}
	a := newTestApp(nil, io.Discard, io.Discard)
	for name, cmd := range workers(a.newRoot()) {
		if err := cmd.ParseFlags([]string{"--config", file}); err != nil {
			return err
		}
		if err := loadConfig(cmd, nil, a.newRoot); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// consoleCommands are the commands of what stands on a terminal.
func consoleCommands(text string) string {
	var commands strings.Builder
	more := false
	for line := range strings.Lines(text) {
		rest, command := strings.CutPrefix(line, "$ ")
		if command || more {
			commands.WriteString(strings.TrimPrefix(rest, "> "))
			more = strings.HasSuffix(strings.TrimSpace(line), `\`)
		}
	}
	return commands.String()
}

// synopsis makes a command line of a synopsis.
func synopsis(text string) string {
	return strings.ReplaceAll(regexp.MustCompile(`[\[\]()|]|\.\.\.`).ReplaceAllString(text, " "), "\n ", " ")
}

var option = regexp.MustCompile(`^--[a-z][a-z0-9-]+`)

// notCalls are names that begin as a call does.
var notCalls = []string{"walrecv base backup", "walrecv digest key"}

// checkSpan checks code within a line: a command, or an option.
func checkSpan(text string) error {
	if strings.HasPrefix(text, "walrecv ") && !slices.Contains(notCalls, text) {
		return checkCalls(synopsis(text), false)
	}
	name := option.FindString(text)
	if name == "" {
		return nil
	}
	found := false
	note := func(f *pflag.Flag) {
		found = found || f.Name == name[2:] || strings.HasSuffix(name, "-") && strings.HasPrefix(f.Name, name[2:])
	}
	var look func(*cobra.Command)
	look = func(c *cobra.Command) {
		c.Flags().VisitAll(note)
		c.PersistentFlags().VisitAll(note)
		for _, child := range c.Commands() {
			look(child)
		}
	}
	look(newTestApp(nil, io.Discard, io.Discard).newRoot())
	if !found {
		return errors.New("no command has this option")
	}
	return nil
}

// checkCalls checks every call of walrecv in a text; with values, also what its
// options and arguments are.
func checkCalls(text string, values bool) error {
	for _, words := range calls(text) {
		if err := checkCall(words, values); err != nil {
			return fmt.Errorf("walrecv %s: %w", strings.Join(words, " "), err)
		}
	}
	return nil
}

func checkCall(words []string, values bool) error {
	root := newTestApp(nil, io.Discard, io.Discard).newRoot()
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	cmd, args, err := root.Find(words)
	switch {
	case err != nil:
		return err
	case cmd == root && len(words) > 0 && !strings.HasPrefix(words[0], "-") && words[0] != "COMMAND":
		return errors.New("there is no such command")
	case cmd == root:
		return nil
	}
	cmd.InitDefaultHelpFlag()
	if !values || slices.Contains(args, "...") {
		return checkOptions(cmd, args)
	}
	if err := cmd.ParseFlags(args); err != nil {
		return err
	}
	return cmd.ValidateArgs(cmd.Flags().Args())
}

// checkOptions checks that a command has the options, and not what they are given.
func checkOptions(cmd *cobra.Command, words []string) error {
	for _, w := range words {
		name, _, _ := strings.Cut(w, "=")
		switch {
		case w == "--target-": // all of those
		case strings.HasPrefix(w, "--"):
			if cmd.Flag(name[2:]) == nil {
				return fmt.Errorf("there is no option %s", name)
			}
		case len(w) > 1 && w[0] == '-':
			if cmd.Flags().ShorthandLookup(w[1:2]) == nil {
				return fmt.Errorf("there is no option %s", w[:2])
			}
		}
	}
	return nil
}

// calls finds the calls of walrecv in lines of a shell, or in a line of a
// configuration that has them in quotes, and returns their words.
func calls(text string) (found [][]string) {
	var call []string
	calling := false
	end := func() {
		if calling {
			found = append(found, call)
		}
		call, calling = nil, false
	}
	for _, w := range shellWords(text) {
		switch {
		case w.operator:
			end()
		case calling:
			call = append(call, w.text)
		case w.text == "walrecv" || strings.HasSuffix(w.text, "bin/walrecv"):
			calling = true
		case strings.Contains(w.text, "walrecv "):
			found = append(found, calls(w.text)...)
		}
	}
	end()
	return found
}

type shellWord struct {
	text     string
	operator bool // what ends a command
}

// shellWords splits lines as a shell would, as far as the documentation needs it.
func shellWords(text string) (words []shellWord) {
	var b strings.Builder
	var quote byte
	started := false
	end := func() {
		if started {
			words = append(words, shellWord{text: b.String()})
		}
		b.Reset()
		started = false
	}
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\' && quote != '\'' && i+1 < len(text):
			i++
			if text[i] != '\n' {
				b.WriteByte(text[i])
				started = true
			}
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '\'' || c == '"'):
			quote, started = c, true
		case quote == 0 && (c == ' ' || c == '\t'):
			end()
		case quote == 0 && c == '#' && !started:
			for i+1 < len(text) && text[i+1] != '\n' {
				i++
			}
		case quote == 0 && strings.IndexByte("\n;|&<>()`", c) >= 0:
			end()
			words = append(words, shellWord{operator: true})
		default:
			b.WriteByte(c)
			started = true
		}
	}
	end()
	return words
}

// TestDocumentationLinks follows the links within the documentation.
func TestDocumentationLinks(t *testing.T) {
	pages := readDocs(t)
	anchors := map[string]map[string]bool{}
	for _, p := range pages {
		anchors[p.Path] = p.Anchors
	}
	for _, p := range pages {
		for _, l := range p.Links {
			if strings.Contains(l.Text, "://") {
				continue
			}
			file, anchor, _ := strings.Cut(l.Text, "#")
			target := p.Path
			if file != "" {
				target = path.Join(path.Dir(p.Path), file)
			}
			if _, err := os.Stat(filepath.Join("../..", target)); err != nil {
				t.Errorf("%s: %s leads nowhere", l.Where, l.Text)
			} else if anchor != "" && !anchors[target][anchor] {
				t.Errorf("%s: %s has no heading #%s", l.Where, target, anchor)
			}
		}
	}
}

// TestDocumentationChecksFind shows that each check finds what it is for.
func TestDocumentationChecksFind(t *testing.T) {
	block := func(kind, place, text string) docs.Block {
		return docs.Block{Span: docs.Span{Text: text}, Kind: kind, Place: place}
	}
	for _, c := range []struct {
		b    docs.Block
		want string
	}{
		{block("", "", "x"), "must say what it is"},
		{block("sh", "moon", "x"), `the place "moon"`},
		{block("sh", "source", "make build bogus"), "make knows no bogus"},
		{block("sh", "source", "make build ROUNDS=3  # all"), ""},
		{block("sh", "", "walrecv receive -D x \\\n  --bogus"), "unknown flag: --bogus"},
		{block("sh", "systemd", "/usr/bin/walrecv reciv"), "no such command"},
		{block("sh", "", "sudo -u postgres walrecv receive --upload-workers 0"), "invalid number"},
		{block("sh", "", "walrecv status --archive /a # --bogus\nwalrecv status --archive /b"), ""},
		{block("sh", "", "walrecv status here"), "too many command-line arguments"},
		{block("conf", "", `restore_command = 'a; walrecv restore --bogus %f %p'`), "unknown flag"},
		{block("conf", "", `restore_command = 'walrecv restore --archive "s3://wal/x?region=b&profile=d" %f'`), "is missing"},
		{block("ini", "", "[Service]\nExecStart=/usr/bin/walrecv drill --bogus"), "unknown flag"},
		{block("console", "", "$ walrecv status --archive /x\nwalrecv --bogus"), ""},
		{block("console", "", "$ walrecv status \\\n> --bogus"), "unknown flag"},
		{block("usage", "", "walrecv prune (--window D | --bogus N)\n   [--yes]"), "no option --bogus"},
		{block("usage", "", "walrecv prune (--window D | --keep-backups N)\n   [--yes]"), ""},
		{block("text", "", "a\n$ walrecv status"), "looks like a command"},
		{block("toml", "", "[receive]\nbogus = 1"), "unknown key"},
		{block("toml", "", "archive = \"/a\"\n[receive]\nsynchronous = true"), ""},
		{block("json", "", `{"a": 1`), "unexpected EOF"},
	} {
		err := checkBlock(c.b)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("```%s %s\n%s\n: %v, want %q", c.b.Kind, c.b.Place, c.b.Text, err, c.want)
		}
	}
	for span, want := range map[string]string{
		"walrecv prune --bogus": "no option --bogus", "walrecv bogus": "no such command", "--bogus": "no command has",
		"--window 7d": "", "walrecv prune --window 7d": "", "docker run --init": "",
	} {
		err := checkSpan(span)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("`%s`: %v, want %q", span, err, want)
		}
	}
}
